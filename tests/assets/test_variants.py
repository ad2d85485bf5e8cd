"""The variants that ship: their sizes, their base, and that each does what it was made for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sfumato
from sfumato.api import StableDiffusion
from sfumato.hub.local_models import embedded_variants, find
from sfumato.loading.convert import convert
from sfumato.loading.inspect import inspect_checkpoint

NAMES = ("emoji-fast", "emoji-inpainting")
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
