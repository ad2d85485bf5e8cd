"""Lists of noise levels that samplers walk down."""

import math

import numpy as np
import pytest
import torch
from mpmath import betainc

from sfumato.diffusion.noise_schedule import TABLE_1X as TABLE
from sfumato.diffusion.noise_schedule import FlowTable, NoiseTable
from sfumato.diffusion.sigma_schedules import (
    SIGMA_SCHEDULES,
    beta_quantiles,
    ddim_uniform,
    discrete,
    find_schedule,
    karras,
    leading,
    own_list,
    polyexponential,
    sgm_uniform,
    sigma_list,
    trailing,
)
from sfumato.errors import SfumatoError


@pytest.mark.parametrize("name", SIGMA_SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 8, 20, 50])
def test_lists_fall_within_the_table(name: str, steps: int) -> None:
    sigmas = sigma_list(name, TABLE, steps)
    assert sigmas.dtype == torch.float64
    assert (sigmas.diff() < 0).all()
    assert sigmas[0] <= TABLE.sigma_max * (1 + 1e-12)
    assert len(sigmas) == steps + 1
    assert sigmas[-1] == (TABLE.sigma_min if name == "ddim_uniform" else 0)


@pytest.mark.parametrize("name", ["ddim_uniform", "beta", "simple", "discrete", "karras"])
@pytest.mark.parametrize("table", [TABLE, FlowTable(3.0)], ids=["eps", "flow"])
def test_a_step_for_every_training_step_still_falls(name: str, table: NoiseTable | FlowTable) -> None:
    assert (sigma_list(name, table, 1000).diff() < 0).all()


def test_ddim_uniform_takes_one_more_step_where_the_original_does() -> None:
    assert len(ddim_uniform(TABLE, 30)) == 32


def test_sgm_uniform_starts_at_the_last_step_and_stops_short_of_the_first() -> None:
    assert TABLE.time(sgm_uniform(TABLE, 4)[:-1]).round().tolist() == [999, 749, 499, 249]


@pytest.mark.parametrize(("steps", "low", "high"), [(3, [667, 334, 1], [999, 666, 332]), (1, [1], [999])])
def test_leading_and_trailing_times(steps: int, low: list[int], high: list[int]) -> None:
    times = [TABLE.time(spacing(TABLE, steps)[:-1]).round().tolist() for spacing in (leading, trailing)]
    assert times == [low, high]
    assert (leading(TABLE, 1000).diff() < 0).all()


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(SfumatoError, match="choose 1 to 1000"):
        sigma_list("karras", TABLE, steps)


def test_an_unknown_schedule_is_refused_with_the_choice() -> None:
    with pytest.raises(SfumatoError, match=r"unknown schedule 'cosine'; `sfumato samplers` lists them all"):
        sigma_list("cosine", TABLE, 10)


FLOW = FlowTable(3.0)


@pytest.mark.parametrize("name", [name for name in SIGMA_SCHEDULES if not name.startswith("align")])
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_lists_for_flows_fall_from_noise_to_nothing(name: str, steps: int) -> None:
    sigmas = sigma_list(name, FLOW, steps)
    assert (sigmas.diff() < 0).all()
    assert len(sigmas) == steps + 1 or name == "ddim_uniform"
    assert sigmas[0] <= 1 and sigmas[-1] == (FLOW.sigma_min if name == "ddim_uniform" else 0)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.1, 10), (2.0, 3.5), (1, 1), (10, 10)])
def test_beta_quantiles_invert_the_incomplete_beta_function(a: float, b: float) -> None:
    p = np.array([0.0, 1e-4, 0.02, 0.3, 0.5, 0.77, 0.999, 1.0])
    x = beta_quantiles(p, a, b)
    assert x[0] == 0 and x[-1] == 1 and (np.diff(x) > 0).all()
    for quantile, share in zip(x, p, strict=True):
        assert float(betainc(a, b, 0, quantile, regularized=True)) == pytest.approx(share, abs=1e-12)


def test_beta_takes_whole_times_densely_at_both_ends() -> None:
    times = TABLE.time(sigma_list("beta", TABLE, 10)[:-1])
    assert torch.allclose(times, times.round(), atol=1e-6)
    assert times[0] == 999 and times[0] - times[1] < 100 < times[4] - times[5]
    assert len(sigma_list("beta", TABLE, 500)) < 501  # two quantiles that round to one time are one step


