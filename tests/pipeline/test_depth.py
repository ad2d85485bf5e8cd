"""The depth of a picture: prepared as MiDaS and read as Stable Diffusion's own code do it; and drawing with it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionDepth2ImgPipeline
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.pipeline.depth import depth_of, normalised, prepared, seen_size


@pytest.fixture(scope="module")
def model(depth_model: Path) -> StableDiffusion:
    return sfumato.load(depth_model, device="cpu")


@pytest.mark.parametrize(
    ("size", "seen"),  # as MiDaS' Resize gives them
    [
        ((512, 512), (384, 384)),
        ((768, 512), (576, 384)),
        ((512, 768), (384, 576)),
        ((200, 100), (384, 192)),
        ((100, 3000), (32, 384)),
        ((400, 300), (384, 288)),
    ],
)
def test_one_side_becomes_384(size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert seen_size(*size, 384, 32) == seen


def test_pictures_are_seen_from_minus_one_to_one() -> None:
    pixels = prepared(Image.new("RGB", (64, 32), (0, 255, 51)), 384, 32)
    assert pixels.shape == (1, 3, 192, 384)
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([-1.0, 1.0, -0.6]))


def test_equals_diffusers(model: StableDiffusion, depth_model: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    extractor = lambda images, return_tensors: SimpleNamespace(pixel_values=prepared(images[0], 32, 32))  # noqa: E731
    pipeline = StableDiffusionDepth2ImgPipeline.from_pretrained(depth_model, feature_extractor=None)
    pipeline.feature_extractor = extractor
    theirs = pipeline.prepare_depth_map(image, None, 1, False, torch.float32, torch.device("cpu"))
    assert model.depth is not None
    ours = depth_of(model.depth, image, 48 // pipeline.vae_scale_factor, 48 // pipeline.vae_scale_factor)
    assert ours.shape == theirs.shape and (ours.amin().item(), ours.amax().item()) == (-1, 1)
    assert (ours - theirs).abs().max() <= 2e-5


def test_what_is_flat_has_no_depth() -> None:
    assert torch.equal(normalised(torch.full((2, 1, 3, 3), 7.0)), torch.zeros(2, 1, 3, 3))


def test_words_alone_draw_over_no_depth(model: StableDiffusion) -> None:
    options = {"steps": 2, "width": 32, "height": 16, "seed": 3, "watermark": False}
    (image,) = model.txt2img("a cat", **options).images
    assert image.size == (32, 16)
