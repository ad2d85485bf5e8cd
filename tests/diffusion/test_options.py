"""What users may set of samplers and schedules."""

import math
from collections import Counter
from functools import partial
from typing import Annotated, Literal

import pytest

from sfumato.diffusion.options import FIELDS, Range, Share, checked, field_of, options_of
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES
from sfumato.errors import SfumatoError


def function(
    x: int, plain: float = 1.0, eta: Share = 0.5, order: Annotated[int, Range(1, 3)] = 2, way: Literal["a", "b"] = "a"
) -> None: ...


OPTIONS = options_of(function)


def test_options_are_the_parameters_that_say_what_they_may_be() -> None:
    assert {name: option.default for name, option in OPTIONS.items()} == {"eta": 0.5, "order": 2, "way": "a"}
    assert options_of(partial(function, way="b"))["way"].default == "b"


def test_values_are_taken_as_what_they_are_meant_for() -> None:
    values = checked({"eta": 1, "order": 3, "way": "b"}, OPTIONS, "it")
    assert values == {"eta": 1.0, "order": 3, "way": "b"}
    assert isinstance(values["eta"], float)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"magic": 1}, "it has no option 'magic'; it has eta, order, way"),
        ({"eta": "x"}, "eta is 'x'; choose a number such as 0.5"),
        ({"eta": True}, "eta is True"),
        ({"eta": math.nan}, "eta is nan; choose a number from 0 to 1"),
        ({"eta": 1.5}, "choose a number from 0 to 1"),
        ({"order": 4}, "choose a whole number from 1 to 3"),
        ({"order": 2.5}, "choose a whole number such as 2"),
        ({"way": "c"}, "way is 'c'; choose a or b"),
        ({"way": 1}, "way is 1; choose a or b"),
        ("eta", "the sampler's options are 'eta'"),
    ],
)
def test_others_are_refused(given: object, complaint: str) -> None:
    with pytest.raises(SfumatoError, match=complaint):
        checked(given, OPTIONS, "it")


def test_what_has_no_option_says_so() -> None:
    with pytest.raises(SfumatoError, match="DPM\\+\\+ 2M has no option 'eta'; it has none"):
        checked({"eta": 1}, SAMPLERS["dpmpp_2m"].options, "DPM++ 2M")


def test_every_default_is_allowed_and_every_option_has_a_name_in_infotexts() -> None:
    of_schedules = {name for spacing in SIGMA_SCHEDULES.values() for name in spacing.options}
    for sampler in SAMPLERS.values():
        assert not of_schedules & set(sampler.options)
        fields = Counter(field_of(sampler.name, option) for option in (*sampler.options, *of_schedules))
        assert max(fields.values()) == 1
    for options in (one.options for one in (*SAMPLERS.values(), *SIGMA_SCHEDULES.values())):
        for option in options.values():
            assert option.default == math.inf or option.checked(option.default) == option.default
    assert len(set(FIELDS.values())) == len(FIELDS)
