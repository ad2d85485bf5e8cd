"""Drawing a picture larger: as diffusers' pipeline does it, and what may be asked of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionUpscalePipeline
from PIL import Image

import sfumato
import tiny
from sfumato.api import StableDiffusion
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.nets.srvgg import SRVGGNetCompact
from sfumato.pipeline.conditioning import cond_of_window
from sfumato.provenance import infotext
from sfumato.tasks import upscale
from sfumato.tasks.upscale import filled

OPTIONS = {"steps": 4, "cfg": 3.0, "seed": 7, "watermark": False}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(levels)


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, int)


@pytest.fixture(scope="module")
def model(upscaler: Path) -> StableDiffusion:
    return sfumato.load(upscaler, device="cpu")


@pytest.mark.parametrize("noise_level", [0, 350])
def test_equals_diffusers(model: StableDiffusion, upscaler: Path, noise_level: int) -> None:
    small = picture(24, 16)
    (ours,) = model.upscale(small, "a cat", "a dog", noise_level=noise_level, **OPTIONS).images
    pipeline = StableDiffusionUpscalePipeline.from_pretrained(upscaler)
    pipeline.set_progress_bar_config(disable=True)
    (theirs,) = pipeline(
        "a cat",
        small,
        negative_prompt="a dog",
        num_inference_steps=OPTIONS["steps"],
        guidance_scale=OPTIONS["cfg"],
        noise_level=noise_level,
        generator=torch.Generator().manual_seed(OPTIONS["seed"]),
    ).images
    assert ours.size == theirs.size == (96, 64)
    assert levels(ours).std() > 1
    assert np.abs(levels(ours) - levels(theirs)).max() <= 2


def test_every_setting_counts(model: StableDiffusion) -> None:
    small = picture(9, 7)
    done = model.upscale(small, **OPTIONS, n=2)
    assert [image.size for image in done.images] == [(36, 28)] * 2 and done.seeds == [7, 8]
    prompt, _, fields = infotext.parse(done.infotexts[1])
    assert (prompt, fields["Noise level"], fields["Size"], fields["Seed"]) == ("", "20", "36x28", "8")
    plain, second = map(levels, done.images)
    assert np.abs(levels(model.upscale(small, **OPTIONS | {"seed": 8}).images[0]) - second).max() <= 1
    others = [
        model.upscale(picture(9, 7, seed=1), **OPTIONS),
        model.upscale(small, "a cat", **OPTIONS),
        model.upscale(small, noise_level=21, **OPTIONS),
        model.upscale(small, **OPTIONS, sampler="dpmpp_2m_sde"),
    ]
    assert all((levels(other.images[0]) != plain).any() for other in others)


def test_sides_are_filled_up_at_the_end() -> None:
    small = picture(9, 8)
    pixels = filled(small, 4)
    assert pixels.shape == (1, 3, 8, 12)
    assert torch.equal(pixels[:, :, :, 9:], pixels[:, :, :, 8:9].expand(-1, -1, -1, 3))
    assert np.abs((pixels[0, :, :, :9].permute(1, 2, 0).numpy() + 1) * 127.5 - levels(small)).max() < 1e-4


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda model: model.upscale(picture(4096, 2048)), "16384x8192 pixels; the limit is 67,108,864"),
        (lambda model: model.upscale(picture(8, 8), scale=2), "draws 4 times as large, not 2; leave scale out"),
        (lambda model: model.upscale(picture(8, 8), strength=0.5), "needs no strength; leave it out"),
        (lambda model: model.upscale(picture(8, 8), width=64), "leave width and height out"),
        (lambda model: model.upscale(picture(8, 8), noise_level=351), "351; choose a whole number from 0 to 350"),
        (lambda model: model.upscale(picture(8, 8), noise_level=0.5), "0.5; choose a whole number"),
        (lambda model: model.upscale("no.png"), "there is no file no.png"),
        (lambda model: model.txt2img("a cat"), "nothing from words alone; use `sfumato upscale` or sd.upscale"),
    ],
)
def test_what_cannot_be_done_is_refused(
    model: StableDiffusion, act: Callable[[StableDiffusion], object], message: str
) -> None:
    with pytest.raises(SfumatoError, match=message.replace(".", r"\.")):
        act(model)


def test_large_pictures_are_drawn_in_windows(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    small = picture(24, 16)
    whole = levels(model.upscale(small, **OPTIONS).images[0])
    monkeypatch.setattr(upscale, "WHOLE", 8)
    monkeypatch.setattr(upscale, "WINDOW", 12)
    seen = widths(model, monkeypatch)
    (drawn,) = model.upscale(small, **OPTIONS).images
    assert drawn.size == (96, 64) and set(seen) == {(12, 12)}
    assert 0 < np.abs(levels(drawn) - whole).mean() < whole.std()  # the same noise, the same picture to go by


def widths(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Fills with the sizes of the maps that the network is asked about."""
    seen: list[tuple[int, ...]] = []
    network = model.denoiser.network

    def asked(x: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(tuple(x.shape[2:]))
        return type(network).forward(network, x, *rest)

    monkeypatch.setattr(network, "forward", asked)
    return seen


@pytest.fixture(scope="module")
def embedded() -> StableDiffusion:
    return sfumato.load(device="cpu")


def test_any_model_draws_over_any_size(embedded: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = widths(embedded, monkeypatch)
    small = picture(70, 130).resize((70, 130))
    done = embedded.upscale(small, "a cat", scale=1.9, strength=0.5, steps=4, seed=3, watermark=False)
    assert done.images[0].size == (133, 247)
    assert set(seen) == {(16, 10)}  # one window of 256 pixels is enough
    fields = infotext.parse(done.infotexts[0])[2]
    assert (fields["Size"], fields["Denoising strength"], fields["SD upscale upscaler"]) == (
        "133x247",
        "0.5",
        "Lanczos",
    )


def test_strength_0_is_the_enlarged_picture(embedded: StableDiffusion) -> None:
    small = Image.linear_gradient("L").convert("RGB").resize((48, 40))
    (done,) = embedded.upscale(small, scale=4, strength=0, watermark=False).images
    large = small.resize((192, 160), Image.Resampling.LANCZOS)
    assert np.abs(levels(done) - levels(large)).mean() < 8


def test_an_upscaler_of_pixels_comes_first(embedded: StableDiffusion, tmp_path: Path) -> None:
    state = tiny.randomise(SRVGGNetCompact(3, 4, 1, 2)).state_dict()
    state = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    state["body.4.bias"] += 1  # white, whatever it sees
    file = tiny.write_file(tmp_path / "white.safetensors", state)
    done = embedded.upscale(picture(40, 40), upscaler=file, strength=0, watermark=False)
    assert done.images[0].size == (80, 80) and levels(done.images[0]).mean() > 240
    assert infotext.parse(done.infotexts[0])[2]["SD upscale upscaler"] == "white"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.5}, "scale is 0.5; choose a number from 1 to 16"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"strength": 1.7}, "strength is 1.7; choose a number from 0 to 1"),
        ({"overlap": 0.9}, "overlap is 0.9; choose a number from 0 to 0.5"),
        ({"noise_level": 20}, "has no noise_level; give a strength"),
        ({"upscaler": "no.pth"}, "cannot open no.pth"),
    ],
)
def test_bad_options_of_any_model(embedded: StableDiffusion, options: dict, message: str) -> None:
    with pytest.raises(SfumatoError, match=message.replace(".", r"\.")):
        embedded.upscale(picture(8, 8), **options)


def test_windows_of_xl_are_told_where_they_lie() -> None:
    spec = family("sdxl").spec
    cond = Cond(torch.zeros(1, 1, 1), ids=torch.tensor([[2048.0, 1536.0, 8.0, 16.0, 2048.0, 1536.0]]))
    told = cond_of_window(spec, cond, (slice(64, 192), slice(32, 160)))
    assert told.ids.tolist() == [[2048, 1536, 8 + 512, 16 + 256, 1024, 1024]]
