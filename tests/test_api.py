"""Drawing from Python: every sampler and schedule, batches, streams, kinds of numbers, precision, threads, failures."""

import dataclasses
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion.noise_schedule import NoiseTable, training_sigmas
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.pipeline.events import Progress
from sfumato.pipeline.latents import encode
from sfumato.provenance import infotext
from sfumato.spec import NoiseSchedule

SMALL = {"steps": 2, "seed": 3, "width": 16, "height": 16}
KINDS = {"eps": ("eps", NoiseSchedule()), "v from pure noise": ("v", NoiseSchedule(zero_terminal_snr=True))}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture(params=KINDS)
def any_kind(request: pytest.FixtureRequest, sd: StableDiffusion) -> StableDiffusion:
    """The same weights, told that they predict this or that over these noise levels."""
    prediction, noise = KINDS[request.param]
    table = NoiseTable(training_sigmas(noise))
    sd.denoiser = dataclasses.replace(sd.denoiser, prediction=prediction, table=table)
    return sd


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_batch_holds_the_pictures_of_its_seeds(any_kind: StableDiffusion, name: str) -> None:
    options = SMALL | {"steps": 3, "sampler": name, "watermark": False}
    batch = any_kind.txt2img("a cat", **options, n=3)
    assert batch.seeds == [3, 4, 5]
    for k, (image, seed, text) in enumerate(zip(batch.images, batch.seeds, batch.infotexts, strict=True)):
        alone = any_kind.txt2img("a cat", **options | {"seed": seed})
        assert np.abs(levels(image) - levels(alone.images[0])).max() <= 1
        assert text == alone.infotexts[0]
        assert np.abs(levels(image) - levels(batch.images[k - 1])).max() > 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_in_few_steps(any_kind: StableDiffusion, name: str) -> None:
    # Every schedule ends as one of these does.
    for schedule, steps in product(("karras", "ddim_uniform", "trailing"), (1, 2, 3)):
        size = {"width": 8, "height": 8}  # latents that are not finite would be refused
        drawn = any_kind.txt2img("a cat", sampler=name, schedule=schedule, **SMALL | size | {"steps": steps})
        assert infotext.parse(drawn.infotexts[0])[2]["Steps"] == str(steps)


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
def test_every_schedule_draws_in_few_steps(any_kind: StableDiffusion, name: str) -> None:
    for steps in (1, 2, 3, 24):
        drawn = any_kind.txt2img("a cat", sampler="dpmpp_2m", schedule=name, **SMALL | {"steps": steps})
        assert infotext.parse(drawn.infotexts[0])[2]["Schedule type"] == SIGMA_SCHEDULES[name].label


@pytest.mark.parametrize(
    "number", [np.int64, np.uint8, np.asarray, torch.tensor], ids=["int64", "uint8", "array", "tensor"]
)
def test_numbers_of_other_libraries(sd: StableDiffusion, number: Callable[[int], object]) -> None:
    own = SMALL | {"cfg": 3, "clip_skip": 2, "n": 2}
    ours, theirs = (
        sd.txt2img("a cat", **options) for options in (own, {name: number(value) for name, value in own.items()})
    )
    assert ours.infotexts == theirs.infotexts and ours.images == theirs.images
    assert [type(seed) for seed in theirs.seeds] == [int, int]
    single, double = (sd.txt2img("a cat", **SMALL, cfg=kind(2.5)) for kind in (np.float32, float))
    assert single.infotexts == double.infotexts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(("steps", "seed", "width", "height", "n", "clip_skip"), ("2", 2.0, True, [2], np.float32(2))),
        *product(("cfg",), ("2", True, 1j, float("nan"), float("inf"), 10**400, [2])),
        *product(("sampler", "schedule"), (5, b"euler", ["euler"], "")),
        *product(("prompt", "negative"), (5, b"a cat", ["a cat"], Path("cat"))),
        *product(("prompt", "negative"), (None,)),
        ("watermark", "no"),
        ("seed", 2**64),
    ],
)
def test_what_is_no_setting_is_refused_at_once(sd: StableDiffusion, name: str, value: object) -> None:
    options = SMALL | {"prompt": "a cat", name: value}
    with pytest.raises(SfumatoError, match=rf"^{name} is |the {name}|unknown {name}"):
        sd.stream(**options)


def test_samplers_and_schedules_by_the_names_of_web_uis(sd: StableDiffusion) -> None:
    for sampler, schedule in ((" DPM++2M ", "SGM Uniform"), ("dpm++ 2m", "sgm-uniform"), ("DPMPP_2M", "sgmuniform")):
        text = sd.txt2img("a cat", **SMALL, sampler=sampler, schedule=schedule).infotexts[0]
        assert "Sampler: DPM++ 2M, Schedule type: SGM Uniform" in text


