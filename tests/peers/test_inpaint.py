"""Inpainting as diffusers does it, with a network made for it and with one that was not, to 2 levels of 255."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SEED, SIDE = 3, 32


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)).resize((SIDE, SIDE))


# At strength 1 diffusers shows a network of 4 channels nothing but noise in the first step, where we show the picture.
@pytest.mark.parametrize(("channels", "strength"), [(4, 0.8), (4, 0.4), (9, 1.0), (9, 0.6)])
def test_inpainting(
    tokenizer,
    tower,
    unet,
    autoencoder,
    opened,
    apart,
    picture: Image.Image,
    monkeypatch,
    channels: int,
    strength: float,
) -> None:
    torch.manual_seed(0)
    pipeline = StableDiffusionInpaintPipeline(
        vae=autoencoder(),
        text_encoder=tower(activation="quick_gelu"),
        tokenizer=tokenizer,
        unet=unet(32, in_channels=channels),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    model = opened(pipeline)
    assert model.spec.inpaints == (channels == 9)
    mask = Image.new("L", (SIDE, SIDE))
    box = (8, 4, 24, 20)
    mask.paste(255, box)
    words = ("a red heart", "a blue cat")
    ours = model.inpaint(
        picture, *words, mask=mask, strength=strength, start="original", blur=0, steps=5, seed=SEED, watermark=False
    ).images[0]
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mean)
    theirs = pipeline(
        words[0],
        picture,
        mask,
        negative_prompt=words[1],
        width=SIDE,
        height=SIDE,
        strength=strength,
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(SEED),
    ).images[0]
    assert apart(ours.crop(box), theirs.crop(box)) <= 2
    assert apart(ours.crop(box), picture.crop(box)) > 10
