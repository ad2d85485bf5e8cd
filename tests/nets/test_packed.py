"""Whole numbers of few levels, several in one float."""

import pytest
import torch

from sfumato.nets.packed import packed, per_float, unpacked

LEVELS = {15: 2, 5: 3, 3: 5}


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("levels", LEVELS)
def test_every_group_comes_back_in_every_precision(levels, dtype):
    each = torch.arange(levels) - levels // 2
    groups = torch.cartesian_prod(*[each.float()] * LEVELS[levels])
    table = packed(groups, levels)
    assert per_float(levels) == LEVELS[levels]
    assert table.shape == (levels ** LEVELS[levels], 1) and table.isfinite().all()
    assert torch.equal(unpacked(table.to(dtype), levels), groups)


def test_numbers_are_rounded_and_kept_in_range():
    assert unpacked(packed(torch.tensor([[2.4, -2.6], [90.0, -90.0]]), 15), 15).tolist() == [[2, -3], [7, -7]]
    assert unpacked(torch.zeros(2, 3), 3).tolist() == [[0] * 15] * 2