def test_a_stream_shows_every_step_and_can_be_closed(sd: StableDiffusion) -> None:
    stream = sd.stream("a cat", **SMALL, n=2)
    event = next(stream)
    assert isinstance(event, Progress) and (event.picture, event.step, event.steps) == (0, 1, 2)
    assert event.preview().size == (8, 8)
    stream.close()
    assert list(stream) == []
    sd.stream("a cat", **SMALL).close()  # before it began
    whole = list(sd.stream("a cat", **SMALL, n=2))
    assert len([event for event in whole if isinstance(event, Progress)]) == 4 and len(whole) == 6


def test_gradients_are_neither_needed_nor_made(sd: StableDiffusion) -> None:
    alone = sd.txt2img("a cat", **SMALL).images
    sd.denoiser.network.requires_grad_(True)
    with torch.enable_grad():
        for event in sd.stream("a cat", **SMALL):
            assert torch.is_grad_enabled()
            assert not isinstance(event, Progress) or event.preview()
        assert not sd.encode(["a cat"])[0].tokens.requires_grad
    with torch.inference_mode():
        assert sd.txt2img("a cat", **SMALL).images == alone
    assert sd.txt2img("a cat", **SMALL).images == alone


def test_the_surroundings_neither_change_a_picture_nor_are_changed(sd: StableDiffusion, model: str) -> None:
    alone = sd.txt2img("a cat", **SMALL).images
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        assert sfumato.load(model).txt2img("a cat", **SMALL).images == alone
        assert [event.preview().size for event in sd.stream("a cat", **SMALL) if isinstance(event, Progress)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_share_a_model(sd: StableDiffusion) -> None:
    def draw(seed: int) -> list[Image.Image]:
        samplers = ("euler_ancestral", "dpmpp_sde", "plms")
        return [sd.txt2img("a cat", **SMALL | {"seed": seed}, sampler=name).images[0] for name in samplers]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(8)))
    assert together == [draw(seed) for seed in range(8)]


def test_an_autoencoder_whose_numbers_leave_half_precision_stays_in_it(
    sd: StableDiffusion, model: str, recwarn: pytest.WarningsRecorder
) -> None:
    half = sfumato.load(model, dtype="float16")
    for one in (half, sd):  # its streams then go to some 100,000, and every later layer begins with a norm
        one.vae.decoder.up_blocks[0].upsamplers[0].conv.weight *= 2.0**11
        one.vae.encoder.conv_in.weight *= 2.0**18
    found, full = (one.txt2img("a cat", watermark=False, **SMALL)[0] for one in (half, sd))
    assert np.abs(levels(found) - levels(full)).mean() < 4 and "in_range" in vars(half.vae)
    pixels = torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16)
    assert torch.allclose(encode(half.vae, pixels), encode(sd.vae, pixels), atol=0.02)
    assert not recwarn.list and "in_full" not in vars(half.vae)


def test_smaller_numbers_inside_an_autoencoder_change_nothing(sd: StableDiffusion) -> None:
    pixels = torch.linspace(-1, 1, 3072).reshape(1, 3, 32, 32)
    with torch.no_grad():
        moments = sd.vae.encode(pixels)
        assert torch.equal(sd.vae.in_range.encode(pixels), moments)
        latents = moments.chunk(2, 1)[0]
        assert torch.equal(sd.vae.in_range.decode(latents), sd.vae.decode(latents))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_model_that_ships_draws_in_half_precision(
    embedded: StableDiffusion, dtype: torch.dtype, recwarn: pytest.WarningsRecorder
) -> None:
    half, options = sfumato.load(dtype=dtype), {"seed": 5, "steps": 2}
    options |= {"width": 64, "height": 96}
    found, full = (one.txt2img("a red heart", **options)[0] for one in (half, embedded))
    assert np.abs(levels(found) - levels(full)).mean() < 3
    found, full = (one.img2img(full, "a blue heart", strength=0.5, **options)[0] for one in (half, embedded))
    assert np.abs(levels(found) - levels(full)).mean() < 3
    assert not [one for one in recwarn.list if issubclass(one.category, SfumatoWarning)]


@pytest.fixture(scope="module")
def embedded() -> StableDiffusion:
    return sfumato.load()


@pytest.mark.parametrize("dtype", ["float16", "BF16", torch.bfloat16])
def test_half_precision_draws_nearly_the_same(sd: StableDiffusion, model: str, dtype: str | torch.dtype) -> None:
    half, full = (one.txt2img("a cat", **SMALL).images[0] for one in (sfumato.load(model, "cpu", dtype), sd))
    assert np.abs(levels(half) - levels(full)).mean() < 4


