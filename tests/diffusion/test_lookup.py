"""Names as people write them."""

from collections import Counter

import pytest

from sfumato.diffusion.lookup import find
from sfumato.diffusion.sample import SAMPLERS, find_sampler
from sfumato.diffusion.sampler_names import SAMPLER_NAMES, SCHEDULE_NAMES
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES, find_schedule
from sfumato.errors import SfumatoError

NAMES = {"dpmpp_2m": ("DPM++ 2M",), "euler": ()}


@pytest.mark.parametrize("spelling", ["dpmpp_2m", "DPM++ 2M", "dpm++2m", " Dpmpp-2M\n"])
def test_spellings(spelling: str) -> None:
    assert find("sampler", spelling, NAMES) == "dpmpp_2m"


@pytest.mark.parametrize("name", ["", "dpmpp", "dpmpp_2m_sde", "2m", None, 5, b"euler", ["euler"]])
def test_unknown_names_list_what_there_is(name: object) -> None:
    with pytest.raises(SfumatoError, match=r"unknown sampler .*; .*choose one of dpmpp_2m, euler$"):
        find("sampler", name, NAMES)


@pytest.mark.parametrize(("name", "near"), [("dpmpp", "dpmpp_2m"), ("Eulr", "euler"), ("e-u-l-e-r-s", "euler")])
def test_unknown_names_are_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(SfumatoError, match=f"did you mean '{near}'"):
        find("sampler", name, NAMES)


def test_every_name_means_one_thing() -> None:
    found = Counter()
    assert [*SAMPLERS] == [*SAMPLER_NAMES] and [*SIGMA_SCHEDULES] == [*SCHEDULE_NAMES]
    for sampler in SAMPLERS.values():
        for name in {sampler.name, sampler.label, *SAMPLER_NAMES[sampler.name].aliases}:
            found[name] += 1
            assert find_sampler(name.upper()) is sampler
    assert set(found.values()) == {1}
    for schedule in SIGMA_SCHEDULES.values():
        for name in {schedule.name, schedule.label, *SCHEDULE_NAMES[schedule.name].aliases}:
            found[name.lower()] += 1
            assert find_schedule(name.upper()) is schedule
