"""The latent-diffusion line: 1.x, 2.x and XL differ in sizes, text towers and defaults only (Rombach et al. 2022)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import Rule, Shapes, holds, rename
from sfumato.families.base import Family, Layout
from sfumato.families.layouts import depth_net, ldm_schedule, ldm_unet, ldm_vae, midas
from sfumato.families.reading import INDEX, SCHEDULER, Folder, sizes_of
from sfumato.families.towers import REST_OF_CLIP, Tower, canonical_clip_name, with_inner_name
from sfumato.families.unet_inputs import UNET, VAE_PREFIX, is_standalone_unet
from sfumato.nets.clip import CLIPText
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import Defaults, DepthNetConfig, DPTConfig, NoiseSchedule, Prediction, Spec, UNetConfig, VAEConfig

UNSEEN = ("scale", "shift", "mean", "std", "quant_convs")  # of an autoencoder: shapes do not show them
DEPTH = "depth_model.model."  # of the original layout, as UNET and VAE_PREFIX

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
class LatentDiffusion:
    """A release of the line, as data: `family()` makes its Family.

    `takes(shapes)` says whether the U-Net of a file takes what this release's does, `original` and `folder` recognise
    the two layouts. `pipeline` is what model_index.json says besides the parts: diffusers' class and its settings.
    `buffers` are the tensors by which a single file states the noise schedule; `variants` as in Family.
    """

    release: Spec
    towers: tuple[Tower, ...]
    takes: Callable[[Shapes], bool]
    original: Callable[[Shapes], bool]
    folder: Callable[[Shapes], bool]
    pipeline: diffusers_config.Config
    buffers: Callable[[NoiseSchedule], dict[str, Tensor]] = ldm_schedule.ddpm_buffers
    variants: tuple[Spec, ...] = ()

    def family(self) -> Family:
        """The Family of this release."""
        return Family(
            spec=self.release,
            variants=self.variants,
            optional=("depth",),  # only needed for pictures that come without a depth
            networks=self.networks,
            layouts={"original": self._original_layout(), "diffusers": self._folder_layout()},
        )

    def _original_layout(self) -> Layout:
        transformers_names = [tower for tower in self.towers if not tower.open_clip]
        return Layout(
            prefixes=self.in_file,
            recognise=self.is_original,
            spec=self.original_spec,
            rules=self.original_rules,
            ignored=(
                ldm_schedule.NAMES,
                ldm_schedule.LOW_SCALE + ldm_schedule.NAMES,
                r"model_ema\..*",
                r".*\.position_ids",
                r"first_stage_model\.(loss|model_ema)\..*",
                re.escape(DEPTH + midas.HEAD) + "(weight|bias)",
                *(re.escape(tower.original) + REST_OF_CLIP for tower in self.towers),
            ),
            aliases=tuple(with_inner_name(tower.original) for tower in transformers_names),
            # The averaging code drops "model." and every dot of a name.
            ema=lambda name: "model_ema." + name.removeprefix("model.").replace(".", ""),
            fit=self.fit_original,
            buffers=lambda spec: self.buffers(spec.noise) | ldm_schedule.low_scale_buffers(spec.low_res),
        )

    def _folder_layout(self) -> Layout:
        return Layout(
            prefixes=self.in_folder,
            recognise=self.is_folder,
            spec=self.folder_spec,
            rules=self.folder_rules,
            ignored=(r".*\.position_ids", r"safety_checker/.*"),
            aliases=(
                *ldm_vae.old_attention("vae/"),
                *(with_inner_name(tower.folder) for tower in self.towers),
            ),
            fit=self.fit_folder,
            configs=self.folder_configs,
            tokenizers=self.tokenizers,
            carried=("safety_checker/",),
        )

    @property
    def in_file(self) -> dict[str, str]:
        """Returns the prefix of each part's names in a single file."""
        depth = {} if self.release.depth is None else {"depth": DEPTH}
        return {"unet": UNET, "vae": VAE_PREFIX, **{tower.part: tower.original for tower in self.towers}, **depth}

    @property
    def in_folder(self) -> dict[str, str]:
        """Returns the folder of each part."""
        depth = {} if self.release.depth is None else {"depth": "depth_estimator/"}
        return {"unet": "unet/", "vae": "vae/", **{tower.part: tower.folder for tower in self.towers}, **depth}

    @property
    def tokenizers(self) -> Mapping[str, str]:
        """The tower of each tokenizer's folder."""
        return {tower.folder.strip("/").replace("text_encoder", "tokenizer"): tower.part for tower in self.towers}

    def is_original(self, shapes: Shapes) -> bool:
        return self.takes(shapes) and (self.original(shapes) or is_standalone_unet(shapes, UNET, self.release))

    def is_folder(self, shapes: Shapes) -> bool:
        return self.takes(shapes) and (self.folder(shapes) or is_standalone_unet(shapes, "unet/", self.release))

    def networks(self, spec: Spec) -> dict[str, nn.Module]:
        texts = {tower.part: CLIPText(tower.config(spec)) for tower in self.towers}
        depth = {} if spec.depth is None else {"depth": depth_net.network(spec.depth)}
        return {"unet": UNet(spec.unet), "vae": VAE(spec.vae), **texts, **depth}

    def original_rules(self, spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
        if part == "unet":
            return ldm_unet.rules(spec.unet, names, UNET)
        if part == "vae":
            return ldm_vae.rules(spec.vae, names, VAE_PREFIX)
        if part == "depth":
            return depth_net.rules(names, DEPTH)
        return next(tower for tower in self.towers if tower.part == part).rules(names)

    def folder_rules(self, spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
        prefix = self.in_folder[part]
        return rename(names, lambda name: prefix + name)

    def with_missing(self, texts: dict[str, Any], context_dim: int) -> dict[str, Any]:
        """The towers, and if one is missing that of the release, as wide as the others leave of the context."""
        missing = [tower for tower in self.towers if tower.part not in texts]
        if len(missing) != 1:
            return texts
        width = context_dim - sum(text.hidden_size for text in texts.values())
        return {**texts, missing[0].part: replace(missing[0].config(self.release), hidden_size=width)}

    def with_release_attention(self, sizes: UNetConfig) -> UNetConfig:
        """The sizes with what shapes do not show: heads, and which levels never attend to themselves."""
        usual = self.release.unet
        cross_only = (*(depth > 0 for depth in sizes.depth[:-1]), False) if usual.cross_only else ()
        return replace(sizes, heads=usual.heads, head_dim=usual.head_dim, cross_only=cross_only)

    def original_spec(self, checkpoint: Checkpoint) -> Spec:
        """The sizes of a single file, with those of the release for parts that it lacks; the rest is the release's."""
        release = self.release
        shapes = {canonical_clip_name(name, self.towers): shape for name, shape in checkpoint.shapes.items()}
        with sizes_of(checkpoint, release):
            texts: dict[str, Any] = {
                tower.part: tower.sizes(shapes, release) for tower in self.towers if holds(shapes, tower.original)
            }
            vae = ldm_vae.sizes(shapes, VAE_PREFIX) if holds(shapes, VAE_PREFIX) else release.vae
            unet = self.with_release_attention(ldm_unet.sizes(shapes, UNET))
            return replace(
                release,
                defaults=guidance_distilled(release.defaults) if unet.guidance_dim else release.defaults,
                unet=unet,
                vae=replace(vae, **{name: getattr(release.vae, name) for name in UNSEEN}),
                depth=depth_net.sizes(shapes, DEPTH) if release.depth and holds(shapes, DEPTH) else release.depth,
                **self.with_missing(texts, unet.context_dim),
            )

    def folder_spec(self, checkpoint: Checkpoint) -> Spec:
        """The sizes, noise levels and defaults that a folder's JSON files state."""
        release, folder = self.release, Folder.of(checkpoint, self.in_folder)
        unet, vae, texts = self._folder_sizes(checkpoint, folder)
        prediction, noise, variant = release.prediction, release.noise, release
        side = release.defaults.width // release.vae.factor
        sampling = folder.sized(release.defaults, "unet/config", side, vae.factor)
        if folder.has(SCHEDULER):
            prediction, noise = diffusers_config.scheduler_from(*folder.read(SCHEDULER))
            sampling = diffusers_config.sampling_from(*folder.read(SCHEDULER), sampling)
            variant = _most_alike((release, *self.variants), prediction, sampling)
        steps, cfg = variant.defaults.steps, variant.defaults.cfg
        if unet.guidance_dim is not None:
            sampling = guidance_distilled(sampling)
            steps, cfg = sampling.steps, sampling.cfg
        index = checkpoint.configs.get(INDEX, {})
        depth, low_res = release.depth, release.low_res
        if depth is not None and folder.has("depth_estimator/config"):
            depth = diffusers_config.depth_from(*folder.read("depth_estimator/config"))
        if folder.has("low_res_scheduler/scheduler_config"):
            _, low_res = diffusers_config.scheduler_from(*folder.read("low_res_scheduler/scheduler_config"))
        return replace(
            variant,
            unet=unet,
            vae=vae,
            prediction=prediction,
            noise=noise,
            discrete_timesteps=variant.discrete_timesteps and noise.kind != "karras",
            zero_empty_negative=index.get("force_zeros_for_empty_prompt", variant.zero_empty_negative) is True,
            low_res=low_res,
            depth=depth,
            defaults=folder.defaults(replace(sampling, steps=steps, cfg=cfg)),
            **self.with_missing(texts, unet.context_dim),
        )

    def _folder_sizes(self, checkpoint: Checkpoint, folder: Folder) -> tuple[UNetConfig, VAEConfig, dict[str, Any]]:
        """Sizes of the U-Net, the autoencoder and the text towers: as stated, or from shapes where the file is one."""
        release, shapes, vae = self.release, checkpoint.shapes, self.release.vae
        texts: dict[str, Any] = {}
        with sizes_of(checkpoint, release):
            if folder.has("unet/config"):
                unet = diffusers_config.unet_from(*folder.read("unet/config"))
            else:
                unet = self.with_release_attention(ldm_unet.folder_sizes(shapes, "unet/"))
            if folder.has("vae/config"):
                vae = diffusers_config.vae_from(*folder.read("vae/config"))
            elif "vae" in folder.parts:
                unseen = {name: getattr(release.vae, name) for name in UNSEEN}
                vae = replace(ldm_vae.folder_sizes(shapes, "vae/"), **unseen)
            for tower in self.towers:
                if folder.has(f"{tower.folder}config"):
                    texts[tower.part] = tower.from_folder(*folder.read(f"{tower.folder}config"), release)
                elif tower.part in folder.parts:
                    texts[tower.part] = tower.folder_sizes(shapes, release)
        return unet, vae, texts

    def fit_original(self, spec: Spec, shapes: Shapes) -> Spec:
        texts: dict[str, Any] = {
            tower.part: tower.fit_original(tower.config(spec), shapes, self.release) for tower in self.towers
        }
        return replace(spec, **texts)

    def fit_folder(self, spec: Spec, shapes: Shapes) -> Spec:
        texts: dict[str, Any] = {tower.part: tower.fit_folder(tower.config(spec)) for tower in self.towers}
        return replace(spec, **texts)

    def folder_configs(self, spec: Spec) -> dict[str, diffusers_config.Config]:
        """The JSON files of a folder, named without `.json`."""
        pixels = spec.defaults.width
        others = {tower.folder: diffusers_config.clip_to(tower.config(spec)) for tower in self.towers}
        if spec.depth is not None:
            others[self.in_folder["depth"]] = diffusers_config.depth_to(spec.depth)
        scheduler = diffusers_config.scheduler_to(spec.prediction, spec.noise, spec.defaults)
        index = {
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "scheduler": ["diffusers", scheduler["_class_name"]],
            **{folder.strip("/"): ["transformers", *config["architectures"]] for folder, config in others.items()},
            **{folder: ["transformers", "CLIPTokenizer"] for folder in self.tokenizers},
        }
        if isinstance(spec.depth, DepthNetConfig):
            index["depth_estimator"][0] = "sfumato"
        further: dict[str, diffusers_config.Config] = {}
        if isinstance(spec.depth, DPTConfig):
            further["feature_extractor/preprocessor_config"] = diffusers_config.dpt_processor_to(spec.depth)
        if spec.low_res is not None:
            further["low_res_scheduler/scheduler_config"] = diffusers_config.noising_to(spec.low_res)
        return {
            INDEX: {**index, **self.pipeline},
            SCHEDULER: scheduler,
            "unet/config": diffusers_config.unet_to(spec.unet, pixels // spec.vae.factor),
            "vae/config": diffusers_config.vae_to(spec.vae, pixels),
            **{f"{folder}config": config for folder, config in others.items()},
            **further,
        }


def guidance_distilled(defaults: Defaults) -> Defaults:
    """The defaults of a network that was distilled into one that takes the guidance scale (LCM, Luo et al. 2023)."""
    return replace(defaults, steps=4, cfg=8.0, sampler="lcm", schedule="trailing")


def _most_alike(releases: tuple[Spec, ...], prediction: Prediction, sampling: Defaults) -> Spec:
    """The release with a folder's prediction and sampling, else with its prediction, else the first."""
    first, *variants = releases
    exact = [one for one in variants if one.prediction == prediction and _same_sampling(one.defaults, sampling)]
    alike = [one for one in releases if one.prediction == prediction]
    return [*exact, *alike, first][0]


def _same_sampling(one: Defaults, other: Defaults) -> bool:
    return (one.width, one.sampler, one.schedule) == (other.width, other.sampler, other.schedule)
