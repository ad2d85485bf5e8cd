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
from sfumato.diffusion.noise_schedule import FlowTable, NoiseTable, training_sigmas
from sfumato.errors import SfumatoError
from sfumato.spec import NoiseSchedule, Prediction
from sfumato.train import loss_weights, objective, training_noise
from sfumato.train.objective import Objective

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
    torch.testing.assert_close(loss_weights.min_snr("eps", sigma, 5.0), levels(0.05, 1.0, 1.0))
    torch.testing.assert_close(loss_weights.min_snr("v", sigma, 5.0), snr.clamp(max=5) / (snr + 1))
    torch.testing.assert_close(loss_weights.min_snr("x0", sigma, 5.0), levels(5.0, 1.0, 0.01))
    # A flow at .1, .5, 1: signal .9, .5, 0 beside that much noise; an error of F is sigma times as large in x0.
    torch.testing.assert_close(loss_weights.min_snr("flow", levels(0.1, 0.5, 1.0), 5.0), levels(0.05, 0.25, 0.0))
    torch.testing.assert_close(loss_weights.min_snr("v", sigma, 0.0), torch.ones_like(sigma))


def test_the_other_dialect_of_min_snr() -> None:
    sigma = levels(0.1, 1.0, 10.0)  # S = 100, 1, 0.01
    torch.testing.assert_close(loss_weights.min_snr_shifted("v", sigma, 5.0), levels(5 / 101, 1.0, 1.0))
    torch.testing.assert_close(loss_weights.min_snr_shifted("eps", sigma, 5.0), levels(0.05, 1.0, 1.0))


def test_p2_and_debiased_weights() -> None:
    sigma = levels(0.1, 1.0, 2.0)  # S = 100, 1, 0.25
    torch.testing.assert_close(loss_weights.p2("eps", sigma, 1.0), levels(1 / 101, 0.5, 0.8))
    torch.testing.assert_close(loss_weights.p2("eps", sigma, 0.5), levels(101**-0.5, 0.5**0.5, 0.8**0.5))
    torch.testing.assert_close(loss_weights.p2("v", sigma, 1.0), levels(100 / 101**2, 0.25, 0.25 / 1.25**2))
    torch.testing.assert_close(loss_weights.debiased("eps", sigma), levels(0.1, 1.0, 2.0))
    torch.testing.assert_close(loss_weights.debiased("v", sigma), levels(10 / 101, 0.5, 0.5 / 1.25))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("square", (0.25, 9.0)),
        ("absolute", (0.5, 3.0)),
        ("huber", (0.25, 2 * 3 - 1)),  # with d = 1: e^2, then 2 d |e| - d^2
        ("smooth_l1", (0.125, 2.5)),
    ],
)
def test_penalties(kind: objective.Penalty, expected: tuple[float, float]) -> None:
    error = torch.tensor([0.5, -3.0])
    torch.testing.assert_close(objective.penalised(kind, error, 1.0), torch.tensor(expected))
    if kind == "smooth_l1":
        theirs = nn.functional.smooth_l1_loss(error, torch.zeros(2), reduction="none", beta=0.3)
        torch.testing.assert_close(objective.penalised(kind, error, 0.3), theirs)


def test_offset_noise_moves_the_mean_of_every_channel() -> None:
    noise = torch.zeros(2, 3, 4, 4)
    n = np.random.default_rng(5).standard_normal((2, 3, 1, 1), np.float32)
    moved = training_noise.with_offset(noise, np.random.default_rng(5), 0.1)
    torch.testing.assert_close(moved, torch.from_numpy(0.1 * n).expand(2, 3, 4, 4))


def test_pyramid_noise_is_coarser_and_as_strong() -> None:
    rng = np.random.default_rng(0)
    noise = training_noise.white(rng, (4, 4, 32, 32))
    coarse = training_noise.pyramid(noise, rng, 0.9)
    assert coarse.std().item() == pytest.approx(1.0, abs=1e-6)

    def alike(n: Tensor) -> float:
        return (n[..., 1:] * n[..., :-1]).mean().item()

    assert abs(alike(noise)) < 0.05 < 0.3 < alike(coarse)
    # By hand: a picture of one pixel has one coarser level, drawn at 1 x 1.
    rng = np.random.default_rng(1)
    u, n = np.random.default_rng(1), torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1)
    u.random()
    total = n + 0.5 * torch.from_numpy(u.standard_normal((2, 1, 1, 1), np.float32))
    torch.testing.assert_close(training_noise.pyramid(n, rng, 0.5), total / total.std())


def test_perturbed_inputs_leave_the_target_alone() -> None:
    """A network that answers with the true noise is right, whatever further noise it sees (eps)."""
    plan, sigma = Objective(input_perturbation=0.1), levels(1.0, 2.0)
    drawn = plan.noise(np.random.default_rng(0), (2, 1, 8, 8))
    further = drawn["input_noise"] - drawn["noise"]
    assert further.std().item() == pytest.approx(0.1, rel=0.15)
    batch = drawn | {"x0": torch.randn(2, 1, 8, 8), "sigma": sigma}

    class Seen(Constant):
        def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
            self.seen = x
            return super().forward(x, t, cond)

    network = Seen(drawn["noise"])
    assert plan.errors(Denoiser(network, "eps", TABLE), batch, cond(2)).max() < 1e-9
    x = batch["x0"] + sigma.float().reshape(2, 1, 1, 1) * drawn["input_noise"]
    torch.testing.assert_close(network.seen, x / (sigma.float() ** 2 + 1).sqrt().reshape(2, 1, 1, 1))


