"""What the releases of the latent-diffusion line share: 1.x, 2.x and XL differ in sizes, text towers and habits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import Rule, Shapes, holds, rename, width
from sfumato.families.base import Family, Layout
from sfumato.families.layouts import clip_text, depth_net, ldm_schedule, ldm_unet, ldm_vae, midas, open_clip
from sfumato.families.reading import INDEX, SCHEDULER, Folder, sizes_of
from sfumato.nets.clip import CLIPText
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import CLIPTextConfig, Defaults, DepthNetConfig, DPTConfig, NoiseSchedule, Prediction, Spec

UNET, VAE_PREFIX, DEPTH = "model.diffusion_model.", "first_stage_model.", "depth_model.model."

# Both name parts of the pipeline that sfumato has no use for: a folder may lack them if it says so.
_WITHOUT = {
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
}
PIPELINE: diffusers_config.Config = {"_class_name": "StableDiffusionPipeline", **_WITHOUT}
DEPTH_PIPELINE: diffusers_config.Config = {"_class_name": "StableDiffusionDepth2ImgPipeline", **_WITHOUT}
INPAINT_PIPELINE: diffusers_config.Config = {"_class_name": "StableDiffusionInpaintPipeline", **_WITHOUT}


@dataclass(frozen=True)
class Tower:
    """A text tower of a release: `part` names its network and its field of Spec, the others where files keep it."""

    part: str
    original: str
    folder: str
    open_clip: bool = False

    def config(self, spec: Spec) -> CLIPTextConfig:
        """Its sizes in a model. Raises LookupError for a Spec without it."""
        config = getattr(spec, self.part)
        if not isinstance(config, CLIPTextConfig):
            raise LookupError(f"{spec.family} has no {self.part}")
        return config

    def sizes(self, shapes: Shapes, release: Spec) -> CLIPTextConfig:
        """Sizes from the shapes of an original file, habits from the release."""
        read, usual = (open_clip if self.open_clip else clip_text).sizes(shapes, self.original), self.config(release)
        return replace(_padded_as(usual, read), activation=usual.activation, skip=usual.skip)

    def rules(self, names: Iterable[str]) -> list[Rule]:
        if self.open_clip:
            return open_clip.rules(names, self.original)
        return rename(names, lambda name: self.original + name)

    def from_folder(self, config: diffusers_config.Config, where: str, release: Spec) -> CLIPTextConfig:
        """Sizes from a folder's JSON file, habits from the release."""
        read, usual = diffusers_config.clip_from(config, where), self.config(release)
        # 2.x folders leave out the last layer, which nothing reads: they hold what is read as the last one.
        skip = 1 if usual.normalised else usual.skip
        return replace(_padded_as(usual, read), skip=skip)

    def fit_folder(self, config: CLIPTextConfig) -> CLIPTextConfig:
        """The tower as a folder keeps it: what is read and normed is its last layer, and 2.x has no projection."""
        if not config.normalised or config.skip == 1:
            return config
        return replace(config, layers=config.layers - config.skip + 1, skip=1, projection_dim=None)

    def fit_original(self, config: CLIPTextConfig, shapes: Shapes, release: Spec) -> CLIPTextConfig:
        """The tower with the layers that follow the one that is read, as its own code builds it."""
        usual = self.config(release)
        if not config.normalised or config.skip == usual.skip:
            return config
        layers = config.layers - config.skip + usual.skip
        width = shapes.get(self.original + open_clip.PROJECTION, (0, config.hidden_size))[1]
        return replace(config, layers=layers, skip=usual.skip, projection_dim=config.projection_dim or width)


def _padded_as(usual: CLIPTextConfig, read: CLIPTextConfig) -> CLIPTextConfig:
    """What every layout leaves to the release: by what a prompt is padded and what of its states is read."""
    pad = read.eos_token_id if usual.pad_token_id == usual.eos_token_id else usual.pad_token_id
    return replace(read, normalised=usual.normalised, pooled=read.pooled or usual.pooled, pad_token_id=pad)


