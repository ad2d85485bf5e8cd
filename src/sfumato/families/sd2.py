"""Stable Diffusion 2.0 and 2.1 (Stability AI, 2022): OpenCLIP ViT-H/14 text, last layer but one, heads of width 64.

The 512-pixel base models predict the noise, the 768-pixel models v, and SD Turbo (Sauer et al. 2023) needs one step of
its own. A folder says which in its scheduler's file; single files have the same names and shapes and are taken for the
768-pixel models unless told otherwise (`variant`).
"""

from __future__ import annotations

from dataclasses import replace

from sfumato.checkpoint.keymap import Shapes, holds
from sfumato.families.ldm import INPAINT_PIPELINE, PIPELINE, LatentDiffusion
from sfumato.families.towers import Tower
from sfumato.families.unet_inputs import UNET, is_second_line, unet_takes_latents, unet_takes_mask
from sfumato.spec import CLIPTextConfig, Defaults, Spec, UNetConfig

TEXT = "cond_stage_model.model."
SPEC = Spec(
    family="sd2",
    title="Stable Diffusion 2.x",
    variant="768-v",
    unet=UNetConfig(context_dim=1024, heads=None, head_dim=64, linear_projection=True),
    text=CLIPTextConfig(
        hidden_size=1024,
        intermediate_size=4096,
        layers=24,
        heads=16,
        activation="gelu",
        pad_token_id=0,
        projection_dim=1024,
        skip=2,
    ),
    prediction="v",
    defaults=Defaults(width=768, height=768, steps=50, sampler="ddim", schedule="ddim_uniform"),
    licence="openrail++",
)
BASE = replace(
    SPEC,
    variant="base",
    prediction="eps",
    defaults=Defaults(steps=50, sampler="plms", schedule="ddim_uniform"),
)
TURBO = replace(
    BASE,
    title="Stable Diffusion Turbo",
    variant="turbo",
    defaults=Defaults(steps=1, cfg=1.0, sampler="euler", schedule="trailing"),
    licence="stabilityai-ai-community",
)
INPAINTING = replace(
    BASE,
    family="sd2_inpainting",
    title="Stable Diffusion 2.0 inpainting",
    variant="",
    unet=replace(SPEC.unet, in_channels=9),
)


def is_original(shapes: Shapes) -> bool:
    """The U-Net tells: the text tower may have OpenCLIP's names or transformers', which 1.x has too."""
    foreign = ("low_scale_model.", "control_model.", "conditioner.", f"{UNET}label_emb.")
    return holds(shapes, "cond_stage_model.") and is_second_line(shapes, UNET) and not holds(shapes, *foreign)


def is_folder(shapes: Shapes) -> bool:
    """The U-Net tells, as in a single file."""
    foreign = ("text_encoder_2/", "unet/class_embedding.", "unet/add_embedding.", "image_encoder/", "controlnet/")
    return is_second_line(shapes, "unet/") and not holds(shapes, *foreign)


TOWERS = (Tower("text", TEXT, "text_encoder/", open_clip=True),)
FAMILY = LatentDiffusion(
    SPEC, TOWERS, unet_takes_latents, is_original, is_folder, PIPELINE, variants=(BASE, TURBO)
).family()
INPAINTING_FAMILY = LatentDiffusion(
    INPAINTING, TOWERS, unet_takes_mask, is_original, is_folder, INPAINT_PIPELINE
).family()