@pytest.mark.parametrize(
    ("native", "small", "expected"),
    [(True, 0, torch.bfloat16), (True, 10**9, torch.float32), (False, 0, torch.float32)],
)
def test_auto_takes_bfloat16_where_a_large_model_gains_by_it(
    native: bool, small: int, expected: torch.dtype, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.pipeline.load.multiplies_bfloat16", lambda: native)
    monkeypatch.setattr("sfumato.pipeline.load.SMALL", small)
    assert sfumato.load(model, "cpu", "auto").dtype == expected
    assert sfumato.load(model, "cpu").dtype == torch.float32


def test_an_autoencoder_that_overflows_in_half_precision_decodes_in_full(sd: StableDiffusion, model: str) -> None:
    half = sfumato.load(model, dtype="float16")
    for one in (half, sd):
        # Every later layer begins with a norm: in float32 this changes little.
        one.vae.decoder.conv_in.weight *= 2.0**12
        one.vae.decoder.up_blocks[0].upsamplers[0].conv.weight *= 2.0**15
    tries = []
    half.vae.decoder.register_forward_hook(lambda _, z, pixels: tries.append(pixels.dtype))
    with pytest.warns(SfumatoWarning, match="runs in float32 from here on") as told:
        found = [one.txt2img("a cat", **SMALL, n=3, watermark=False).images for one in (half, sd)]
    # As it is, with smaller numbers inside, and then in full.
    assert len(told) == 1 and tries.count(torch.float16) == 2 and tries.count(torch.float32) == 3
    for ours, full in zip(*found, strict=True):
        assert levels(full).std() > 1
        assert np.abs(levels(ours) - levels(full)).mean() < 4
    assert half.preview_colours.isfinite().all() and half.vae.post_quant_conv.weight.dtype == torch.float16


def test_an_autoencoder_that_overflows_in_half_precision_encodes_in_full(sd: StableDiffusion, model: str) -> None:
    half, pixels = sfumato.load(model, dtype="float16"), torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16)
    for one in (half, sd):
        one.vae.encoder.conv_in.weight *= 2.0**15
        one.vae.encoder.down_blocks[0].downsamplers[0].conv.weight *= 2.0**15
    with pytest.warns(SfumatoWarning, match="runs in float32"):
        ours = encode(half.vae, pixels)
    assert ours.dtype == torch.float32 and torch.allclose(ours, encode(sd.vae, pixels), atol=0.02)


def test_a_picture_that_is_not_finite_at_all_is_refused(sd: StableDiffusion) -> None:
    sd.vae.decoder.conv_out.weight.fill_(torch.inf)
    with pytest.raises(SfumatoError, match="picture is not finite"):
        sd.txt2img("a cat", **SMALL)


def test_estimates_that_are_not_finite_make_no_picture(sd: StableDiffusion) -> None:
    sd.denoiser.network.conv_out.weight.fill_(torch.inf)
    with pytest.raises(SfumatoError, match="not finite; load the model as float32"):
        sd.txt2img("a cat", **SMALL)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_told(sd: StableDiffusion, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(sd.vae.decoder, "forward", fail)
    with pytest.raises(SfumatoError, match="not enough memory for pictures of this size"):
        sd.txt2img("a cat", **SMALL)


def test_other_errors_of_torch_stay_what_they_are(sd: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(sd.denoiser.network, "forward", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        sd.txt2img("a cat", **SMALL)


@pytest.mark.parametrize("name", ["", "nowhere", "~nobody/model", "x" * 5000, "a\0b", 5, b"x", ["x"], True])
def test_what_is_no_model_is_refused(name: object) -> None:
    with pytest.raises(SfumatoError, match="no model at"):
        sfumato.load(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["tpu", "", "meta", "cuda:99", 99, ["cpu"]])
def test_unknown_devices_are_refused(device: object) -> None:
    with pytest.raises(SfumatoError, match="cannot be used here"):
        sfumato.load(None, device)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["", "int4", "float64", 5, ["float16"], torch.int8, float])
def test_unknown_types_are_refused(dtype: object) -> None:
    with pytest.raises(SfumatoError, match="unknown dtype"):
        sfumato.load(None, "cpu", dtype)  # type: ignore[arg-type]


def test_a_tokenizer_that_is_not_the_model_s_is_refused(model: str, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(model, folder)
    shutil.rmtree(folder / "tokenizer")  # then CLIP's own serves
    with pytest.raises(SfumatoError, match="has 49408 symbols, its text encoder only 516"):
        sfumato.load(folder)


def test_a_model_is_named_after_its_folder(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    for path in (model, model + "/", Path(model), ".", "vae/.."):
        assert sfumato.load(path).name == "tiny"


def test_settings_of_t5_are_refused_where_nothing_reads_it(model: str) -> None:
    for setting in ({"t5_length": 77}, {"t5_tokenizer": "spiece.model"}):
        with pytest.raises(SfumatoError, match="does not read T5; leave its tokenizer"):
            sfumato.load(model, **setting)


def test_one_text_encoder_needs_no_list(model: str) -> None:
    plain, given = sfumato.load(model), sfumato.load(model, text_encoders=Path(model) / "text_encoder")
    assert given.txt2img("a cat", **SMALL).images == plain.txt2img("a cat", **SMALL).images
