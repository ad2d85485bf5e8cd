"""The second pass of txt2img, and pictures that tile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
import tiny
from sfumato.api import StableDiffusion
from sfumato.diffusion.sample import SAMPLERS
from sfumato.errors import SfumatoError
from sfumato.families import sd1
from sfumato.nets.srvgg import SRVGGNetCompact
from sfumato.pipeline.events import Progress
from sfumato.provenance import infotext
from sfumato.settings.settings import Settings

OPTIONS = {"steps": 4, "cfg": 1.0, "seed": 7, "watermark": False, "width": 32, "height": 16}


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, int)


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model, device="cpu")


def test_the_second_pass_draws_on_top_of_the_first(sd: StableDiffusion) -> None:
    first = sd.txt2img("a cat", **OPTIONS).images[0]
    done = sd.txt2img("a cat", **OPTIONS, hires_scale=2, hires_strength=0, hires_upscaler="lanczos")
    large = first.resize((64, 32), Image.Resampling.LANCZOS)
    through = sd.img2img(large, "a cat", strength=0, watermark=False).images[0]
    assert np.abs(levels(done.images[0]) - levels(through)).max() <= 1
    anew = sd.txt2img("a cat", **OPTIONS, hires_scale=2, hires_strength=0.5, hires_upscaler="lanczos")
    onto = sd.img2img(large, "a cat", strength=0.5, **OPTIONS | {"width": 64, "height": 32})
    assert np.abs(levels(anew.images[0]) - levels(onto.images[0])).max() <= 1


def test_every_option_counts(sd: StableDiffusion, tmp_path: Path) -> None:
    white = {name: torch.zeros_like(one) for name, one in SRVGGNetCompact(3, 4, 1, 2).state_dict().items()}
    white["body.4.bias"] += 1
    file = tiny.write_file(tmp_path / "white.safetensors", white)
    ways = [
        {},
        {"hires_steps": 8},
        {"hires_strength": 0.75},
        {"hires_upscaler": "lanczos"},
        {"hires_upscaler": str(file)},
        {"hires_scale": 1.5},
    ]
    drawn = [sd.txt2img("a cat", **OPTIONS, **{"hires_scale": 2} | way) for way in ways]
    assert [one.images[0].size for one in drawn] == [(64, 32)] * 5 + [(48, 24)]
    assert len({one.images[0].tobytes() for one in drawn}) == len(ways)
    fields = infotext.parse(drawn[4].infotexts[0])[2]
    assert (fields["Size"], fields["Hires upscale"], fields["Hires upscaler"]) == ("32x16", "2", "white")
    assert fields["Denoising strength"] == "0.5" and "Hires steps" not in fields
    assert infotext.parse(drawn[1].infotexts[0])[2]["Hires steps"] == "8"


def test_pictures_do_not_depend_on_their_neighbours_and_steps_are_counted_through(sd: StableDiffusion) -> None:
    options = OPTIONS | {"hires_scale": 2}
    both = sd.txt2img("a cat", **options, n=2).images
    assert np.abs(levels(both[1]) - levels(sd.txt2img("a cat", **options | {"seed": 8}).images[0])).max() <= 1
    steps = [event for event in sd.stream("a cat", **options) if isinstance(event, Progress)]
    assert [event.step for event in steps] == [1, 2, 3, 4, 5, 6] and {event.steps for event in steps} == {6}


@pytest.mark.parametrize(("tiling", "axes"), [("x", (1,)), ("y", (0,)), ("both", (0, 1))])
def test_opposite_edges_fit_together(tiling: str, axes: tuple[int, ...], model: str) -> None:
    sd = sfumato.load(model, device="cpu")

    def seams(image: Image.Image) -> list[float]:
        """The step across the edge in y and in x, over the largest step between neighbouring rows or columns."""
        usual = levels(image)
        across = [np.abs(usual.take(0, axis) - usual.take(-1, axis)).mean() for axis in (0, 1)]
        return [one / np.abs(np.diff(usual, axis=axis)).mean((1 - axis, 2)).max() for axis, one in enumerate(across)]

    options = {"steps": 6, "seed": 1, "watermark": False, "width": 64, "height": 64}
    done = sd.txt2img("a pattern of leaves", **options, tiling=tiling)
    found = seams(done.images[0])
    assert all(found[axis] <= 1.2 for axis in axes), found
    assert (levels(done.images[0]) != levels(sd.txt2img("a pattern of leaves", **options).images[0])).any()
    assert infotext.parse(done.infotexts[0])[2]["Tiling"] == ("True" if tiling == "both" else tiling)
    assert sd.key.tiling is None


REFUSED = [
    (lambda sd: sd.txt2img("a cat", hires_strength=0.5), "hires_strength without hires_scale changes nothing"),
    (lambda sd: sd.txt2img("a cat", hires_scale=0.5), "hires_scale is 0.5; choose a number from 1 to 8"),
    (lambda sd: sd.txt2img("a cat", hires_scale=2, hires_strength=1.7), "hires_strength is 1.7"),
    (lambda sd: sd.txt2img("a cat", hires_scale=2, hires_steps=0), "hires_steps is 0"),
    (lambda sd: sd.txt2img("a cat", hires_scale=2, hires_upscaler="no.pth"), "no model at 'no.pth'"),
    (lambda sd: sd.txt2img("a cat", hires_scale=8, width=4096), "draws at most 8192 a side"),
    (lambda sd: sd.txt2img("a cat", hires_prompt="a dog"), "hires_prompt without hires_scale changes nothing"),
    (lambda sd: sd.txt2img("a cat", hires_scale=2, hires_prompt=5), "hires_prompt is 5; give one text in quotes"),
    (
        lambda sd: sd.txt2img("a cat", hires_scale=2, hires_sampler="DPM++ 2M Karras", hires_schedule="beta"),
        "ends in the schedule karras, but hires_schedule is 'beta'; give one",
    ),
    (
        lambda sd: sd.txt2img("a cat", hires_scale=2, sampler="euler", cfg_pp=True, hires_sampler="dpm_2"),
        "DPM2",
    ),
    (lambda sd: sd.txt2img("a cat", tiling="z"), "unknown tiling 'z'; choose one of x, y, both"),
    (lambda sd: sd.img2img(Image.new("RGB", (32, 32)), hires_scale=2), "drawn without hires_scale; leave it out"),
    (lambda sd: sd.upscale(Image.new("RGB", (32, 32)), tiling="x"), "drawn larger without tiling; leave it out"),
]


@pytest.mark.parametrize(("act", "message"), REFUSED)
def test_what_cannot_be_honoured_is_refused(
    sd: StableDiffusion, act: Callable[[StableDiffusion], object], message: str
) -> None:
    with pytest.raises(SfumatoError, match=message):
        act(sd)


def test_the_second_pass_has_its_own_words_sampler_and_schedule(sd: StableDiffusion) -> None:
    options: Any = {"hires_scale": 2, "hires_strength": 1.0, "seed": 3, "width": 32, "height": 16, "steps": 3}
    alike: Any = {"seed": 3, "width": 64, "height": 32, "steps": 3}
    done = sd.txt2img("a cat", **options, hires_prompt="a dog", sampler="euler", hires_sampler="DPM++ 2M Karras")
    (alone,) = sd.txt2img("a dog", **alike, sampler="dpmpp_2m", schedule="karras").images
    assert (levels(done.images[0]) == levels(alone)).all(), "at strength 1 it draws all anew"
    fields = infotext.parse(done.infotexts[0])[2]
    assert (fields["Sampler"], fields["Hires sampler"]) == ("Euler", "DPM++ 2M")
    assert (fields["Hires schedule type"], fields["Hires prompt"]) == ("Karras", "a dog")
    suits = Settings.of(sd1.SPEC, "a cat", hires_scale=2, hires_sampler="dpmpp_2m")
    assert suits.hires_schedule == SAMPLERS["dpmpp_2m"].schedule
    chosen = Settings.of(sd1.SPEC, "a cat", hires_scale=2, hires_sampler="dpmpp_2m", schedule="exponential")
    assert chosen.second_pass(sd1.SPEC).schedule == "exponential" and chosen.hires_schedule is None
    assert Settings.of(sd1.SPEC, "a cat", hires_scale=2, hires_prompt=" ").second_pass(sd1.SPEC).prompt == "a cat"
