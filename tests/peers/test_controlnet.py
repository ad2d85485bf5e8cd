"""Pictures steered by ControlNets beside those of diffusers' pipelines, from words and on a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    MultiControlNetModel,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionPipeline,
    T2IAdapter,
)
from PIL import Image, ImageDraw
from torch import nn

from sfumato import Control
from sfumato.api import StableDiffusion
from sfumato.diffusion.rng import NoiseStream

WORDS, AWAY = "a red heart", "a blue cat"
SIDE, SEED, STEPS, CFG = 128, 3, 5, 4.0
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
LEVELS = {"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "attention_head_dim": 2}
OURS = {"seed": SEED, "width": SIDE, "height": SIDE, "steps": STEPS, "cfg": CFG, "sampler": "ddim", "watermark": False}


@pytest.fixture
def simple(tokenizer, tower, unet, autoencoder) -> StableDiffusionPipeline:
    """1.x whose latents are eight pixels wide."""
    torch.manual_seed(0)
    blocks = {"block_out_channels": (32,) * 4, "down_block_types": ("DownEncoderBlock2D",) * 4,
              "up_block_types": ("UpDecoderBlock2D",) * 4, "sample_size": SIDE}  # fmt: skip
    return StableDiffusionPipeline(
        vae=autoencoder(**blocks), text_encoder=tower(activation="quick_gelu"), tokenizer=tokenizer, unet=unet(32),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@pytest.fixture
def network(tmp_path: Path) -> Callable[[int], tuple[ControlNetModel, Path]]:
    """A ControlNet of a seed, and the folder that it was written to."""

    def make(seed: int) -> tuple[ControlNetModel, Path]:
        torch.manual_seed(seed)
        made = ControlNetModel(down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), **LEVELS).eval()
        last = (*made.controlnet_down_blocks, made.controlnet_mid_block, made.controlnet_cond_embedding.conv_out)
        for layer in last:
            nn.init.normal_(layer.weight, std=0.3)
        made.save_pretrained(tmp_path / f"control-{seed}")
        return made, tmp_path / f"control-{seed}"

    return make


@pytest.fixture
def hint() -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE))
    ImageDraw.Draw(image).ellipse((20, 30, 100, 90), outline="white", width=6)
    return image


def noise(model: StableDiffusion) -> torch.Tensor:
    return NoiseStream(SEED, (1, 4, SIDE // 8, SIDE // 8), "cpu").normal()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"weight": 0.6, "start": 0.2, "end": 0.65},
         {"controlnet_conditioning_scale": 0.6, "control_guidance_start": 0.2, "control_guidance_end": 0.65}),
        ({"mode": "control"}, {"guess_mode": True}),
    ],
    ids=["whole", "part", "guess mode"],
)  # fmt: skip
def test_a_controlnet(simple, network, opened, apart, hint: Image.Image, ours: dict, theirs: dict) -> None:
    other, folder = network(0)
    model = opened(simple)
    pipeline = StableDiffusionControlNetPipeline(**simple.components, controlnet=other, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    if "mode" in ours:  # diffusers' strengths of guess mode are others than the original's, which are those of ours
        count, soft = 5, np.array([0.825**k for k in range(4, -1, -1)])
        ours = ours | {"blocks": tuple(np.logspace(-1, 0, count) / soft)}
    drawn = model.txt2img(WORDS, AWAY, control=[Control(folder, hint, **ours)], **OURS)[0]
    picture = pipeline(
        WORDS, hint, negative_prompt=AWAY, num_inference_steps=STEPS, guidance_scale=CFG, latents=noise(model), **theirs
    ).images[0]
    assert apart(drawn, picture) <= 2
    assert apart(model.txt2img(WORDS, AWAY, **OURS)[0], picture) > 10


def test_two_controlnets(simple, network, opened, apart, hint: Image.Image) -> None:
    (one, first), (two, second) = network(0), network(1)
    model, other = opened(simple), hint.rotate(90)
    both = MultiControlNetModel([one, two])
    pipeline = StableDiffusionControlNetPipeline(**simple.components, controlnet=both, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    drawn = model.txt2img(
        WORDS, AWAY, control=[Control(first, hint, weight=0.5), Control(second, other, weight=0.8)], **OURS
    )[0]
    picture = pipeline(
        WORDS, [hint, other], negative_prompt=AWAY, num_inference_steps=STEPS, guidance_scale=CFG, latents=noise(model),
        controlnet_conditioning_scale=[0.5, 0.8],
    ).images[0]  # fmt: skip
    assert apart(drawn, picture) <= 2


def test_a_t2i_adapter(simple, opened, apart, hint: Image.Image, tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = T2IAdapter(adapter_type="full_adapter_xl", channels=[32, 64], downscale_factor=16).eval()
    other.save_pretrained(tmp_path / "t2i")
    model = opened(simple)
    parts = {name: part for name, part in simple.components.items() if name != "image_encoder"}
    pipeline = StableDiffusionAdapterPipeline(**parts, adapter=other, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    drawn = model.txt2img(WORDS, AWAY, control=[Control(tmp_path / "t2i", hint, weight=0.9)], **OURS)[0]
    picture = pipeline(
        WORDS, hint, negative_prompt=AWAY, num_inference_steps=STEPS, guidance_scale=CFG, latents=noise(model),
        adapter_conditioning_scale=0.9,
    ).images[0]  # fmt: skip
    assert apart(drawn, picture) <= 2
    assert apart(model.txt2img(WORDS, AWAY, **OURS)[0], picture) > 2
