"""Options of samplers and schedules, and lists of noise levels, from the user to the picture and its settings."""

import numpy as np
import pytest

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.families import sd1, sdxl
from sfumato.provenance import infotext
from sfumato.settings.settings import Settings

SMALL = {"steps": 4, "seed": 3, "width": 16, "height": 16, "watermark": False}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def drawn(sd: StableDiffusion, **options: object) -> tuple[bytes, dict[str, str]]:
    """The pixels, and the fields of the infotext."""
    result = sd.txt2img("a cat", **SMALL | options)
    return result.images[0].tobytes(), infotext.parse(result.infotexts[0])[2]


@pytest.mark.parametrize(
    ("sampler", "options", "fields"),
    [
        ("euler_ancestral", {"eta": 0.3, "s_noise": 1.1}, {"Eta": "0.3", "Sigma noise": "1.1"}),
        ("ddim", {"eta": 0.5}, {"Eta DDIM": "0.5"}),
        ("heun", {"s_churn": 2, "s_tmax": 9}, {"Sigma churn": "2", "Sigma tmax": "9"}),
        ("unipc", {"variant": "bh2", "order": 3}, {"UniPC variant": "bh2", "UniPC order": "3"}),
        ("dpmpp_2m", {"rho": 3}, {"Schedule rho": "3"}),
    ],
)  # fmt: skip
def test_options_change_the_picture_and_are_written(sd, sampler: str, options: dict, fields: dict) -> None:
    plain, told = drawn(sd, sampler=sampler)
    changed, written = drawn(sd, sampler=sampler, sampler_options=options)
    assert changed != plain
    assert not set(fields) & set(told)
    assert {name: written.get(name) for name in fields} == fields


def test_without_noise_an_ancestral_sampler_is_an_ordinary_one(sd) -> None:
    assert drawn(sd, sampler="Euler a", sampler_options={"eta": 0})[0] == drawn(sd, sampler="Euler")[0]


def test_defaults_may_be_given(sd) -> None:
    assert drawn(sd, sampler="euler_a", sampler_options={"eta": np.float32(1)})[0] == drawn(sd, sampler="euler_a")[0]
    assert drawn(sd, sampler_options={})[0] == drawn(sd)[0]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_an_own_list_of_noise_levels(sd, kind) -> None:
    pixels, fields = drawn(sd, sampler="euler", sigmas=kind([14.6, 3, 0.5, 0]), steps=None)
    assert (fields["Steps"], fields["Schedule type"]) == ("3", "Custom")
    assert [float(level) for level in fields["Sigmas"].split(",")] == [14.6, 3, 0.5, 0]
    assert pixels == drawn(sd, sampler="euler", sigmas=[14.6, 3, 0.5, 0], steps=3)[0] != drawn(sd, sampler="euler")[0]


def test_one_name_for_align_your_steps_means_what_was_made_for_the_model() -> None:
    schedules = [Settings.of(spec, "a cat", schedule="Align Your Steps").schedule for spec in (sd1.SPEC, sdxl.SPEC)]
    assert schedules == ["align_your_steps", "align_your_steps_xl"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sampler_options": {"eta": 1}}, r"DPM\+\+ 2M on the schedule Karras has no option 'eta'; it has rho"),
        ({"sampler_options": {"rho": 3}, "sigmas": [3, 0]}, r"DPM\+\+ 2M has no option 'rho'; it has none"),
        ({"sampler_options": [("eta", 1)]}, "give names with values"),
        ({"sampler": "euler", "sampler_options": {"s_churn": -1}}, "s_churn is -1; choose a number from 0"),
        ({"sigmas": [3]}, "two or more falling numbers"),
        ({"sigmas": "3,0"}, "two or more falling numbers"),
        ({"sigmas": [3, "x", 0]}, "two or more falling numbers"),
        ({"sigmas": [3, 1, 0], "steps": 4}, "3 sigmas are 2 steps of no schedule"),
        ({"sigmas": [3, 1, 0], "schedule": "karras"}, "leave those two out"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict, complaint: str) -> None:
    with pytest.raises(SfumatoError, match=complaint):
        Settings.of(sd1.SPEC, "a cat", **{"sampler": "dpmpp_2m"} | options)


def test_levels_that_a_model_lacks_are_refused(sd) -> None:
    with pytest.raises(SfumatoError, match="knows none above 14"):
        drawn(sd, sigmas=[80, 3, 0], steps=None)
