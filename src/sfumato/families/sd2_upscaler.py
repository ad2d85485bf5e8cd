"""The x4 upscaler (Stability AI, 2022): draws a picture four times as large as the one that it is shown.

Its U-Net works at the small picture's size beside that picture, which is noised (Ho et al. 2021, section 4.2) by an
amount that it is told as a class. Only its coarsest level looks at itself.
"""

from __future__ import annotations

from dataclasses import replace

from sfumato.checkpoint.keymap import Shapes, holds
from sfumato.families import sd2
from sfumato.families.ldm import LatentDiffusion
from sfumato.families.unet_inputs import UNET, unet_takes_lowres
from sfumato.spec import Defaults, NoiseSchedule, UNetConfig, VAEConfig

NOISE = NoiseSchedule(start=0.0001, end=0.02)
SPEC = replace(
    sd2.SPEC,
    family="sd2_upscaler",
    title="the Stable Diffusion x4 upscaler",
    variant="",
    unet=UNetConfig(
        in_channels=7,
        channels=(256, 512, 512, 1024),
        depth=(0, 1, 1, 1),
        context_dim=1024,
        linear_projection=True,
        classes=1000,
        cross_only=(False, True, True, False),
    ),
    vae=VAEConfig(channels=(128, 256, 512), scale=0.08333),
    noise=NOISE,
    low_res=NOISE,
    defaults=Defaults(steps=75, cfg=9.0, sampler="ddim", schedule="ddim_uniform"),
)
PIPELINE = {
    "_class_name": "StableDiffusionUpscalePipeline",
    "feature_extractor": [None, None],
    "max_noise_level": SPEC.max_noise_level,
    "safety_checker": [None, None],
    "watermarker": [None, None],
    "low_res_scheduler": ["diffusers", "DDPMScheduler"],
}


def is_original(shapes: Shapes) -> bool:
    return f"{UNET}label_emb.weight" in shapes and holds(shapes, sd2.TEXT)


def is_folder(shapes: Shapes) -> bool:
    return "unet/class_embedding.weight" in shapes and holds(shapes, "text_encoder/")


FAMILY = LatentDiffusion(SPEC, sd2.TOWERS, unet_takes_lowres, is_original, is_folder, PIPELINE).family()
