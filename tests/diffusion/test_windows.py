"""Large maps in windows: what covers what, and what is made of the answers."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Row
from sfumato.diffusion.guidance import cfg, network_guide
from sfumato.diffusion.windows import windowed, windows

CONDS = [Cond(torch.full((1, 1, 1), value)) for value in (1.0, 2.0)]


def answered(guide, x: Tensor, network) -> tuple[Tensor, list[Row]]:
    """What the guide says if `network` answers its questions, and the questions."""
    steps, rows = guide(x, 1.0), []
    try:
        asked = next(steps)
        while True:
            rows += asked
            asked = steps.send([network(row) for row in asked])
    except StopIteration as stop:
        return stop.value, rows


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 12), st.integers(0, 6), st.integers(1, 3))
def test_windows_cover_the_map_evenly(height: int, width: int, side: int, overlap: int, step: int) -> None:
    overlap = min(overlap, side // 2)
    size, side, overlap = (step * height, step * width), step * side, step * overlap
    covered = torch.zeros(size)
    for rows, columns in windows(size, side, overlap, step):
        assert (rows.stop - rows.start, columns.stop - columns.start) == tuple(min(side, one) for one in size)
        assert rows.start % step == columns.start % step == 0
        covered[rows, columns] += 1
    assert covered.min() >= 1
    tops = sorted({rows.start for rows, _ in windows(size, side, overlap, step)})
    assert all(top + side - below >= overlap for top, below in pairwise(tops))


def test_a_network_that_sees_single_places_is_asked_the_same() -> None:
    x = torch.randn(1, 4, 13, 17)
    guide = cfg(network_guide(None, CONDS[0]), network_guide(None, CONDS[1]), 3.0)
    whole, _ = answered(guide, x, lambda row: row.x.sin() * row.cond.tokens)
    cut = windows((13, 17), 8, 2)
    blend, rows = answered(windowed(guide, cut, 2), x, lambda row: row.x.sin() * row.cond.tokens)
    assert torch.allclose(blend, whole, atol=1e-5)
    assert len(rows) == 2 * len(cut) and {row.x.shape for row in rows} == {(1, 4, 8, 8)}


def test_the_middle_of_a_window_counts_more_than_its_edge() -> None:
    cut, x = windows((1, 12), 8, 4), torch.zeros(1, 1, 1, 12)
    numbers = iter([0.0, 1.0])
    blend, _ = answered(
        windowed(network_guide(None, CONDS[0]), cut, 4), x, lambda row: torch.full_like(row.x, next(numbers))
    )
    profile = blend.flatten()
    assert profile[:4].max() == 0 and profile[8:].min() == 1
    assert (profile[4:8].diff() > 0).all() and torch.allclose(profile + profile.flip(0), torch.ones(12))


def test_what_lies_beside_the_latents_is_cut_with_them() -> None:
    x = torch.randn(1, 4, 6, 12)
    cond = Cond(torch.zeros(1, 1, 1), ids=torch.zeros(1, 2), concat=x[:, :1] + 5)
    told = windowed(
        network_guide(None, cond),
        windows((6, 12), 6, 2),
        2,
        lambda cond, window: Cond(cond.tokens, concat=cond.concat + 1),
    )
    _, rows = answered(told, x, lambda row: row.x)
    for row in rows:
        assert torch.equal(row.cond.concat, row.x[:, :1] + 6) and row.cond.ids is None


def test_failures_reach_the_guide() -> None:
    steps = windowed(network_guide(None, CONDS[0]), windows((4, 4), 2, 0), 0)(torch.zeros(1, 1, 4, 4), 1.0)
    next(steps)
    with pytest.raises(RuntimeError, match="lost"):
        steps.throw(RuntimeError("lost"))
