"""Stable Diffusion XL 1.0, base and refiner (Podell et al. 2023), and XL Turbo, which has the base's names and shapes.

Both condition the U-Net on the pooled text of OpenCLIP ViT-bigG/14 and on sizes. The base reads CLIP ViT-L/14 and bigG,
the refiner bigG alone, each at the last layer but one and without the final norm. A single file does not say whether
it is Turbo (Sauer et al. 2023) and is taken for the base unless told (`variant`); a folder says it in its scheduler's
file.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sfumato.checkpoint.keymap import Shapes, holds
from sfumato.families.layouts import open_clip
from sfumato.families.ldm import LatentDiffusion
from sfumato.families.towers import Tower
from sfumato.families.unet_inputs import UNET, contexts, unet_takes_latents, unet_takes_mask
from sfumato.spec import CLIPTextConfig, Defaults, NoiseSchedule, Spec, UNetConfig, VAEConfig

CLIP_L, BIG_G = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
REFINER_BIG_G = "conditioner.embedders.0.model."

SPEC = Spec(
    family="sdxl",
    title="Stable Diffusion XL",
    variant="base",
    unet=UNetConfig(
        channels=(320, 640, 1280),
        depth=(0, 2, 10),
        middle_depth=10,
        context_dim=2048,
        heads=None,
        head_dim=64,
        linear_projection=True,
        vector_dim=2816,
    ),
    vae=VAEConfig(scale=0.13025),
    text=CLIPTextConfig(skip=2, normalised=False),
    text_2=open_clip.BIG_G,
    micro_conditioning=("original_size", "crop", "target_size"),
    zero_empty_negative=True,
    discrete_timesteps=True,
    vp_init_noise=True,
    defaults=Defaults(width=1024, height=1024, steps=50, cfg=5.0, sampler="euler", schedule="leading"),
    licence="openrail++",
)
TURBO = replace(
    SPEC,
    title="Stable Diffusion XL Turbo",
    variant="turbo",
    defaults=Defaults(steps=1, cfg=1.0, sampler="euler_ancestral", schedule="trailing"),
    licence="stabilityai-ai-community",
)
PLAYGROUND = replace(  # another firm's, trained from the start as Karras et al. 2022
    SPEC,
    title="Playground 2.5",
    variant="playground-2.5",
    vae=VAEConfig(scale=0.5, mean=(-1.6574, 1.886, -1.383, 2.5155), std=(8.4927, 5.9022, 6.5498, 5.2299)),
    prediction="edm",
    discrete_timesteps=False,
    noise=NoiseSchedule(kind="karras", start=0.002, end=80.0),
    defaults=Defaults(width=1024, height=1024, steps=50, cfg=3.0, sampler="dpmpp_2m", schedule="karras"),
    licence="",
)
INPAINTING = replace(
    SPEC,
    family="sdxl_inpainting",
    title="Stable Diffusion XL inpainting",
    variant="",
    unet=replace(SPEC.unet, in_channels=9),
    licence="",  # of no official release
)
REFINER = replace(
    SPEC,
    family="sdxl_refiner",
    title="the Stable Diffusion XL refiner",
    variant="",
    unet=UNetConfig(
        channels=(384, 768, 1536, 1536),
        depth=(0, 4, 4, 0),
        middle_depth=4,
        context_dim=1280,
        heads=None,
        head_dim=64,
        linear_projection=True,
        vector_dim=2560,
    ),
    text=open_clip.BIG_G,
    text_2=None,
    micro_conditioning=("original_size", "crop", "aesthetic_score"),
    zero_empty_negative=False,
)


# Parts of the pipelines that sfumato has no use for.
_WITHOUT = {"feature_extractor": [None, None], "image_encoder": [None, None]}


def no_buffers(noise: NoiseSchedule) -> dict[str, Tensor]:
    """The original writes its noise levels, but as its machine rounds them, and released files do without."""
    return {}


def is_original(shapes: Shapes) -> bool:
    return _is_xl(shapes) and holds(shapes, CLIP_L, BIG_G) and not _reads_first_tower_alone(shapes)


def is_refiner_original(shapes: Shapes) -> bool:
    return _is_xl(shapes) and (holds(shapes, REFINER_BIG_G) or _reads_first_tower_alone(shapes))


def _is_xl(shapes: Shapes) -> bool:
    return f"{UNET}label_emb.0.0.weight" in shapes


def _reads_first_tower_alone(shapes: Shapes) -> bool:
    """The U-Net's text is as wide as the first tower, which some files of the refiner have in transformers' names."""
    names = (f"{CLIP_L}{inner}final_layer_norm.weight" for inner in ("text_model.", ""))
    return any(contexts(shapes, UNET) == set(shapes.get(name, ())) for name in names) and not holds(shapes, BIG_G)


def is_folder(shapes: Shapes) -> bool:
    return holds(shapes, "text_encoder") and holds(shapes, "unet/add_embedding.") and not is_refiner_folder(shapes)


def is_refiner_folder(shapes: Shapes) -> bool:
    """bigG is all that the U-Net reads."""
    text = shapes.get("text_encoder_2/text_model.final_layer_norm.weight", ())
    alone = contexts(shapes, "unet/") == set(text) and not holds(shapes, "text_encoder/")
    return alone and holds(shapes, "unet/add_embedding.")


TOWERS = (Tower("text", CLIP_L, "text_encoder/"), Tower("text_2", BIG_G, "text_encoder_2/", open_clip=True))
FAMILY = LatentDiffusion(
    SPEC,
    TOWERS,
    unet_takes_latents,
    is_original,
    is_folder,
    {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, **_WITHOUT},
    no_buffers,
    variants=(TURBO, PLAYGROUND),
).family()
INPAINTING_FAMILY = LatentDiffusion(
    INPAINTING,
    TOWERS,
    unet_takes_mask,
    is_original,
    is_folder,
    {"_class_name": "StableDiffusionXLInpaintPipeline", "force_zeros_for_empty_prompt": True, **_WITHOUT},
    no_buffers,
).family()
REFINER_FAMILY = LatentDiffusion(
    REFINER,
    (Tower("text", REFINER_BIG_G, "text_encoder_2/", open_clip=True),),
    unet_takes_latents,
    is_refiner_original,
    is_refiner_folder,
    {
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        **_WITHOUT,
    },
    no_buffers,
).family()
