"""The one loop that calls networks: who shares a call, who fails, what a cancelled job leaves behind."""

import pytest
import torch
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser, Job, Row, Step, drive, gather
from sfumato.diffusion.guidance import cfg, network_guide
from sfumato.diffusion.noise_schedule import NoiseTable, training_sigmas
from sfumato.diffusion.process import EXPLODING
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.spec import NoiseSchedule

TABLE = NoiseTable(training_sigmas(NoiseSchedule()))


class Counting(nn.Module):
    """A small convolution that remembers the rows of every call, and breaks on a row whose prompt holds a NaN."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.calls: list[int] = []

    def forward(self, x: Tensor, t: Tensor, cond: Cond, control: tuple[Tensor, ...] = ()) -> Tensor:
        if cond.tokens.isnan().any():
            raise RuntimeError("a poisoned prompt")
        self.calls.append(len(x))
        x = x + sum(control) if control else x
        return self.conv(x) + cond.tokens.mean((1, 2))[:, None, None, None] + t.reshape(-1, 1, 1, 1) / 1000


@pytest.fixture
def denoiser() -> Denoiser:
    return Denoiser(Counting(), "eps", TABLE)


def prompt(value: float, length: int = 3) -> Cond:
    return Cond(torch.full((1, length, 2), value))


def job(
    denoiser: Denoiser, name: str, steps: int, seed: int, scale: float = 3.0, size: int = 8, value: float = 1
) -> Job:
    sigmas = sigma_list("karras", TABLE, steps)
    stream = NoiseStream(seed, (1, 4, size, size))
    guide = cfg(network_guide(denoiser, prompt(value)), network_guide(denoiser, prompt(0.0)), scale)
    return SAMPLERS[name].run(guide, stream.normal() * sigmas[0], sigmas, EXPLODING, stream)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal but for the rounding that another batch size brings."""
    return (a - b).abs().max().item() < 1e-5 * b.abs().max().item()


MIXED = (("euler", 6, 1), ("heun", 4, 2), ("dpmpp_2m", 7, 3), ("euler_ancestral", 5, 4), ("dpmpp_sde", 3, 5))


def test_mixed_jobs_share_calls_and_come_out_as_if_alone(denoiser: Denoiser, outcomes) -> None:
    alone, calls = [], 0
    for name, steps, seed in MIXED:
        denoiser.network.calls.clear()
        alone.append(outcomes([job(denoiser, name, steps, seed)])[0])
        calls += len(denoiser.network.calls)
    denoiser.network.calls.clear()
    together = outcomes([job(denoiser, *which) for which in MIXED], max_rows=100)
    # As many calls as the longest job makes, with both rows of guidance in each.
    assert len(denoiser.network.calls) == 7 and calls == 6 + 7 + 7 + 5 + 5
    assert denoiser.network.calls[0] == 10
    for number, x in enumerate(alone):
        assert same(together[number], x)


def test_a_call_takes_at_most_max_rows(denoiser: Denoiser, outcomes) -> None:
    outcomes([job(denoiser, "euler", 2, seed) for seed in range(5)], max_rows=4)
    assert denoiser.network.calls == [4, 4, 2] * 2


def test_guidance_of_one_asks_for_one_row(denoiser: Denoiser, outcomes) -> None:
    outcomes([job(denoiser, "euler", 5, 0, scale=1)])
    assert denoiser.network.calls == [1] * 5


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "dpm_adaptive"])
def test_the_registry_states_the_number_of_calls(denoiser: Denoiser, outcomes, name: str) -> None:
    steps, sampler = 8, SAMPLERS[name]
    outcomes([job(denoiser, name, steps, 0, scale=1)])
    calls = len(denoiser.network.calls)
    # The last step of a sampler of two calls needs one, and PLMS begins with one more.
    assert calls in (sampler.calls * steps, sampler.calls * steps - 1, steps + 1)


def test_rows_of_other_shapes_are_asked_apart(denoiser: Denoiser, outcomes) -> None:
    results = outcomes([job(denoiser, "euler", 1, 0), job(denoiser, "euler", 1, 1, size=16)])
    assert denoiser.network.calls == [2, 2]
    assert results[1].shape == (1, 4, 16, 16)


def test_rows_of_other_prompt_lengths_are_asked_apart(denoiser: Denoiser, outcomes) -> None:
    sigmas = sigma_list("karras", TABLE, 1)
    x, noise = torch.ones(1, 4, 8, 8), NoiseStream(0, (1, 4, 8, 8))
    guides = [network_guide(denoiser, prompt(1.0, length)) for length in (3, 6)]
    outcomes([SAMPLERS["euler"].run(guide, x, sigmas, EXPLODING, noise) for guide in guides])
    assert denoiser.network.calls == [1, 1]


