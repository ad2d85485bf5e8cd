import pytest

from sfumato.evaluate.intervals import Estimate


def test_a_share_has_wilsons_interval():
    found = Estimate.share([True] * 45 + [False] * 5)
    assert found is not None and (found.n, found.mean) == (50, 0.9)
    assert (found.low, found.high) == pytest.approx((0.786, 0.957), abs=1e-3)  # R: prop.test(45, 50, correct = FALSE)
    sure = Estimate.share([1, 1, 1, 1])
    assert sure is not None and sure.high == pytest.approx(1) and sure.low == pytest.approx(0.51, abs=0.01)
    assert Estimate.share([]) is None


def test_a_mean_has_an_interval_by_resampling():
    values = [float(k % 10) for k in range(1000)]
    found = Estimate.mean_of(values)
    assert found is not None and found.mean == pytest.approx(4.5)
    reach = 1.96 * 2.872 / 1000**0.5
    assert found.high - 4.5 == pytest.approx(reach, rel=0.15) and 4.5 - found.low == pytest.approx(reach, rel=0.15)
    assert found == Estimate.mean_of(values)
    assert Estimate.mean_of([]) is None
