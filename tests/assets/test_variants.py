"""The variants that ship: their sizes, their base, and that each does what it was made for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion.driver import Finished, drive
from sfumato.hub.local_models import embedded_variants, find
from sfumato.loading.convert import convert
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.depth import depth_of
from sfumato.pipeline.latents import decode
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings

NAMES = ("emoji-depth", "emoji-fast", "emoji-inpainting")
MOST = 5 << 18  # bytes of each: 1.25 MiB


def loaded(name: str) -> StableDiffusion:
    return sfumato.load(name, device="cpu")


def test_each_is_small_and_known_by_name() -> None:
    assert [path.stem for path in embedded_variants()] == list(NAMES)
    assert all(path.stat().st_size <= MOST for path in embedded_variants())
    assert all(find(name).path in embedded_variants() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_on_the_model_that_ships(name: str) -> None:
    found = inspect_checkpoint(find(name).path)
    assert found.problem is None and found.container == "variant"
    assert loaded(name).encode.tokenizer.vocab_size == loaded("emoji").encode.tokenizer.vocab_size


@pytest.mark.parametrize("name", NAMES)
def test_each_converts_to_a_folder_that_draws_the_same(name: str, tmp_path: Path) -> None:
    convert(find(name).path, tmp_path / "whole", "diffusers")
    images = [
        sfumato.load(one, device="cpu").txt2img("a red heart", seed=1, steps=2, watermark=False).images[0].tobytes()
        for one in (name, tmp_path / "whole")
    ]
    assert images[0] == images[1]


def test_few_steps_draw_what_the_prompt_says() -> None:
    model = loaded("emoji-fast")
    assert (model.spec.defaults.steps, model.spec.defaults.cfg) == (4, 1.0)
    for steps in (1, 2, 4):
        for colour, channel in (("red", 0), ("blue", 2)):
            image = model.txt2img(f"{colour} heart", seed=1, steps=steps, watermark=False).images[0]
            mean = np.asarray(image, float)[40:88, 40:88].mean((0, 1))
            assert mean.argmax() == channel, (steps, colour, mean)


def test_depth_is_that_of_the_thing_in_front() -> None:
    model = loaded("emoji-depth")
    assert model.depth is not None
    picture = Image.new("RGB", (128, 128), "white")
    picture.paste((220, 30, 40), (32, 32, 96, 96))
    depth = depth_of(model.depth, picture, 8, 8)[0, 0]
    assert depth[3:5, 3:5].min() > 0 > max(depth[0].max(), depth[-1].max())


def test_things_stand_where_depth_says() -> None:
    """Balls drawn from the same noise over depth that is near on the left, or on the right: there is more colour."""
    model = loaded("emoji-depth")
    settings = Settings.of(model.spec, "a red ball", steps=10)
    way = SamplingRun.of(model, settings)
    redness = []
    for left in (True, False):
        depth = torch.full((1, 1, 16, 16), -1.0)
        depth[..., 4:12, slice(0, 8) if left else slice(8, 16)] = 1.0
        pictures = [replace(settings, seed=seed) for seed in range(4)]
        jobs = [way.job(guidance(model, one, way.sigmas, depth), one) for one in pictures]
        ends = [way.final_latents(event.x) for _, event in drive(jobs) if isinstance(event, Finished)]
        levels = np.stack([np.asarray(decode(model.vae, end), float) for end in ends])
        red = levels[..., 0] - levels[..., 1:].mean(-1)
        redness.append(red[..., :128].mean() - red[..., 128:].mean())
    assert redness[0] > redness[1] + 20
