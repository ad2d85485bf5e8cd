"""Stable Diffusion 2.0 depth (Stability AI, 2022): 2.0 base with a fifth channel, the depth that MiDaS sees."""

from __future__ import annotations

from dataclasses import replace

from sfumato.families import sd2
from sfumato.families.ldm import LatentDiffusion
from sfumato.families.unet_inputs import unet_takes_depth
from sfumato.spec import DPTConfig

SPEC = replace(
    sd2.BASE,
    family="sd2_depth",
    title="Stable Diffusion 2.0 depth",
    variant="",
    unet=replace(sd2.BASE.unet, in_channels=5),
    depth=DPTConfig(),
)
PIPELINE = {
    "_class_name": "StableDiffusionDepth2ImgPipeline",
    "feature_extractor": ["transformers", "DPTImageProcessor"],
}
FAMILY = LatentDiffusion(SPEC, sd2.TOWERS, unet_takes_depth, sd2.is_original, sd2.is_folder, PIPELINE).family()