def test_a_failing_row_is_its_own_jobs_failure(denoiser: Denoiser, outcomes) -> None:
    bad = job(denoiser, "euler", 3, 1, value=float("nan"))
    results = outcomes([job(denoiser, "euler", 3, 0), bad, job(denoiser, "heun", 3, 2)])
    assert isinstance(results[1], RuntimeError)
    assert same(results[0], outcomes([job(denoiser, "euler", 3, 0)])[0])
    assert same(results[2], outcomes([job(denoiser, "heun", 3, 2)])[0])


def test_a_job_that_raises_by_itself_fails_alone(denoiser: Denoiser, outcomes) -> None:
    def broken() -> Job:
        yield [Row(torch.ones(1, 4, 8, 8), 1.0, prompt(0.0), denoiser)]
        raise ValueError("no more")

    results = outcomes([broken(), job(denoiser, "euler", 3, 0)])
    assert isinstance(results[0], ValueError)
    assert isinstance(results[1], Tensor)


def test_a_job_may_survive_the_failure_of_its_question(denoiser: Denoiser, outcomes) -> None:
    def patient() -> Job:
        x = torch.ones(1, 4, 8, 8)
        try:
            yield [Row(x, 1.0, prompt(float("nan")), denoiser)]
        except RuntimeError:
            (x0,) = yield [Row(x, 1.0, prompt(0.0), denoiser)]
        return x0

    assert outcomes([patient()])[0].shape == (1, 4, 8, 8)


def test_closing_cancels_every_job(denoiser: Denoiser) -> None:
    closed = []

    def watched(number: int) -> Job:
        try:
            return (yield from job(denoiser, "euler", 50, number))
        finally:
            closed.append(number)

    events = drive([watched(0), watched(1)])
    assert isinstance(next(events)[1], Step)
    calls = len(denoiser.network.calls)
    events.close()
    assert sorted(closed) == [0, 1]
    assert len(denoiser.network.calls) == calls


def test_no_gradients_are_kept_and_the_callers_mode_is_untouched(denoiser: Denoiser) -> None:
    grads = []
    for _, event in drive([job(denoiser, "euler", 2, 0)]):
        grads.append(event.x.requires_grad)
        assert torch.is_grad_enabled()
    assert grads == [False] * 3


def test_steps_count_from_zero_to_their_total(denoiser: Denoiser) -> None:
    steps = [event for _, event in drive([job(denoiser, "heun", 4, 0)]) if isinstance(event, Step)]
    assert [(step.index, step.total) for step in steps] == [(i, 4) for i in range(4)]
    assert steps[0].sigma == pytest.approx(TABLE.sigma_max)


def test_questions_side_by_side_return_in_their_order(denoiser: Denoiser) -> None:
    def question(rows: int, rounds: int):
        for _ in range(rounds):
            answers = yield [Row(torch.zeros(1, 4, 8, 8), 1.0, prompt(float(rows)), denoiser) for _ in range(rows)]
            assert len(answers) == rows
        return rows

    both = gather(question(1, 3), question(2, 1))
    assert len(next(both)) == 3
    answer = torch.zeros(1)
    assert len(both.send([answer] * 3)) == 1
    assert len(both.send([answer])) == 1
    with pytest.raises(StopIteration) as stop:
        both.send([answer])
    assert stop.value.value == [1, 2]


def test_state_stays_float32_around_a_network_of_half_precision(outcomes) -> None:
    denoiser = Denoiser(Counting().to(torch.bfloat16), "eps", TABLE)
    result = outcomes([job(denoiser, "euler", 3, 0)])[0]
    assert result.dtype == torch.float32 and result.isfinite().all()


def test_residuals_for_the_network_share_calls_like_all_else(denoiser: Denoiser) -> None:
    """A row's control reaches the network with the row, and rows without any ask by themselves."""
    x, added = torch.ones(1, 4, 8, 8), [torch.full((1, 4, 8, 8), k / 10) for k in range(3)]

    def ask(*control: tuple[Tensor, ...]) -> Job:
        rows = [Row(x, 1.0, prompt(1.0), denoiser, control=each) for each in control]
        return torch.cat((yield rows))

    (alone, both, none) = (
        next(event.x for _, event in drive([ask(*control)]) if not isinstance(event, Step))
        for control in ([(added[1],)], [(added[1],), (added[2], added[1])], [()])
    )
    assert same(both[:1], alone) and not same(both[1:], alone) and not same(none, alone)
    denoiser.network.calls.clear()
    list(drive([ask((added[1],), (), (added[2],), ())]))
    assert denoiser.network.calls == [2, 2]
