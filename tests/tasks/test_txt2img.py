"""What decides a picture besides prompt and seed: sizes and scores that XL is told, rescale, hand-over to a refiner."""

from dataclasses import replace

import pytest
import torch

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import FlowTable
from sfumato.errors import SfumatoError
from sfumato.families import sd1, sdxl
from sfumato.pipeline.conditioning import size_ids
from sfumato.provenance import infotext
from sfumato.settings.settings import Settings
from sfumato.tasks.txt2img import switch_level

SMALL = {"steps": 10, "seed": 3, "width": 16, "height": 16, "watermark": False}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def told(spec: sfumato.spec.Spec, **settings: object) -> list[float]:
    return size_ids(spec, Settings.of(spec, "a cat", width=1024, height=768, **settings), None).tolist()[0]


def test_xl_is_told_the_drawn_size_or_what_the_user_says() -> None:
    assert told(sdxl.SPEC) == [768, 1024, 0, 0, 768, 1024]
    assert told(sdxl.SPEC, original_size=[4096, 2048], crop=(64, 8), target_size=(512, 256)) == [
        2048, 4096, 8, 64, 256, 512,
    ]  # fmt: skip
    assert told(sdxl.REFINER) == [768, 1024, 0, 0, 6.0]
    assert size_ids(sd1.SPEC, Settings.of(sd1.SPEC, "a cat"), None) is None


@pytest.mark.parametrize(
    ("spec", "setting", "words"),
    [
        (sd1.SPEC, {"original_size": (512, 512)}, "Stable Diffusion 1.x is not conditioned on original_size"),
        (sd1.SPEC, {"crop": (0, 0)}, "not conditioned on crop"),
        (sdxl.SPEC, {"aesthetic_score": 7}, "Stable Diffusion XL is not conditioned on aesthetic_score"),
        (sdxl.REFINER, {"target_size": (512, 512)}, "not conditioned on target_size"),
        (sdxl.REFINER, {"aesthetic_score": 11}, "from 0 to 10"),
        (sdxl.SPEC, {"crop": (-1, 0)}, "two numbers from 0"),
        (sdxl.SPEC, {"original_size": (0, 5)}, "two numbers from 1"),
        (sdxl.SPEC, {"target_size": "512x512"}, "two whole numbers"),
        (sdxl.SPEC, {"crop": (0.5, 1)}, "two whole numbers"),
        (sd1.SPEC, {"cfg_rescale": 1.5}, "from 0 to 1"),
        (sd1.SPEC, {"cfg_rescale": float("nan")}, "from 0 to 1"),
        (sd1.SPEC, {"switch_at": 0.8}, "needs a refiner"),
        (sdxl.SPEC, {"switch_at": 1, "refiner": sdxl.REFINER}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_honoured_is_refused(spec: sfumato.spec.Spec, setting: dict[str, object], words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        Settings.of(spec, "a cat", **setting)


def test_a_refiner_brings_its_share_and_its_score() -> None:
    assert Settings.of(sdxl.SPEC, "a cat", refiner=sdxl.REFINER).switch_at == 0.8
    assert Settings.of(sdxl.SPEC, "a cat", refiner=sdxl.REFINER, aesthetic_score=7).aesthetic_score == 7


def test_the_share_is_one_of_times(sd: StableDiffusion) -> None:
    for share, first in ((0.8, 200), (0.3, 700), (0.99, 10)):
        level = switch_level(sd.table, share)
        below, at = sd.table.sigma(torch.tensor([first - 1, first])).tolist()
        assert below < level < at


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "unipc"])
def test_the_same_model_as_refiner_draws_the_same(sd: StableDiffusion, model: str, sampler: str) -> None:
    alone = sd.txt2img("a cat", "a dog", **SMALL, sampler=sampler)
    handed = sd.txt2img("a cat", "a dog", **SMALL, sampler=sampler, refiner=sfumato.load(model), switch_at=0.5)
    assert alone.images[0].tobytes() == handed.images[0].tobytes()
    fields = infotext.parse(handed.infotexts[0])[2]
    assert (fields["Refiner"], fields["Refiner switch at"]) == (f"{sd.name} [{sd.hash}]", "0.5")
    assert "Refiner" not in alone.infotexts[0]


def test_the_refiner_draws_below_its_share(sd: StableDiffusion, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refiner, called = sfumato.load(model), []
    for one in (sd, refiner):
        forward = one.denoiser.network.forward

        def spy(x, t, cond, one=one, forward=forward):
            called.append((one, t[0].item(), len(x)))
            return forward(x, t, cond)

        monkeypatch.setattr(one.denoiser.network, "forward", spy)
    sd.txt2img("a cat", **SMALL, n=2, sampler="euler", schedule="trailing", refiner=refiner, switch_at=0.7)
    assert [round(t) for _, t, _ in called] == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert all((one is refiner) is (t < 300 - 1e-6) and rows == 4 for one, t, rows in called)


def test_a_refiner_of_other_latents_is_refused(sd: StableDiffusion, model: str) -> None:
    other = sfumato.load(model)
    other.spec = replace(other.spec, vae=replace(other.spec.vae, scale=0.13025))
    with pytest.raises(SfumatoError, match="cannot go on from the latents"):
        sd.txt2img("a cat", **SMALL, refiner=other)
    flow = sfumato.load(model)
    flow.denoiser = Denoiser(flow.denoiser.network, "flow", FlowTable())
    with pytest.raises(SfumatoError, match="cannot go on from the latents"):
        sd.txt2img("a cat", **SMALL, refiner=flow)
    with pytest.raises(SfumatoError, match="give a loaded model"):
        sd.txt2img("a cat", **SMALL, refiner=model)


def test_rescale_changes_the_picture_and_is_told(sd: StableDiffusion) -> None:
    plain, rescaled = (sd.txt2img("a cat", **SMALL, cfg=20, cfg_rescale=share) for share in (0, 0.7))
    assert plain.images[0].tobytes() != rescaled.images[0].tobytes()
    assert infotext.parse(rescaled.infotexts[0])[2]["CFG Rescale"] == "0.7"
    assert "Rescale" not in plain.infotexts[0]
