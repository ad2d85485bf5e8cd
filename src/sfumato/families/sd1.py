"""Stable Diffusion 1.1 to 1.5 (CompVis and Runway, 2022): CLIP ViT-L/14 text, noise prediction, 512 pixels."""

from __future__ import annotations

import re
from dataclasses import replace

from sfumato.checkpoint.keymap import Shapes, holds
from sfumato.families.ldm import DEPTH_PIPELINE, INPAINT_PIPELINE, PIPELINE, LatentDiffusion
from sfumato.families.towers import Tower
from sfumato.families.unet_inputs import (
    UNET,
    contexts,
    is_second_line,
    unet_takes_depth,
    unet_takes_latents,
    unet_takes_mask,
    unet_takes_picture,
)
from sfumato.spec import Defaults, DepthNetConfig, Spec, UNetConfig

SPEC = Spec(
    family="sd1",
    title="Stable Diffusion 1.x",
    defaults=Defaults(steps=50, sampler="plms", schedule="ddim_uniform"),
    licence="creativeml-openrail-m",
)
INPAINTING = replace(
    SPEC, family="sd1_inpainting", title="Stable Diffusion 1.5 inpainting", unet=UNetConfig(in_channels=9)
)
DEPTH = replace(  # of no official release: what is trained here
    SPEC,
    family="sd1_depth",
    title="Stable Diffusion 1.x with depth",
    unet=UNetConfig(in_channels=5),
    depth=DepthNetConfig(),
    licence="",
)
EDITING = replace(  # Brooks, Holynski, Efros 2023: changes a picture as it is told
    SPEC,
    family="sd1_editing",
    title="InstructPix2Pix",
    unet=UNetConfig(in_channels=8),
    defaults=Defaults(steps=100, sampler="euler_ancestral", schedule="discrete"),
    licence="",
)
EDIT_PIPELINE = {**PIPELINE, "_class_name": "StableDiffusionInstructPix2PixPipeline"}
TEXT = "cond_stage_model.transformer."


def is_original(shapes: Shapes) -> bool:
    """The U-Net's context is CLIP-L's (or, without it, of that width), and it is none of 2.x."""
    text = shapes.get(f"{TEXT}text_model.final_layer_norm.weight") or shapes.get(
        f"{TEXT}final_layer_norm.weight", (768,)
    )
    cross = (shape[1:] for name, shape in shapes.items() if re.fullmatch(r"model\.diff.*\.attn2\.to_k\.weight", name))
    context = next(cross, (0,))
    tower = "cond_stage_model.model.transformer."
    foreign = ("conditioner.", tower, "control_model.", "cc_projection.", f"{UNET}label_emb")
    return not holds(shapes, *foreign) and context == text[:1] and not is_second_line(shapes, UNET)


def is_folder(shapes: Shapes) -> bool:
    """There is a U-Net, and it is none of 2.x, XL or another line."""
    foreign = ("text_encoder_2/", "unet/class_embedding.", "unet/add_embedding.", "image_encoder/", "controlnet/")
    own = bool(contexts(shapes, "unet/")) and not is_second_line(shapes, "unet/")
    return own and not holds(shapes, *foreign)


TOWERS = (Tower("text", TEXT, "text_encoder/"),)
FAMILY = LatentDiffusion(SPEC, TOWERS, unet_takes_latents, is_original, is_folder, PIPELINE).family()
INPAINTING_FAMILY = LatentDiffusion(
    INPAINTING, TOWERS, unet_takes_mask, is_original, is_folder, INPAINT_PIPELINE
).family()
DEPTH_FAMILY = LatentDiffusion(DEPTH, TOWERS, unet_takes_depth, is_original, is_folder, DEPTH_PIPELINE).family()
EDITING_FAMILY = LatentDiffusion(EDITING, TOWERS, unet_takes_picture, is_original, is_folder, EDIT_PIPELINE).family()
networks = FAMILY.networks
ORIGINAL = FAMILY.layouts["original"].prefixes
