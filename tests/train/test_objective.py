"""The objective against numbers worked out by hand from the papers' formulas."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfumato.diffusion import predict
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import FlowTable, NoiseTable
from sfumato.spec import Prediction
from sfumato.train import objective

TABLE = NoiseTable(torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64))
KINDS = get_args(Prediction)


class Constant(nn.Module):
    """A network that always says the same."""

    def __init__(self, answer: Tensor | float):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.answer = torch.as_tensor(answer)

    def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.answer.expand_as(x).to(x)


def cond(rows: int) -> Cond:
    return Cond(torch.zeros(rows, 1, 1))


def levels(*sigma: float) -> Tensor:
    return torch.tensor(sigma, dtype=torch.float64)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("eps", 1.0),  # the noise: (3 - 2) / 1
        (
            "v",
            -1 / math.sqrt(2),
        ),  # alpha n - sigma x0 of variance-preserving alpha = sigma = 1 / sqrt 2: (1 - 2) / sqrt 2
        ("x0", 2.0),
        ("flow", 1.0),  # n - x0 = (x - x0) / sigma
        ("edm", (2 - 0.2 * 3) / (0.5 / math.sqrt(1.25))),  # c_skip = .25 / 1.25, c_out = .5 / sqrt 1.25
    ],
)
def test_the_target_is_each_familys_own(kind: Prediction, target: float) -> None:
    x0, x, sigma = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 3.0), levels(1.0)
    denoiser = Denoiser(Constant(0.0), kind, TABLE)
    torch.testing.assert_close(objective.residual(denoiser, x, sigma, cond(1), x0).item(), -target, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_hits_the_target_makes_the_sampler_right(kind: Prediction) -> None:
    """Training's target, read by sampling's denoiser, gives the latents back."""
    table = FlowTable() if kind == "flow" else TABLE
    sigma = levels(0.05, 0.3, 0.95) if kind == "flow" else levels(0.5, 1.3, 4.0)
    x0, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    x = Denoiser(Constant(0.0), kind, table).path.noised(x0, noise, sigma)
    perfect = Denoiser(Constant(predict.target(kind, x0, x, sigma)), kind, table)
    assert objective.denoising_losses(perfect, x0, noise, sigma, cond(3)).max() < 1e-9
    torch.testing.assert_close(perfect(x, sigma, cond(3)), x0, atol=1e-5, rtol=0)
    other = Denoiser(Constant(0.3), kind, table)
    error = objective.x0_error(other, x, sigma, cond(3), x0)
    torch.testing.assert_close(error, other(x, sigma, cond(3)) - x0, atol=1e-5, rtol=1e-5)


def test_what_a_network_is_told_of_rounded_levels_is_what_its_target_is_of() -> None:
    x0, x = torch.randn(1, 1, 2, 2), torch.randn(1, 1, 2, 2)
    rounded = Denoiser(Constant(0.0), "eps", TABLE, discrete_timesteps=True)
    assert rounded.level(levels(1.2)).item() == pytest.approx(1.0)
    expected = -(x - x0) / 1.0
    torch.testing.assert_close(objective.residual(rounded, x, levels(1.2), cond(1), x0), expected)


def test_min_snr_weights() -> None:
    sigma, snr = levels(0.1, 1.0, 10.0), levels(100.0, 1.0, 0.01)
    torch.testing.assert_close(objective.min_snr("eps", sigma, 5.0), levels(0.05, 1.0, 1.0))
    torch.testing.assert_close(objective.min_snr("v", sigma, 5.0), snr.clamp(max=5) / (snr + 1))
    torch.testing.assert_close(objective.min_snr("x0", sigma, 5.0), levels(5.0, 1.0, 0.01))
    # A flow at .1, .5, 1: signal .9, .5, 0 beside that much noise; an error of F is sigma times as large in x0.
    torch.testing.assert_close(objective.min_snr("flow", levels(0.1, 0.5, 1.0), 5.0), levels(0.05, 0.25, 0.0))
    torch.testing.assert_close(objective.min_snr("v", sigma, 0.0), torch.ones_like(sigma))


def test_pseudo_huber() -> None:
    error = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    # sqrt(25 + 2 c^2) - sqrt(2) c over sqrt(2), with c = 1
    torch.testing.assert_close(
        objective.pseudo_huber(error, 1.0), torch.tensor([0.0, (math.sqrt(27) - math.sqrt(2)) / math.sqrt(2)])
    )


def test_times_at_known_quantiles() -> None:
    u = levels(0.5, 0.8413447460685429, 0.15865525393145707)  # the normal distribution's at 0, 1 and -1
    sigmoid = 1 / (1 + math.exp(-1))
    torch.testing.assert_close(objective.times("logit_normal", u), levels(0.5, sigmoid, 1 - sigmoid))
    expected = levels(*(1 / (1 + math.exp(-(0.5 + 0.8 * z))) for z in (0, 1, -1)))
    torch.testing.assert_close(objective.times("logit_normal", u, 0.5, 0.8), expected)
    torch.testing.assert_close(objective.times("uniform", u), u)
    assert 0 < objective.times("logit_normal", levels(0.0)).item() < 1e-2


def test_logit_normal_times_have_the_papers_density() -> None:
    """Esser et al. 2024, equation 19, by counting a fine grid of quantiles."""
    m, s, n = 0.3, 0.9, 200_000
    t = objective.times("logit_normal", (torch.arange(n, dtype=torch.float64) + 0.5) / n, m, s)
    counts = torch.histc(t, 20, 0, 1) / n * 20
    middle = (torch.arange(20, dtype=torch.float64) + 0.5) / 20
    density = (-((torch.logit(middle) - m) ** 2) / (2 * s**2)).exp() / (
        s * math.sqrt(2 * math.pi) * middle * (1 - middle)
    )
    torch.testing.assert_close(counts, density, atol=0.06, rtol=0.02)


def test_stratified_numbers_fall_one_into_every_part() -> None:
    u = objective.stratified(np.random.default_rng(0), 64)
    assert sorted((u * 64).long().tolist()) == list(range(64))
    assert (u[1:] < u[:-1]).any()


def test_whole_steps_stay_within_the_table() -> None:
    assert objective.whole_steps(levels(0.0, 0.4999, 0.5, 1.0), 10).tolist() == [0, 4, 5, 9]


def test_validation_noise_is_the_same_every_time() -> None:
    denoiser, x0 = Denoiser(Constant(0.0), "eps", TABLE), torch.zeros(2, 1, 4, 4)
    first, second = (objective.validation_errors(denoiser, x0, cond(2), 2.0) for _ in range(2))
    assert torch.equal(first, second)
    assert first.mean().item() == pytest.approx(4.0, rel=0.5)  # F = 0: the estimate is x itself, of deviation 2
    assert objective.geometric_mean([0.1, 10.0]) == pytest.approx(1.0)
