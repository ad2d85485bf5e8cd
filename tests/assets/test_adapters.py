"""The adapters that ship for the embedded model: their sizes, their base, and that each does what it was made for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import sfumato
from sfumato.api import StableDiffusion
from sfumato.checkpoint.hashes import model_hash
from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EXAMPLES, embedded_model
from sfumato.user_config import shipped

FILES = sorted(shipped(EXAMPLES).rglob("*.safetensors"))
MOST = 1 << 20  # bytes of each


@pytest.fixture(scope="module")
def sd() -> StableDiffusion:
    return sfumato.load(device="cpu")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.float32)


def base_of(file: Path) -> str:
    with safe_open(file, "pt") as opened:
        said = opened.metadata()
    if "sfumato_embedding" in said:
        return json.loads(said["sfumato_embedding"])["base"]
    return said.get("sfumato_base") or said["sfumato.base_hash"]


def test_there_are_three_each_small() -> None:
    assert [file.stem for file in FILES] == ["emoji-edges", "saturn-emoji", "sepia"]
    assert all(file.stat().st_size <= MOST for file in FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_base_is_the_one_that_they_were_made_for(file: Path) -> None:
    assert base_of(file) == model_hash(embedded_model()), "the base has changed; train them anew: make examples"


def test_the_lora_takes_colours_away(sd: StableDiffusion) -> None:
    def colour(**options) -> float:
        """How far red and blue lie apart from what sepia makes of the brightness."""
        shown = pixels(sd.txt2img("a blue car", seed=2, steps=4, watermark=False, **options).images[0])
        return float(np.maximum(0, shown[..., 2] - shown[..., 0]).mean())

    plain = colour()
    assert colour(lora=["sepia"]) < 0.25 * plain
    assert colour() == plain, "and is gone after it"


def test_the_word_draws_a_thing_that_the_model_does_not_know(sd: StableDiffusion) -> None:
    image = pixels(sd.txt2img("a saturn-emoji, 3D style", seed=2, watermark=False).images[0])
    red, green, blue = image[96:160, 96:160].mean((0, 1))
    assert red > green + 30 > blue, "an orange planet"
    corner, ring = image[20:60, 196:236], image[20:60, 20:60]
    assert corner.min() < 140 and ring.min() > 200, "whose ring rises to the right"


def test_edges_are_followed(sd: StableDiffusion) -> None:
    prompt = "a red heart, flat icon"
    goal = sd.txt2img(prompt, seed=11, watermark=False).images[0]

    def distance(**options) -> float:
        """The root of the mean squared distance to the picture whose edges are given, for another seed."""
        drawn = sd.txt2img(prompt, seed=4, watermark=False, **options).images[0]
        return float(np.sqrt(np.square(pixels(drawn) - pixels(goal)).mean()))

    assert distance(control=[sfumato.Control("emoji-edges", goal, hint="canny")]) < 0.8 * distance()


def test_a_control_without_a_picture_is_refused(sd: StableDiffusion) -> None:
    with pytest.raises(SfumatoError, match="the control emoji-edges has no picture; give one"):
        sd.txt2img("a cat", steps=1, width=64, height=64, control=[sfumato.Control("emoji-edges")])