def inputs(shapes: Shapes) -> tuple[int, int]:
    """Channels that the U-Net of a file takes, and channels of its latents; (0, 4) where there is no U-Net."""
    first = shapes.get(f"{UNET}input_blocks.0.0.weight") or shapes.get("unet/conv_in.weight", ())
    latent = width(shapes, f"{VAE_PREFIX}post_quant_conv") or width(shapes, "vae/post_quant_conv") or 4
    return first[1] if len(first) == 4 else 0, latent


def plain(shapes: Shapes) -> bool:
    """The U-Net takes latents and nothing else."""
    taken, latent = inputs(shapes)
    return taken == latent


def inpainting(shapes: Shapes) -> bool:
    """The U-Net takes latents, a mask and the latents of the masked picture."""
    taken, latent = inputs(shapes)
    return taken == 2 * latent + 1


def told_depth(shapes: Shapes) -> bool:
    """The U-Net takes latents and the depth of every place."""
    taken, latent = inputs(shapes)
    return taken == latent + 1


def shown_picture(shapes: Shapes) -> bool:
    """The U-Net takes latents and a small picture."""
    taken, latent = inputs(shapes)
    return taken == latent + 3


def lone(shapes: Shapes, prefix: str, release: Spec) -> bool:
    """There is no text tower, and the U-Net is conditioned as the release's."""
    if holds(shapes, "cond_stage_model.", "conditioner.", "control_model.", "text_encoder"):
        return False
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    contexts = {shape[-1:] for name, shape in own.items() if name.endswith("attn2.to_k.weight")}
    vector = own.get("label_emb.0.0.weight") or own.get("add_embedding.linear_1.weight") or (release.unet.vector_dim,)
    labelled = any(name.startswith(("label_emb.", "add_embedding.", "class_embedding.")) for name in own)
    unet = release.unet
    conditioned = (unet.vector_dim or unet.classes) is not None
    return contexts == {(unet.context_dim,)} and vector[-1] == unet.vector_dim and labelled == conditioned


