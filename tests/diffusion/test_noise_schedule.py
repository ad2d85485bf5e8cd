"""Noise levels: tables, their inverse, and the lists that samplers walk down."""

import math

import pytest
import torch
from diffusers import EDMEulerScheduler

from sfumato.diffusion import predict
from sfumato.diffusion.noise_schedule import (
    SIGMA_PURE_NOISE,
    ContinuousTable,
    FlowTable,
    NoiseTable,
    alphas_cumprod,
    table_of,
    training_sigmas,
)
from sfumato.diffusion.sigma_schedules import discrete
from sfumato.spec import NoiseSchedule

TABLE = NoiseTable(training_sigmas(NoiseSchedule()))


def test_ends_of_the_1x_table() -> None:
    assert TABLE.sigma_min == pytest.approx(0.029167158151720367, rel=1e-12)
    assert TABLE.sigma_max == pytest.approx(14.614641229333639, rel=1e-12)
    assert len(TABLE.sigmas) == 1000


def test_time_inverts_sigma_between_the_steps_too() -> None:
    t = torch.tensor([0.0, 0.25, 17.5, 500.0, 998.9, 999.0], dtype=torch.float64)
    assert torch.allclose(TABLE.time(TABLE.sigma(t)), t, rtol=0, atol=1e-9)


def test_beyond_the_table_the_nearest_end_is_the_time() -> None:
    assert TABLE.time(torch.tensor([1e-6, 1e3])).tolist() == [0.0, 999.0]
    assert TABLE.nearest_time(torch.tensor([1e-6, 1e3])).tolist() == [0, 999]


def test_zero_terminal_snr_leaves_only_noise_at_the_end() -> None:
    plain, zero = NoiseSchedule(), NoiseSchedule(zero_terminal_snr=True)
    assert alphas_cumprod(zero)[0] == pytest.approx(alphas_cumprod(plain)[0].item(), rel=1e-12)
    assert training_sigmas(zero)[-1] == pytest.approx(SIGMA_PURE_NOISE, rel=1e-6)
    assert (training_sigmas(zero).diff() > 0).all()


def test_flow_levels_are_shifted_times() -> None:
    table = FlowTable(3.0)
    assert table.sigma(torch.tensor([0.0, 500.0, 1000.0])).tolist() == [0.0, 0.75, 1.0]
    assert table.time(torch.tensor([0.75])).item() == 750
    sigmas = discrete(table, 10)
    assert sigmas[0] == 1 and sigmas[-1] == 0
    # The lower end is shifted twice: once as the table's end and once as a time.
    once = 3 * 0.001 / 1.002
    assert sigmas[-2].item() == pytest.approx(3 * once / (1 + 2 * once), rel=1e-6)


def test_linear_betas_are_not_the_scaled_ones() -> None:
    linear = training_sigmas(NoiseSchedule(kind="linear", start=1e-4, end=0.02))
    assert linear[-1].item() == pytest.approx(math.sqrt(1 / 4.0358e-5 - 1), rel=1e-3)


def test_levels_of_karras_are_known_between_the_steps_too() -> None:
    theirs = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    table = table_of("edm", NoiseSchedule(kind="karras", start=0.002, end=80.0))
    assert isinstance(table, ContinuousTable)
    assert (table.sigma_min, table.sigma_max) == pytest.approx((0.002, 80))
    sigma = torch.tensor([0.002, 0.123, 7.5, 80.0], dtype=torch.float64)
    expected = [theirs.precondition_noise(one) for one in sigma]
    assert torch.allclose(table.network_time(sigma), torch.stack(expected))
    assert torch.allclose(table.sigma(table.time(sigma)), sigma)
    x, output = torch.randn(4, 1, 1, 1), torch.randn(4, 1, 1, 1)
    c_in, _, _ = predict.preconditioning("edm", sigma.float())
    for i, level in enumerate(sigma.float()):
        assert torch.allclose(c_in[i] * x[i], theirs.precondition_inputs(x[i], level))
        denoised = predict.from_output("edm", output[i : i + 1], x[i : i + 1], level[None])
        assert torch.allclose(denoised[0], theirs.precondition_outputs(x[i], output[i], level))
