"""Every formula against the same thing written out for whole tensors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.merging import formulas
from sfumato.merging.formulas import METHODS, How, combine, smallest_kept


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of this file are cut into many pieces."""
    monkeypatch.setattr(formulas, "PIECE", 64)


def tensors(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(10, 31, generator=generator)
    return [(base + i * torch.randn(10, 31, generator=generator)).to(dtype) for i in range(count)]


def merged(method: str, inputs: list[Tensor], *weights: float, density: float = 1.0, seed: int = 0) -> Tensor:
    return combine(METHODS[method], inputs, How(weights, density, seed), "unet.x")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sums_and_differences(dtype: torch.dtype) -> None:
    a, b, c = tensors(3, dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, y, z = a.to(wide), b.to(wide), c.to(wide)
    assert torch.equal(merged("sum", [a, b], 0.3), x * 0.7 + y * 0.3)
    assert torch.equal(merged("sum", [a, b], 0.0), x) and torch.equal(merged("sum", [a, b], 1.0), y)
    assert torch.equal(merged("difference", [a, b, c], 0.6), x + 0.6 * (y - z))
    torch.testing.assert_close(merged("mean", [a, b, c], 1, 2, 1), (x + 2 * y + z) / 4)


def test_slerp_keeps_the_length_and_divides_the_angle() -> None:
    a, b = (one / one.norm() for one in tensors(2))
    half = merged("slerp", [a, b], 0.25)
    angle = math.acos((a * b).sum().item())
    assert half.norm().item() == pytest.approx(1, abs=1e-5)
    assert math.acos((a * half).sum().item()) == pytest.approx(0.25 * angle, abs=1e-4)
    torch.testing.assert_close(half, (a * math.sin(0.75 * angle) + b * math.sin(0.25 * angle)) / math.sin(angle))


def test_slerp_of_what_is_parallel_or_nothing_is_a_sum() -> None:
    a = tensors(1)[0]
    assert torch.equal(merged("slerp", [a, 2 * a], 0.5), a * 0.5 + 2 * a * 0.5)
    assert torch.equal(merged("slerp", [a, 0 * a], 0.5), a * 0.5)


@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 1.0])
def test_the_bound_is_the_kth_largest_difference(density: float) -> None:
    a, b = tensors(2)
    k = max(1, int(density * a.numel()))
    largest = (b - a).abs().flatten().sort(descending=True).values
    assert smallest_kept(a.flatten(), b.flatten(), density) == largest[k - 1].item()


def test_ties_as_in_its_paper() -> None:
    base, *others = tensors(4)
    changes = []
    for other in others:
        change = other - base
        least = change.abs().flatten().sort(descending=True).values[int(0.3 * base.numel()) - 1]
        changes.append(torch.where(change.abs() >= least, change, torch.zeros(())))
    stack = torch.stack(changes)
    elected = stack.sum(0).sign()
    agree = (stack.sign() == elected) & (stack != 0)
    mean = (stack * agree).sum(0) / agree.sum(0).clamp(min=1)
    torch.testing.assert_close(merged("ties", [base, *others], 1, 1, 1, density=0.3), base + mean)
    assert (agree.sum(0) > 1).any() and (agree.sum(0) == 0).any()
    torch.testing.assert_close(merged("ties", [base, *others], 0.5, 0.5, 0.5, density=0.3), base + mean / 2)


def test_dare_keeps_a_share_and_the_mean() -> None:
    base, other = torch.zeros(20_000), torch.ones(20_000)
    drawn = merged("dare", [base, other], 1, density=0.25, seed=7)
    assert set(drawn.tolist()) == {0.0, 4.0}
    assert drawn.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(drawn, merged("dare", [base, other], 1, density=0.25, seed=7))
    assert not torch.equal(drawn, merged("dare", [base, other], 1, density=0.25, seed=8))
    two = merged("dare", [base, other, other], 1, 1, density=0.25, seed=7)
    assert set(two.tolist()) == {0.0, 4.0, 8.0}, "each model has choices of its own"


def test_dare_of_everything_is_the_sum_of_differences() -> None:
    base, one, two = tensors(3)
    expected = base + 0.5 * (one - base) + 0.25 * (two - base)
    torch.testing.assert_close(merged("dare", [base, one, two], 0.5, 0.25), expected)


def test_dare_with_signs_is_ties_of_what_was_drawn() -> None:
    base, one, two = tensors(3)
    assert torch.equal(merged("dare-ties", [base, one, two], 1, 1), merged("ties", [base, one, two], 1, 1))
    drawn = merged("dare-ties", [base, one, one], 1, 1, density=0.5) - base
    twice = 2 * (one - base)
    assert torch.isclose(drawn, twice, atol=1e-5).logical_or(drawn == 0).all()


def test_every_method_says_its_weights() -> None:
    for method in METHODS.values():
        count = method.models[0]
        assert len(method.defaults(count)) == (count - method.based if method.per_model else 1)
    assert METHODS["dare"].defaults(5) == (0.25,) * 4