def test_simple_takes_levels_of_the_table() -> None:
    assert TABLE.time(sigma_list("simple", TABLE, 3)[:-1]).round().tolist() == [999, 666, 333]
    assert sigma_list("simple", FLOW, 2).tolist() == [1.0, FLOW.sigmas[499], 0.0]


def test_linear_quadratic_begins_slowly() -> None:
    sigmas = sigma_list("linear_quadratic", FlowTable(), 8)
    falls = -sigmas.diff()
    assert sigmas[4].item() == pytest.approx(1 - 0.025)
    assert torch.allclose(falls[:4], torch.full((4,), 0.025 / 4, dtype=torch.float64))
    assert torch.allclose(falls[4:].diff().diff(), torch.zeros(2, dtype=torch.float64), atol=1e-12)  # quadratic
    assert sigma_list("linear_quadratic", TABLE, 8)[0].item() == TABLE.sigma_max


def test_kl_optimal_is_even_in_angle() -> None:
    angles = sigma_list("kl_optimal", TABLE, 7)[:-1].atan()
    assert torch.allclose(angles.diff(), angles.diff()[:1])
    assert angles[-1].tan().item() == pytest.approx(TABLE.sigma_min)


def test_align_your_steps_has_the_published_levels_in_ten_steps() -> None:
    one, xl = (sigma_list(name, TABLE, 10).tolist() for name in ("align_your_steps", "align_your_steps_xl"))
    assert one == pytest.approx([TABLE.sigma_max, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0])
    assert xl[1:3] == pytest.approx([6.315, 3.771])
    twenty = sigma_list("align_your_steps", TABLE, 20)
    assert twenty[2:20:2].tolist() == pytest.approx(one[1:10])
    assert twenty[3].item() == pytest.approx(math.sqrt(6.475 * 3.861))  # even in log sigma between
    assert find_schedule("Align Your Steps", xl=True).name == "align_your_steps_xl"
    assert find_schedule("Karras", xl=True).name == "karras"


@pytest.mark.parametrize("table", [FLOW, NoiseTable(torch.linspace(0.01, 3, 1000, dtype=torch.float64))])
def test_align_your_steps_is_refused_where_it_was_not_worked_out(table: FlowTable | NoiseTable) -> None:
    with pytest.raises(SfumatoError, match=r"worked out for the noise levels of 1.x and XL.*choose another"):
        sigma_list("align_your_steps", table, 10)


def test_schedules_have_options() -> None:
    assert torch.equal(sigma_list("karras", TABLE, 9, rho=3.0), karras(TABLE, 9, 3.0))
    assert torch.equal(sigma_list("polyexponential", TABLE, 9, rho=0.5), polyexponential(TABLE, 9, 0.5))
    assert not torch.equal(sigma_list("beta", TABLE, 9, alpha=1.0, beta=1.0), sigma_list("beta", TABLE, 9))
    assert torch.equal(sigma_list("exponential", TABLE, 9), sigma_list("polyexponential", TABLE, 9))
    assert {name for name, spacing in SIGMA_SCHEDULES.items() if spacing.options} == {
        "karras", "polyexponential", "beta", "linear_quadratic"
    }  # fmt: skip


def test_names_of_comfyui() -> None:
    assert find_schedule("normal").levels is discrete


def test_an_own_list_is_taken_as_it_is() -> None:
    assert own_list([14.615, 7, 3, 0.1, 0], TABLE).tolist() == [14.615, 7, 3, 0.1, 0]  # rounded up by its authors
    assert own_list((1, 0.5, 0.0), FLOW).tolist() == [1, 0.5, 0]


@pytest.mark.parametrize(
    ("levels", "complaint"),
    [
        ([7, 3, 1], "falling numbers that end in 0"),
        ([7, 3, 3, 0], "7, 3, 3, 0; give falling"),
        ([3, 7, 0], "falling"),
        ([float("nan"), 1, 0], "falling"),
        ([3, 0, -1], "falling"),
        ([0], "falling"),
        ([], "falling"),
        ([20, 3, 0], "the first noise level is 20; this model knows none above 14.6146"),
        ([float("inf"), 3, 0], "knows none above"),
    ],
)
def test_an_own_list_that_cannot_be_walked_is_refused(levels: list[float], complaint: str) -> None:
    with pytest.raises(SfumatoError, match=complaint):
        own_list(levels, TABLE)
    with pytest.raises(SfumatoError, match="none above 1"):
        own_list([1.0001, 0.5, 0], FLOW)
