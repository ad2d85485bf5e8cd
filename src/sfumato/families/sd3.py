"""Stable Diffusion 3.0 and 3.5 (Esser et al. 2024): a transformer that predicts a flow, and three text encoders.

3.0 medium is the plain transformer; 3.5 normalises queries and keys, and 3.5 medium has blocks with a second attention.
The prompt is read by CLIP ViT-L/14, OpenCLIP ViT-bigG/14 and T5 XXL, of which the last may be missing. 3.5 large turbo
has the names and shapes of 3.5 large. No release, but what training makes of a transformer here, reads one tower alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import Rule, Shapes, holds, rename
from sfumato.families.base import Family, Layout
from sfumato.families.layouts import depth_net, ldm_vae, open_clip, prior, sd3_mmdit, t5_text
from sfumato.families.reading import INDEX, SCHEDULER, Folder, sizes_of
from sfumato.families.towers import Tower, canonical_clip_name, with_inner_name
from sfumato.families.unet_inputs import UNET as TRANSFORMER
from sfumato.families.unet_inputs import VAE_PREFIX
from sfumato.nets.clip import CLIPText
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.prior import ScenePrior
from sfumato.nets.t5 import T5
from sfumato.nets.vae import VAE
from sfumato.spec import (
    CLIPTextConfig,
    Defaults,
    DepthNetConfig,
    MMDiTConfig,
    NoiseSchedule,
    PriorConfig,
    SkipLayers,
    Spec,
    T5Config,
    VAEConfig,
)

# Files hold T5's embedding under one of two names, or under both.
T5_TWICE = r"(text_encoders\.t5xxl\.transformer\.|text_encoder_3/)encoder\.embed_tokens\.weight"

TOWERS = (
    Tower("text", "text_encoders.clip_l.transformer.", "text_encoder/"),
    Tower("text_2", "text_encoders.clip_g.transformer.", "text_encoder_2/"),
)
IN_FILE = {
    "transformer": TRANSFORMER,
    "vae": VAE_PREFIX,
    **{tower.part: tower.original for tower in TOWERS},
    "text_3": "text_encoders.t5xxl.transformer.",
    "prior": "prior.",
    "depth": "depth_model.model.",
}
IN_FOLDER = {
    "transformer": "transformer/",
    "vae": "vae/",
    **{tower.part: tower.folder for tower in TOWERS},
    "text_3": "text_encoder_3/",
    "prior": "prior/",
    "depth": "depth_estimator/",
}
CONFIG, T5_CONFIG, T5_PREFIX = "transformer/config", "text_encoder_3/config", IN_FILE["text_3"]
TEXTS, OPTIONAL = ("text", "text_2", "text_3"), ("text_3", "depth")
TOKENS = "text_model.embeddings.token_embedding.weight"

MEDIUM = Spec(
    family="sd3_medium",
    title="Stable Diffusion 3 medium",
    transformer=MMDiTConfig(),
    vae=VAEConfig(latent_channels=16, scale=1.5305, shift=0.0609, quant_convs=False),
    # The original pools CLIP-L before its projection, diffusers after it.
    text=CLIPTextConfig(projection_dim=768, skip=2, normalised=False, pooled="plain"),
    text_2=open_clip.BIG_G,
    text_3=T5Config(),
    prediction="flow",
    noise=NoiseSchedule(shift=3.0),
    defaults=Defaults(width=1024, height=1024, steps=28, cfg=7.0, sampler="euler", schedule="discrete"),
    licence="stabilityai-ai-community",
)
MEDIUM_35 = replace(
    MEDIUM,
    family="sd35_medium",
    title="Stable Diffusion 3.5 medium",
    transformer=MMDiTConfig(positions=384, qk_norm=True, dual=tuple(range(13))),
    skip_layers=SkipLayers(layers=(7, 8, 9), scale=2.5, start=0.01, end=0.2),
    defaults=replace(MEDIUM.defaults, steps=40, cfg=4.5),
)
LARGE_35 = replace(
    MEDIUM,
    family="sd35_large",
    title="Stable Diffusion 3.5 large",
    variant="base",
    transformer=MMDiTConfig(hidden=2432, heads=38, depth=38, qk_norm=True),
    defaults=replace(MEDIUM.defaults, steps=28, cfg=3.5),
)
LARGE_TURBO_35 = replace(
    LARGE_35,
    title="Stable Diffusion 3.5 large turbo",
    variant="turbo",
    defaults=replace(MEDIUM.defaults, steps=4, cfg=1.0),
)
ONE_TEXT = replace(
    MEDIUM,
    family="sd3_one_text",
    title="Stable Diffusion 3 with one text encoder",
    transformer=MMDiTConfig(hidden=768, heads=12, depth=12, context_dim=768, pooled_dim=768, qk_norm=True),
    vae=VAEConfig(latent_channels=16),
    text=CLIPTextConfig(pooled="plain"),
    text_2=None,
    text_3=None,
    noise=NoiseSchedule(),
    licence="",
)


PRIOR = replace(
    ONE_TEXT,
    family="sd3_prior",
    title="Stable Diffusion 3 with one text encoder and a scene prior",
    transformer=MMDiTConfig(
        in_channels=32, out_channels=16, hidden=768, heads=12, depth=12, context_dim=256, pooled_dim=256, qk_norm=True
    ),
    prior=PriorConfig(concepts=4096, text_dim=768),
)
PRIOR_DEPTH = replace(
    PRIOR,
    family="sd3_prior_depth",
    title=f"{PRIOR.title}, with depth",
    transformer=replace(PRIOR.transformer or MMDiTConfig(), in_channels=33),
    depth=DepthNetConfig(),
)


def _towers(spec: Spec) -> tuple[Tower, ...]:
    return tuple(tower for tower in TOWERS if getattr(spec, tower.part) is not None)


def networks(spec: Spec) -> dict[str, nn.Module]:
    if spec.transformer is None:
        raise LookupError(f"{spec.family} has no transformer")
    texts: dict[str, nn.Module] = {tower.part: CLIPText(tower.config(spec)) for tower in _towers(spec)}
    if spec.text_3 is not None:
        texts["text_3"] = T5(spec.text_3)
    further: dict[str, nn.Module] = {} if spec.prior is None else {"prior": ScenePrior(spec.prior)}
    if spec.depth is not None:
        further["depth"] = depth_net.network(spec.depth)
    return {"transformer": MMDiT(spec.transformer), "vae": VAE(spec.vae), **texts, **further}


def original_rules(spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
    if part == "transformer" and spec.transformer is not None:
        return sd3_mmdit.rules(spec.transformer, names, TRANSFORMER)
    if part == "vae":
        return ldm_vae.rules(spec.vae, names, VAE_PREFIX)
    if part == "depth":
        return depth_net.rules(names, IN_FILE[part])
    return rename(names, lambda name: IN_FILE[part] + name)


def folder_rules(spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
    return rename(names, lambda name: IN_FOLDER[part] + name)


def folder_configs(spec: Spec) -> dict[str, diffusers_config.Config]:
    """The JSON files of a folder. Raises LookupError for a Spec of another family."""
    if spec.transformer is None:
        raise LookupError(f"{spec.family} has no transformer")
    side = spec.defaults.width
    texts = {tower.folder: diffusers_config.clip_to(tower.config(spec)) for tower in _towers(spec)}
    if spec.text_3 is not None:
        texts[IN_FOLDER["text_3"]] = diffusers_config.t5_to(spec.text_3)
    scheduler = diffusers_config.scheduler_to(spec.prediction, spec.noise, spec.defaults)
    tokenizer = ["transformers", "CLIPTokenizer"]
    return {
        INDEX: {
            "_class_name": "StableDiffusion3Pipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "scheduler": ["diffusers", scheduler["_class_name"]],
            **{IN_FOLDER[part].strip("/"): [None, None] for part in TEXTS},
            **{folder.strip("/"): ["transformers", *config["architectures"]] for folder, config in texts.items()},
            "tokenizer": tokenizer,
            "tokenizer_2": tokenizer,
            "tokenizer_3": ["transformers", "T5TokenizerFast"],
            "transformer": ["diffusers", "SD3Transformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            **({} if spec.prior is None else {"prior": ["sfumato", prior.CLASS]}),
            **({} if spec.depth is None else {"depth_estimator": ["sfumato", "DepthNet"]}),
        },
        **({} if spec.prior is None else {"prior/config": prior.config_to(spec.prior)}),
        **({} if spec.depth is None else {"depth_estimator/config": diffusers_config.depth_to(spec.depth)}),
        SCHEDULER: scheduler,
        CONFIG: diffusers_config.mmdit_to(spec.transformer, side // spec.vae.factor),
        "vae/config": diffusers_config.vae_to(spec.vae, side),
        **{f"{folder}config": config for folder, config in texts.items()},
    }


def _release_t5(release: Spec, transformer: MMDiTConfig) -> T5Config | None:
    """Returns the sizes of a T5 that would fit, for a model without T5 of a release that has one."""
    return None if release.text_3 is None else T5Config(hidden_size=transformer.context_dim)


def _with_seen(transformer: MMDiTConfig, vae: VAEConfig, defaults: Defaults, release: Spec) -> MMDiTConfig:
    """The transformer with the size of picture that it was trained on, where that was one size: beside a prior."""
    if release.prior is None:
        return transformer
    return replace(transformer, seen=defaults.width // (vae.factor * transformer.patch))


def _folder_text(tower: Tower, folder: Folder, release: Spec) -> CLIPTextConfig:
    """A tower of a folder: what is projected is so before it is pooled, unless a folder of ours says otherwise."""
    config, where = folder.read(f"{tower.folder}config")
    text = tower.from_folder(config, where, release)
    pooled = "plain" if text.projection_dim is None else "projected"
    return replace(text, pooled=config.get(diffusers_config.POOLED, pooled))


def _further(shapes: Shapes, prefix: str) -> int:
    """Returns how many channels a transformer with a prior reads besides its latents and their draft."""
    first, last = ("x_embedder.proj.weight", "final_layer.linear.bias")
    if f"{prefix}pos_embed.proj.weight" in shapes:
        first, last = "pos_embed.proj.weight", "proj_out.bias"
    _, channels, patch, _ = shapes[f"{prefix}{first}"]
    return channels - 2 * (shapes[f"{prefix}{last}"][0] // patch**2)


@dataclass(frozen=True)
class StableDiffusion3:
    """A release of the third line, as data: `family()` makes its Family.

    `in_block(q/k norms, second attention)` tells it from the others by its first block; `variants` as in Family. A
    transformer that reads one text tower alone takes its text as wide as that tower is.
    """

    release: Spec
    in_block: Callable[[bool, bool], bool]
    variants: tuple[Spec, ...] = ()

    def family(self) -> Family:
        """The Family of this release."""
        return Family(
            spec=self.release,
            networks=networks,
            layouts={"original": self._original_layout(), "diffusers": self._folder_layout()},
            denoiser="transformer",
            optional=tuple(part for part in OPTIONAL if part in self._parts(IN_FILE)),
            variants=self.variants,
        )

    def _original_layout(self) -> Layout:
        towers = _towers(self.release)
        return Layout(
            prefixes=self._parts(IN_FILE),
            recognise=self.is_original,
            spec=self.original_spec,
            rules=original_rules,
            ignored=(r".*\.position_ids", r".*\.logit_scale", T5_TWICE),
            aliases=(*(with_inner_name(tower.original) for tower in towers), (T5_TWICE, r"\1shared.weight")),
        )

    def _folder_layout(self) -> Layout:
        return Layout(
            prefixes=self._parts(IN_FOLDER),
            recognise=self.is_folder,
            spec=self.folder_spec,
            rules=folder_rules,
            ignored=(r".*\.position_ids", T5_TWICE),
            configs=folder_configs,
            tokenizers={"tokenizer": "text", "tokenizer_2": "text_2", "tokenizer_3": "text_3"},
            aliases=(
                *ldm_vae.old_attention("vae/"),
                *(with_inner_name(tower.folder) for tower in _towers(self.release)),
                (T5_TWICE, r"\1shared.weight"),
            ),
        )

    def _parts(self, prefixes: Mapping[str, str]) -> dict[str, str]:
        """The prefixes of the parts that this release has."""
        return {
            part: prefix
            for part, prefix in prefixes.items()
            if part in ("transformer", "vae") or getattr(self.release, part) is not None
        }

    def _reads(self, shapes: Shapes, prefixes: Mapping[str, str]) -> bool:
        """The file has a prior if and only if this release has one; else its transformer reads one tower alone if and
        only if this release's does."""
        has_prior = f"{IN_FILE['prior']}{prior.MARK}" in shapes or f"{IN_FOLDER['prior']}{prior.MARK}" in shapes
        if has_prior or self.release.prior is not None:
            depth = _further(shapes, prefixes["transformer"]) == 1
            return has_prior and self.release.prior is not None and depth == (self.release.depth is not None)
        taken = shapes.get(f"{prefixes['transformer']}context_embedder.weight", ())[1:]
        alone = taken == shapes.get(f"{prefixes['text']}{TOKENS}", ())[1:]
        return alone == (len(_towers(self.release)) == 1)

    def is_original(self, shapes: Shapes) -> bool:
        block = f"{TRANSFORMER}joint_blocks.0.x_block."
        own = f"{block}attn.qkv.weight" in shapes and self._reads(shapes, IN_FILE)
        return own and self.in_block(f"{block}attn.ln_q.weight" in shapes, f"{block}attn2.qkv.weight" in shapes)

    def is_folder(self, shapes: Shapes) -> bool:
        block = "transformer/transformer_blocks.0."
        own = f"{block}attn.add_q_proj.weight" in shapes and self._reads(shapes, IN_FOLDER)
        return own and self.in_block(f"{block}attn.norm_q.weight" in shapes, f"{block}attn2.to_q.weight" in shapes)

    def original_spec(self, checkpoint: Checkpoint) -> Spec:
        """The sizes of a single file, with those of the release for parts that it lacks; the rest is the release's."""
        release, towers, vae = self.release, _towers(self.release), self.release.vae
        shapes = {canonical_clip_name(name, towers): shape for name, shape in checkpoint.shapes.items()}
        with sizes_of(checkpoint, release):
            transformer = sd3_mmdit.sizes(shapes, TRANSFORMER)
            t5 = t5_text.sizes(shapes, T5_PREFIX) if holds(shapes, T5_PREFIX) else _release_t5(release, transformer)
            texts: dict[str, Any] = {
                tower.part: tower.sizes(shapes, release) for tower in towers if holds(shapes, tower.original)
            }
            if holds(shapes, VAE_PREFIX):
                sizes = ldm_vae.sizes(shapes, VAE_PREFIX)
                vae = replace(sizes, scale=vae.scale, shift=vae.shift, quant_convs=vae.quant_convs)
            if release.prior is not None:
                texts["prior"] = prior.sizes(shapes, IN_FILE["prior"])
            if release.depth is not None and holds(shapes, IN_FILE["depth"]):
                texts["depth"] = depth_net.sizes(shapes, IN_FILE["depth"])
        transformer = _with_seen(transformer, vae, release.defaults, release)
        return replace(release, transformer=transformer, vae=vae, text_3=t5, **texts)

    def folder_spec(self, checkpoint: Checkpoint) -> Spec:
        """The sizes, noise levels and defaults that a folder's JSON files state."""
        release, folder = self.release, Folder.of(checkpoint, self._parts(IN_FOLDER))
        if folder.has(CONFIG):
            transformer = diffusers_config.mmdit_from(*folder.read(CONFIG))
        else:  # a transformer alone in a file
            with sizes_of(checkpoint, release):
                transformer = sd3_mmdit.sizes(checkpoint.shapes, IN_FOLDER["transformer"], folder=True)
        vae = diffusers_config.vae_from(*folder.read("vae/config")) if "vae" in folder.parts else release.vae
        t5 = _release_t5(release, transformer)
        if "text_3" in folder.parts:
            t5 = diffusers_config.t5_from(*folder.read(T5_CONFIG))
        texts: dict[str, Any] = {
            tower.part: _folder_text(tower, folder, release) for tower in _towers(release) if tower.part in folder.parts
        }
        if release.prior is not None:
            texts["prior"] = prior.config_from(*folder.read("prior/config"))
        if release.depth is not None and folder.has("depth_estimator/config"):
            texts["depth"] = diffusers_config.depth_from(*folder.read("depth_estimator/config"))
        prediction, noise = release.prediction, release.noise
        if folder.has(SCHEDULER):
            prediction, noise = diffusers_config.scheduler_from(*folder.read(SCHEDULER))
        sized = folder.sized(release.defaults, CONFIG, release.defaults.width // vae.factor, vae.factor)
        return replace(
            release,
            transformer=_with_seen(transformer, vae, sized, release),
            vae=vae,
            text_3=t5,
            prediction=prediction,
            noise=noise,
            defaults=folder.defaults(sized),
            **texts,
        )


MEDIUM_FAMILY = StableDiffusion3(MEDIUM, lambda norms, second: not norms and not second).family()
MEDIUM_35_FAMILY = StableDiffusion3(MEDIUM_35, lambda norms, second: norms and second).family()
LARGE_35_FAMILY = StableDiffusion3(LARGE_35, lambda norms, second: norms and not second, (LARGE_TURBO_35,)).family()
ONE_TEXT_FAMILY = StableDiffusion3(ONE_TEXT, lambda norms, second: True).family()
PRIOR_FAMILY = StableDiffusion3(PRIOR, lambda norms, second: True).family()
PRIOR_DEPTH_FAMILY = StableDiffusion3(PRIOR_DEPTH, lambda norms, second: True).family()