def test_masked_errors_count_where_the_mask_is() -> None:
    batch = {"x0": torch.zeros(1, 2, 1, 2), "noise": torch.tensor([[[[1.0, 3.0]], [[1.0, 3.0]]]]), "sigma": levels(1.0)}
    denoiser = Denoiser(Constant(0.0), "eps", TABLE)
    assert Objective().errors(denoiser, batch, cond(1)).item() == pytest.approx((1 + 9) / 2)
    batch["mask"] = torch.tensor([[[[0.0, 0.5]]]])
    assert Objective().errors(denoiser, batch, cond(1)).item() == pytest.approx(9.0)


def test_zero_terminal_snr_ends_in_pure_noise() -> None:
    plan, noise = Objective(zero_terminal_snr=True), NoiseSchedule()
    assert training_sigmas(plan.schedule(noise))[-1] > 1e4 > training_sigmas(Objective().schedule(noise))[-1]
    assert plan.schedule(noise).zero_terminal_snr


def test_weights_of_an_objective() -> None:
    sigma = levels(0.1, 10.0)
    assert torch.equal(Objective().weights("v", sigma), torch.ones_like(sigma))
    for plan, expected in (
        (Objective(min_snr=5), loss_weights.min_snr("v", sigma, 5)),
        (Objective(min_snr=5, min_snr_shifted=True), loss_weights.min_snr_shifted("v", sigma, 5)),
        (Objective(p2=1), loss_weights.p2("v", sigma, 1)),
        (Objective(debiased=True), loss_weights.debiased("v", sigma)),
    ):
        assert torch.equal(plan.weights("v", sigma), expected)
    batch = {"x0": torch.ones(2, 1, 1, 1), "noise": torch.ones(2, 1, 1, 1), "sigma": sigma}
    denoiser = Denoiser(Constant(0.0), "eps", TABLE)
    torch.testing.assert_close(Objective(debiased=True).losses(denoiser, batch, cond(2)), torch.tensor([0.1, 10.0]))


@pytest.mark.parametrize(
    ("values", "prediction", "words"),
    [
        ({"min_snr": -1.0}, "eps", "min_snr is -1.0"),
        ({"min_snr": 5.0, "p2": 1.0}, "eps", "min_snr and p2 are both"),
        ({"min_snr_shifted": True}, "v", "give min_snr too"),
        ({"pyramid_noise": 1.0}, "eps", "less than 1"),
        ({"width": 0.0}, "eps", "width is 0"),
        ({"scale": 0.0}, "eps", "scale is 0"),
        ({"times": "mode", "scale": 2.0}, "flow", "take -1 to 1.75"),
        ({"times": "beta", "shift": -1.0}, "flow", "from 0.5"),
        ({"offset_noise": 0.1}, "flow", "offset_noise has no meaning for a flow"),
        ({"pyramid_noise": 0.5}, "flow", "pyramid_noise has no meaning for a flow"),
        ({"p2": 1.0}, "flow", "p2 has no meaning for a flow"),
        ({"debiased": True}, "flow", "debiased has no meaning for a flow"),
        ({"zero_terminal_snr": True}, "flow", "zero_terminal_snr has no meaning for a flow"),
        ({"zero_terminal_snr": True}, "eps", "predicts v, this one predicts eps"),
        ({"min_snr": 5.0, "min_snr_shifted": True}, "x0", "this network predicts x0"),
    ],
)
def test_objectives_that_make_no_sense_say_so(values: dict, prediction: Prediction, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        Objective(**values).check(prediction)


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


def test_times_of_other_kinds_at_known_quantiles() -> None:
    u = levels(0.25, 0.5, 0.75)
    half = math.sqrt(0.5)
    # f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u); cos^2 of pi / 8 is (1 + sqrt(1/2)) / 2
    first = 0.75 - 1.29 * ((1 + half) / 2 - 0.75)
    torch.testing.assert_close(objective.times("mode", u, 0.0, 1.29), levels(first, 0.5, 1 - first))
    tangent = math.tan(math.pi / 8)
    expected = levels(1 - 1 / (tangent + 1), 0.5, 1 - 1 / (1 / tangent + 1))
    torch.testing.assert_close(objective.times("cosmap", u), expected)
    torch.testing.assert_close(objective.times("cubic", u), levels(63 / 64, 7 / 8, 37 / 64))
    # Beta(1.5, 1): F(x) = x^1.5; Beta(1, 2): F(x) = 1 - (1 - x)^2
    torch.testing.assert_close(
        objective.times("beta", u, math.log(1.5) / 2, math.sqrt(1.5)), u ** (1 / 1.5), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        objective.times("beta", u, -math.log(2) / 2, math.sqrt(2)), 1 - (1 - u).sqrt(), atol=1e-5, rtol=0
    )
    for kind in get_args(objective.Times):
        spread = Objective(times=kind).shares(np.random.default_rng(0), 64)
        assert spread.dtype == torch.float64 and 0 <= spread.min() < 0.1 and 0.9 < spread.max() <= 1


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
