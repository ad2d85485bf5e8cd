"""Intervals of noise levels, as users say them."""

import pytest
import torch

from sfumato.diffusion.interval import NOWHERE, Interval
from sfumato.errors import SfumatoError

SIGMAS = torch.tensor([14.0, 8, 5, 3, 2, 1, 0.5, 0.3, 0.2, 0.1, 0]).double()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.28-5.4", (0.28, 5.4)),
        (".28..5.4", (0.28, 5.4)),
        (" 1 - 14 ", (1, 14)),
        ("0%-100%", (0.1, 14)),
        ("20%-80%", (0.3, 5)),
        ("20 %, 25%", (5, 5)),
        ("21%-29%", NOWHERE),
        ("12.5%-30%", (5, 5)),
    ],
)
def test_levels(text: str, expected: tuple[float, float]) -> None:
    interval = Interval.parse(text)
    assert interval.levels(SIGMAS) == pytest.approx(expected)
    assert Interval.parse(str(interval)) == interval


@pytest.mark.parametrize(
    "text", ["", "7", "5-1", "1-1", "-1-5", "a-b", "1e9-2", "80%-20%", "0%-101%", "20%-80", "nan-1"]
)
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(SfumatoError, match=r"the interval is .*; give "):
        Interval.parse(text)
