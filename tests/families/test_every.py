"""Every family on a complete tiny model: both layouts load to the same networks, and words become pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sfumato
from sfumato.api import StableDiffusion
from sfumato.families import FAMILIES, Family
from sfumato.loading.load import load_parts
from sfumato.loading.save import save_folder
from sfumato.pipeline.events import Picture, Progress
from sfumato.settings.settings import Settings
from sfumato.spec import Spec
from sfumato.tasks.upscale import NOISE_LEVEL, UpscaleOptions, upscale
from sfumato.text.tokenizer import CLIPTokenizer
from tiny import WORDS, random_networks, shrink, tensors, write_file

LAYOUTS = ("original", "diffusers")
SAMPLERS = ("dpmpp_2m", "euler_ancestral", "dpmpp_2m_sde")  # deterministic, with fresh noise, along a Brownian path
DRAW = {"steps": 2, "cfg": 3.0, "width": 32, "height": 16, "seed": 3, "schedule": "discrete", "watermark": False}


@dataclass(frozen=True)
class Tiny:
    """A family's tiny model, its file and its folder, and the model that `sfumato.load` makes of the file."""

    family: Family
    spec: Spec
    networks: dict[str, nn.Module]
    paths: dict[str, Path]
    model: StableDiffusion

    def draw(self, prompt: str = "a red heart", negative: str = "", **options: object) -> list[np.ndarray]:
        return drawn(self.model, prompt, negative, **options)


def drawn(
    model: StableDiffusion, prompt: str = "a red heart", negative: str = "", **changed: object
) -> list[np.ndarray]:
    """Pictures from words; an upscaler is shown a small one besides, unCLIP one that it varies."""
    options = DRAW | varied(model) | changed
    if model.spec.low_res is None:
        done = model.txt2img(prompt, negative, **options)
    else:
        done = model.upscale(shown(model, options.pop("width"), options.pop("height")), prompt, negative, **options)
    return [levels(image) for image in done.images]


def varied(model: StableDiffusion) -> dict[str, Image.Image]:
    return {} if model.spec.image is None else {"image_prompt": Image.linear_gradient("L").convert("RGB")}


