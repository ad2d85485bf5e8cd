"""Noise: one stream a picture, and Brownian motion that agrees with itself."""

import pytest
import torch

from sfumato.diffusion.rng import BrownianPath, NoiseStream, scaled

SHAPE = (1, 4, 32, 32)


def test_a_seed_is_a_stream() -> None:
    a, b, other = NoiseStream(7, SHAPE), NoiseStream(7, SHAPE), NoiseStream(8, SHAPE)
    assert torch.equal(a.normal(), b.normal())
    assert torch.equal(a(2.0, 1.0), b.normal())
    assert not torch.equal(a.normal(), other.normal())


def test_increments_of_the_motion_have_unit_variance_and_add_up() -> None:
    motion = BrownianPath(NoiseStream(0, SHAPE))
    whole = motion(10.0, 2.0) * 8**0.5
    # Points between known ones are drawn from the bridge, so that the parts make the whole.
    parts = motion(10.0, 5.0) * 5**0.5 + motion(5.0, 2.0) * 3**0.5
    assert torch.allclose(whole, parts, atol=1e-5)
    for start, end in ((10.0, 2.0), (10.0, 5.0), (5.0, 2.0), (2.0, 0.5), (7.0, 6.9)):
        assert motion(start, end).std().item() == pytest.approx(1, abs=0.05)


def test_increments_that_do_not_overlap_are_independent() -> None:
    motion = BrownianPath(NoiseStream(0, SHAPE))
    a, b = motion(10.0, 5.0).flatten(), motion(5.0, 2.0).flatten()
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 0.05


def test_scaled_noise() -> None:
    assert torch.equal(scaled(NoiseStream(3, SHAPE), 2.0)(1.0, 0.5), 2 * NoiseStream(3, SHAPE).normal())