def latent_diffusion(
    release: Spec,
    towers: tuple[Tower, ...],
    takes: Callable[[Shapes], bool],
    original: Callable[[Shapes], bool],
    folder: Callable[[Shapes], bool],
    pipeline: diffusers_config.Config,
    buffers: Callable[[NoiseSchedule], dict[str, Tensor]] = ldm_schedule.ddpm_buffers,
    variants: tuple[Spec, ...] = (),
) -> Family:
    """The Family of a release: `original` and `folder` recognise its layouts, together with `takes`.

    `takes` is `plain`, `inpainting` or another test of what the U-Net is given. `pipeline` is what model_index.json
    says besides the parts: diffusers' class and its settings. `buffers` is what a single file says of the noise
    schedule, `variants` as in Family.
    """
    in_file = {"unet": UNET, "vae": VAE_PREFIX, **{tower.part: tower.original for tower in towers}}
    in_folder = {"unet": "unet/", "vae": "vae/", **{tower.part: tower.folder for tower in towers}}
    by_part = {tower.part: tower for tower in towers}
    if release.depth is not None:
        in_file["depth"], in_folder["depth"] = DEPTH, "depth_estimator/"

    def networks(spec: Spec) -> dict[str, nn.Module]:
        texts = {part: CLIPText(tower.config(spec)) for part, tower in by_part.items()}
        depth = {} if spec.depth is None else {"depth": depth_net.network(spec.depth)}
        return {"unet": UNet(spec.unet), "vae": VAE(spec.vae), **texts, **depth}

    def original_rules(spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
        if part == "unet":
            return ldm_unet.rules(spec.unet, names, UNET)
        if part == "depth":
            return depth_net.rules(names, DEPTH)
        return ldm_vae.rules(spec.vae, names, VAE_PREFIX) if part == "vae" else by_part[part].rules(names)

    def folder_rules(spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
        return rename(names, lambda name: in_folder[part] + name)

    def with_missing(texts: dict[str, Any], context_dim: int) -> dict[str, Any]:
        """The towers, and if one is missing that of the release, as wide as what the others leave of the context."""
        missing = [tower for tower in towers if tower.part not in texts]
        if len(missing) != 1:
            return texts
        width = context_dim - sum(text.hidden_size for text in texts.values())
        return {**texts, missing[0].part: replace(missing[0].config(release), hidden_size=width)}

    def original_spec(checkpoint: Checkpoint) -> Spec:
        """The sizes of a single file, of parts that it lacks those of the release; its habits are the release's."""
        shapes = {modern(name, towers): shape for name, shape in checkpoint.shapes.items()}
        usual = release.unet
        with sizes_of(checkpoint, release):
            texts: dict[str, Any] = {
                tower.part: tower.sizes(shapes, release) for tower in towers if holds(shapes, tower.original)
            }
            vae = ldm_vae.sizes(shapes, VAE_PREFIX) if holds(shapes, VAE_PREFIX) else release.vae
            unet = replace(ldm_unet.sizes(shapes, UNET), heads=usual.heads, head_dim=usual.head_dim)
            if usual.cross_only:
                unet = replace(unet, cross_only=(*(depth > 0 for depth in unet.depth[:-1]), False))
            return replace(
                release,
                unet=unet,
                vae=replace(vae, scale=release.vae.scale, shift=release.vae.shift, quant_convs=release.vae.quant_convs),
                depth=depth_net.sizes(shapes, DEPTH) if release.depth and holds(shapes, DEPTH) else release.depth,
                **with_missing(texts, unet.context_dim),
            )

    def folder_spec(checkpoint: Checkpoint) -> Spec:
        """The sizes and habits that a folder's JSON files state."""
        folder = Folder.of(checkpoint, in_folder)
        unet = diffusers_config.unet_from(*folder.read("unet/config"))
        vae = diffusers_config.vae_from(*folder.read("vae/config")) if folder.has("vae/config") else release.vae
        texts: dict[str, Any] = {
            tower.part: tower.from_folder(*folder.read(f"{tower.folder}config"), release)
            for tower in towers
            if folder.has(f"{tower.folder}config")
        }
        prediction, noise, variant = release.prediction, release.noise, release
        side = release.defaults.width // release.vae.factor
        advised = folder.sized(release.defaults, "unet/config", side, vae.factor)
        if folder.has(SCHEDULER):
            prediction, noise = diffusers_config.scheduler_from(*folder.read(SCHEDULER))
            advised = diffusers_config.sampling_from(*folder.read(SCHEDULER), advised)
            variant = _likest((release, *variants), prediction, advised)
        index = checkpoint.configs.get(INDEX, {})
        told, shown = "depth_estimator/config", "low_res_scheduler/scheduler_config"
        return replace(
            variant,
            unet=unet,
            vae=vae,
            prediction=prediction,
            noise=noise,
            zero_empty_negative=index.get("force_zeros_for_empty_prompt", variant.zero_empty_negative) is True,
            low_res=diffusers_config.scheduler_from(*folder.read(shown))[1] if folder.has(shown) else release.low_res,
            depth=diffusers_config.depth_from(*folder.read(told))
            if release.depth and folder.has(told)
            else release.depth,
            defaults=folder.advised(replace(advised, steps=variant.defaults.steps, cfg=variant.defaults.cfg)),
            **with_missing(texts, unet.context_dim),
        )

    def fit_original(spec: Spec, shapes: Shapes) -> Spec:
        texts: dict[str, Any] = {t.part: t.fit_original(t.config(spec), shapes, release) for t in towers}
        return replace(spec, **texts)

    def fit_folder(spec: Spec, shapes: Shapes) -> Spec:
        texts: dict[str, Any] = {tower.part: tower.fit_folder(tower.config(spec)) for tower in towers}
        return replace(spec, **texts)

    def folder_configs(spec: Spec) -> dict[str, diffusers_config.Config]:
        pixels = spec.defaults.width
        others = {tower.folder: diffusers_config.clip_to(tower.config(spec)) for tower in towers}
        if spec.depth is not None:
            others[in_folder["depth"]] = diffusers_config.depth_to(spec.depth)
        scheduler = diffusers_config.scheduler_to(spec.prediction, spec.noise, spec.defaults)
        index = {
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "scheduler": ["diffusers", scheduler["_class_name"]],
            **{folder.strip("/"): ["transformers", *config["architectures"]] for folder, config in others.items()},
            **{folder: ["transformers", "CLIPTokenizer"] for folder in tokenizers},
        }
        if isinstance(spec.depth, DepthNetConfig):
            index["depth_estimator"][0] = "sfumato"
        further: dict[str, diffusers_config.Config] = {}
        if isinstance(spec.depth, DPTConfig):
            further["feature_extractor/preprocessor_config"] = diffusers_config.dpt_processor_to(spec.depth)
        if spec.low_res is not None:
            further["low_res_scheduler/scheduler_config"] = diffusers_config.noising_to(spec.low_res)
        return {
            INDEX: {**index, **pipeline},
            SCHEDULER: scheduler,
            "unet/config": diffusers_config.unet_to(spec.unet, pixels // spec.vae.factor),
            "vae/config": diffusers_config.vae_to(spec.vae, pixels),
            **{f"{folder}config": config for folder, config in others.items()},
            **further,
        }

    tokenizers = {tower.folder.strip("/").replace("text_encoder", "tokenizer"): tower.part for tower in towers}
    hugging_face = [tower for tower in towers if not tower.open_clip]
    return Family(
        spec=release,
        variants=variants,
        optional=("depth",),  # it serves pictures of which no depth is given
        networks=networks,
        layouts={
            "original": Layout(
                prefixes=in_file,
                recognise=lambda shapes: takes(shapes) and (original(shapes) or lone(shapes, UNET, release)),
                spec=original_spec,
                rules=original_rules,
                ignored=(
                    ldm_schedule.NAMES,
                    ldm_schedule.LOW_SCALE + ldm_schedule.NAMES,
                    r"model_ema\..*",
                    r".*\.position_ids",
                    r"first_stage_model\.loss\..*",
                    _exactly(DEPTH + midas.HEAD) + "(weight|bias)",
                    *(_exactly(tower.original + open_clip.LOGIT_SCALE) for tower in towers if tower.open_clip),
                ),
                aliases=tuple(with_inner_name(tower.original) for tower in hugging_face),
                # The averaging code drops "model." and every dot of a name.
                ema=lambda name: "model_ema." + name.removeprefix("model.").replace(".", ""),
                fit=fit_original,
                buffers=lambda spec: buffers(spec.noise) | ldm_schedule.low_scale_buffers(spec.low_res),
            ),
            "diffusers": Layout(
                prefixes=in_folder,
                recognise=lambda shapes: takes(shapes) and (folder(shapes) or lone(shapes, "unet/", release)),
                spec=folder_spec,
                rules=folder_rules,
                ignored=(r".*\.position_ids", r"safety_checker/.*"),
                aliases=(
                    *ldm_vae.old_attention("vae/"),
                    *(with_inner_name(tower.folder) for tower in towers),
                ),
                fit=fit_folder,
                configs=folder_configs,
                tokenizers=tokenizers,
            ),
        },
    )


def _likest(releases: tuple[Spec, ...], prediction: Prediction, advised: Defaults) -> Spec:
    """The release with a folder's prediction and sampling, else with its prediction, else the first."""
    first, *variants = releases
    exact = [one for one in variants if one.prediction == prediction and _same_sampling(one.defaults, advised)]
    alike = [one for one in releases if one.prediction == prediction]
    return [*exact, *alike, first][0]


def _same_sampling(one: Defaults, other: Defaults) -> bool:
    return (one.width, one.sampler, one.schedule) == (other.width, other.sampler, other.schedule)


def _exactly(name: str) -> str:
    return name.replace(".", r"\.")


def with_inner_name(prefix: str) -> tuple[str, str]:
    """Some files were written by a transformers without the inner name `text_model`."""
    return rf"{_exactly(prefix)}((?!text_model\.).*)", rf"{prefix}text_model.\1"


def modern(name: str, towers: tuple[Tower, ...]) -> str:
    """The name of a text tower's tensor, with the inner name that some files leave out."""
    for tower in towers:
        own = name.removeprefix(tower.original)
        if not tower.open_clip and own != name and not own.startswith(("text_model.", "text_projection.")):
            return f"{tower.original}text_model.{own}"
    return name
