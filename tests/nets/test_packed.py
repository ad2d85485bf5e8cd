"""Two whole numbers in one float."""

import pytest
import torch

from sfumato.nets.packed import LARGEST, packed, unpacked


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32])
def test_every_pair_comes_back_in_every_precision(dtype):
    each = torch.arange(-LARGEST, LARGEST + 1.0)
    pairs = torch.cartesian_prod(each, each)
    table = packed(pairs)
    assert table.shape == (225, 1) and table.isfinite().all()
    assert torch.equal(unpacked(table.to(dtype)), pairs)


def test_numbers_are_rounded_and_kept_in_range():
    assert unpacked(packed(torch.tensor([[2.4, -2.6], [90.0, -90.0]]))).tolist() == [[2, -3], [7, -7]]
    assert unpacked(torch.zeros(2, 3)).tolist() == [[0] * 6] * 2