def shown(model: StableDiffusion, width: int, height: int) -> Image.Image:
    factor = model.spec.vae.factor
    return Image.linear_gradient("L").resize((width // factor, height // factor))


def events(model: StableDiffusion) -> Generator[Progress | Picture, None, None]:
    if model.spec.low_res is None:
        return model.stream("a red heart", **DRAW, **varied(model))
    settings = Settings.of(model.spec, "a red heart", **DRAW)
    return upscale(
        model, shown(model, settings.width, settings.height), settings, UpscaleOptions(noise_level=NOISE_LEVEL)
    )


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, int)


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """CLIP's own vocabulary, which single files leave unsaid, is that of the tiny models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLIPTokenizer, "openai", lambda: WORDS)
        yield


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def tiny(request: pytest.FixtureRequest, few_words: None, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    family: Family = request.param
    spec = shrink(family.spec)
    networks = random_networks(family, spec)
    folder = tmp_path_factory.mktemp(family.name)
    paths = {"original": folder / "model.safetensors", "diffusers": folder / "model"}
    write_file(paths["original"], tensors(family, spec, networks, "original"))
    save_folder(paths["diffusers"], spec, networks)
    return Tiny(family, spec, networks, paths, sfumato.load(paths["original"], device="cpu"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_is_read_as_it_was_written(tiny: Tiny, layout: str) -> None:
    parts = load_parts(tiny.paths[layout])
    assert parts.report.layout == layout
    expected = tiny.family.layouts[layout].fit(tiny.spec, {})
    if expected.prior is not None:  # what its transformer saw in training follows from its default size
        seen = expected.defaults.width // (expected.vae.factor * expected.transformer.patch)
        expected = replace(expected, transformer=replace(expected.transformer, seen=seen))
    assert parts.spec == expected
    for part, network in parts.networks.items():
        written = tiny.networks[part].state_dict()
        assert all(torch.equal(tensor, written[name]) for name, tensor in network.state_dict().items())


def test_both_layouts_draw_the_same_picture(tiny: Tiny) -> None:
    folder = sfumato.load(tiny.paths["diffusers"], device="cpu")
    assert (drawn(folder)[0] == tiny.draw()[0]).all()


def test_there_and_back_is_bit_identical(tiny: Tiny) -> None:
    first = {layout: tensors(tiny.family, tiny.spec, tiny.networks, layout) for layout in LAYOUTS}
    networks = tiny.networks
    for layout in (*LAYOUTS, *LAYOUTS):
        state = tensors(tiny.family, tiny.spec, networks, layout)
        assert state.keys() == first[layout].keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in first[layout].items())
        keymap, networks = tiny.family.keymap(tiny.spec, layout, networks), tiny.family.build(tiny.spec)
        for part, network in networks.items():
            network.load_state_dict(keymap.to_ours(part, state.__getitem__), strict=True, assign=True)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_three_at_once_are_three_singles(tiny: Tiny, sampler: str) -> None:
    three = tiny.draw(sampler=sampler, n=3)
    singles = [tiny.draw(sampler=sampler, seed=DRAW["seed"] + k)[0] for k in range(3)]
    for one, alone in zip(three, singles, strict=True):
        assert np.abs(one - alone).max() <= 1  # a batch rounds otherwise than one row
    assert (singles[0] != singles[1]).any() and (singles[1] != singles[2]).any()


def test_every_setting_counts(tiny: Tiny) -> None:
    said = {"prompt": "two cats"}  # a reader of random weights may take "a red heart" for no words at all
    (plain,) = tiny.draw(**said)
    assert plain.shape == (16, 32, 3) and plain.std() > 1
    assert (tiny.draw(**said)[0] == plain).all()
    for changed in (
        {"prompt": "a blue cat"}, {"negative": "a cat"}, {"cfg": 1.5}, {"steps": 3}, {"clip_skip": 2},
        {"sampler": "heun"}, {"schedule": "trailing"},
    ):  # fmt: skip
        assert (tiny.draw(**{**said, **changed})[0] != plain).any(), changed
    assert tiny.draw(width=16, height=32)[0].shape == (32, 16, 3)


def test_without_guidance_the_negative_prompt_is_not_read(tiny: Tiny) -> None:
    plain, negative = (tiny.draw(negative=negative, cfg=1.0)[0] for negative in ("", "a cat"))
    assert (plain == negative).all()
    assert (plain != tiny.draw("a blue cat", cfg=1.0)[0]).any()


def test_a_stream_tells_every_step_and_can_be_closed(tiny: Tiny) -> None:
    (expected,) = tiny.draw()
    with closing(events(tiny.model)) as cut:
        next(cut)
    whole = list(events(tiny.model))
    assert [event.step for event in whole if isinstance(event, Progress)] == [1, 2]
    assert whole[0].preview().size == tuple(DRAW[side] // tiny.spec.vae.factor for side in ("width", "height"))
    assert isinstance(whole[-1], Picture)
    assert (levels(whole[-1].image) == expected).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_draws_nearly_the_same(tiny: Tiny, dtype: str) -> None:
    model = sfumato.load(tiny.paths["original"], device="cpu", dtype=dtype)
    half = drawn(model)[0]
    off = np.abs(half - tiny.draw()[0]).mean()
    assert off < (3 if dtype == "float16" else 12)


def test_a_prediction_that_no_file_states_can_be_given(tmp_path: Path) -> None:
    family = next(family for family in FAMILIES if family.name == "sd2")
    spec = shrink(family.spec)
    path = tmp_path / "model.safetensors"
    write_file(path, tensors(family, spec, random_networks(family, spec), "original"))
    specs = [load_parts(path, prediction=given).spec for given in (None, "eps")]
    assert [(spec.prediction, spec.defaults.width) for spec in specs] == [("v", 768), ("eps", 512)]
