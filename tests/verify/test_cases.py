"""The rules of agreement."""

import math

import pytest
import torch

from sfumato.errors import SfumatoError
from sfumato.verify.cases import Case, close, counted, exact, network_tolerance, stated_tolerance

ONES = torch.ones(2, 3)


def test_the_tolerance_bounds_the_largest_absolute_difference() -> None:
    result = close([(ONES, ONES), (4 * ONES + 1e-3, 4 * ONES)], 2e-3)
    assert result.passed and result.absolute == pytest.approx(1e-3, rel=1e-3)
    assert result.relative == pytest.approx(1e-3 / 4, rel=1e-3)
    assert not close([(ONES, ONES), (4 * ONES + 1e-3, 4 * ONES)], 5e-4).passed


def test_relative_comparison_is_by_element() -> None:
    reference = torch.tensor([100.0, 1e-3, 0.0], dtype=torch.float64)
    assert close([(reference * (1 + 1e-9), reference)], 1e-8, relative=True).passed
    assert not close([(reference + 1e-6, reference)], 1e-4, relative=True).passed


@pytest.mark.parametrize(
    ("ours", "reference"), [(math.nan, 1.0), (1.0, math.nan), (math.inf, 1.0), (math.nan, math.nan)]
)
def test_nothing_that_is_not_finite_agrees(ours: float, reference: float) -> None:
    pairs = [(torch.tensor([1.0, ours]), torch.tensor([1.0, reference])), (ONES, ONES)]
    assert not close(pairs, 1e9).passed
    assert not close(pairs, 1e9, relative=True).passed


def test_shapes_must_agree() -> None:
    assert close([(ONES, ONES[0])], 1.0).reason == "shape (2, 3), expected (3,)"


def test_counts() -> None:
    assert exact([1, 2], [1, 2]).passed
    assert exact([1, 2], [1, 3]).mismatches == 1
    assert exact([1], [1, 3]).reason
    assert not counted(0, 0).passed


def test_tolerances_are_those_of_the_reference() -> None:
    assert network_tolerance("unet.out", 1e-7) == 2e-5
    assert network_tolerance("unet.out", 1e-5) == pytest.approx(1e-4)
    assert network_tolerance("e2e.latent", 1e-7) == 2e-4
    assert stated_tolerance("max abs diff <= 1e-8 when computed in float64, 2e-3 in float32", "heun") == 1e-8
    words = "max abs diff <= 1e-4 (2e-4 for the Karras variants)"
    assert (stated_tolerance(words, "euler"), stated_tolerance(words, "euler_karras")) == (1e-4, 2e-4)
    with pytest.raises(SfumatoError, match="tolerance"):
        stated_tolerance("close enough", "euler")


def test_a_fault_of_ours_is_a_row_too() -> None:
    result = Case("a", lambda: 1 / 0).run()
    assert not result.passed and result.reason == "ZeroDivisionError: division by zero"
