"""Stable unCLIP 2.1 (Stability AI, 2023): 2.1 that is shown CLIP's vector of a picture, and draws variations of it.

Both releases are of this family: -h with OpenCLIP's ViT-H, -l with OpenAI's ViT-L. The vector goes through noise of a
level that the network is told. Single files leave out by which mean and spread it is normalised before; that is by
none for -h.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor, nn

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import Rule, Shapes, holds, rename
from sfumato.families import sd2
from sfumato.families.base import Family, Layout
from sfumato.families.layouts import clip_vision, ldm_schedule
from sfumato.families.ldm import LatentDiffusion
from sfumato.families.reading import sizes_of
from sfumato.families.unet_inputs import UNET, is_second_line, unet_takes_latents
from sfumato.nets.clip_vision import CLIPVision
from sfumato.nets.unclip import VectorStatistics
from sfumato.spec import CLIPVisionConfig, NoiseSchedule, Spec

EMBEDDER, AUGMENTOR = "embedder.model.visual.", "noise_augmentor."
NOISING = "image_noising_scheduler/scheduler_config"
SPEC = replace(
    sd2.SPEC,
    family="sd2_unclip",
    title="Stable unCLIP 2.1",
    variant="",
    unet=replace(sd2.SPEC.unet, vector_dim=2048),
    image=CLIPVisionConfig(),
    image_noise=NoiseSchedule(kind="cosine"),
    defaults=replace(sd2.SPEC.defaults, cfg=10.0),
)
PIPELINE: diffusers_config.Config = {
    "_class_name": "StableUnCLIPImg2ImgPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_noising_scheduler": ["diffusers", "DDPMScheduler"],
    "image_normalizer": ["stable_diffusion", "StableUnCLIPImageNormalizer"],
}


@dataclass(frozen=True)
class Unclip(LatentDiffusion):
    """A release of the line that is shown a picture."""

    def family(self) -> Family:
        return replace(super().family(), optional=("statistics",))

    def _original_layout(self) -> Layout:
        layout = super()._original_layout()
        beside = (r"embedder\.(?!model\.visual\.).*", rf"{AUGMENTOR}{ldm_schedule.NAMES}")
        return replace(layout, ignored=(*layout.ignored, *beside))

    def _folder_layout(self) -> Layout:
        return replace(super()._folder_layout(), buffers=_unnormalised)

    @property
    def in_file(self) -> dict[str, str]:
        return {**super().in_file, "image": EMBEDDER, "statistics": f"{AUGMENTOR}data_"}

    @property
    def in_folder(self) -> dict[str, str]:
        return {**super().in_folder, "image": "image_encoder/", "statistics": "image_normalizer/"}

    def networks(self, spec: Spec) -> dict[str, nn.Module]:
        image = _image(spec)
        statistics = VectorStatistics(image.projection_dim or image.hidden_size)
        return {**super().networks(spec), "image": CLIPVision(image), "statistics": statistics}

    def original_rules(self, spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
        if part == "image":
            return clip_vision.rules(names, EMBEDDER, False)
        if part == "statistics":
            return rename(names, lambda name: f"{AUGMENTOR}data_{name}")
        return super().original_rules(spec, part, names)

    def folder_rules(self, spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
        rules = super().folder_rules(spec, part, names)
        beside = "unet/add_embedding.", "unet/class_embedding."  # XL's place of the vector, and unCLIP's
        return [replace(rule, theirs=tuple(name.replace(*beside) for name in rule.theirs)) for rule in rules]

    def original_spec(self, checkpoint: Checkpoint) -> Spec:
        spec, shapes = super().original_spec(checkpoint), checkpoint.shapes
        with sizes_of(checkpoint, self.release):
            image = clip_vision.sizes(shapes, EMBEDDER, False, {}) if holds(shapes, EMBEDDER) else spec.image
        return replace(spec, image=image)

    def folder_spec(self, checkpoint: Checkpoint) -> Spec:
        spec, shapes, prefix = super().folder_spec(checkpoint), checkpoint.shapes, self.in_folder["image"]
        configs, image, noise = checkpoint.configs, spec.image, spec.image_noise
        with sizes_of(checkpoint, self.release):
            if config := configs.get(f"{prefix}config"):
                image = diffusers_config.clip_vision_from(config, f"{checkpoint.path}/{prefix}config.json")
            elif holds(shapes, prefix):
                image = clip_vision.sizes(shapes, prefix, True, {})
        if NOISING in configs:
            _, noise = diffusers_config.scheduler_from(configs[NOISING], f"{checkpoint.path}/{NOISING}.json")
        return replace(spec, image=image, image_noise=noise)

    def folder_configs(self, spec: Spec) -> dict[str, diffusers_config.Config]:
        image, configs = _image(spec), super().folder_configs(spec)
        index = {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"], **configs["model_index"]}
        unet = diffusers_config.with_class_vector(configs["unet/config"])
        noising = diffusers_config.noising_to(spec.image_noise or NoiseSchedule(kind="cosine"))
        width = image.projection_dim or image.hidden_size
        return {
            **configs,
            "model_index": index,
            "unet/config": unet,
            "image_encoder/config": diffusers_config.clip_vision_to(image),
            "image_normalizer/config": {"_class_name": "StableUnCLIPImageNormalizer", "embedding_dim": width},
            NOISING: noising,
            "feature_extractor/preprocessor_config": diffusers_config.clip_processor_to(image),
        }


def _image(spec: Spec) -> CLIPVisionConfig:
    return spec.image or CLIPVisionConfig()


def _unnormalised(spec: Spec) -> dict[str, Tensor]:
    """The mean and spread of a model whose file has none."""
    image = _image(spec)
    statistics = VectorStatistics(image.projection_dim or image.hidden_size).state_dict()
    return {f"image_normalizer/{name}": tensor for name, tensor in statistics.items()}


def is_original(shapes: Shapes) -> bool:
    """The U-Net is one of 2.x and takes a vector."""
    own = is_second_line(shapes, UNET) and f"{UNET}label_emb.0.0.weight" in shapes
    return own and holds(shapes, sd2.TEXT) and not holds(shapes, "conditioner.", "control_model.")


def is_folder(shapes: Shapes) -> bool:
    """The U-Net is one of 2.x and takes a vector in place of a class."""
    return is_second_line(shapes, "unet/") and "unet/class_embedding.linear_1.weight" in shapes


FAMILY = Unclip(SPEC, sd2.TOWERS, unet_takes_latents, is_original, is_folder, PIPELINE).family()
