"""The only loop that calls a network.

Samplers and guides are generators. They yield `Row`s, questions to a network, and receive the answers; what they
yield besides passes through to the caller. `drive` collects the rows of all jobs, asks each network as few times as
possible and sends the answers back, so one picture and a hundred mixed requests take the same road.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from sfumato.diffusion import predict
from sfumato.diffusion.cache_rules import Rule
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.noise_schedule import NoiseTable, Table
from sfumato.diffusion.process import ForwardProcess, per_row, process_for
from sfumato.diffusion.step_cache import Memory, Recall
from sfumato.spec import Prediction


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A network with the meaning of its output: (x, sigma, cond) -> estimate of x0.

    x is float32 whatever the network computes in; the network's own precision begins and ends at its call. With
    `discrete_timesteps` every noise level is taken for the nearest of the table, as in XL's own code.
    """

    network: nn.Module
    prediction: Prediction
    table: Table
    discrete_timesteps: bool = False

    @property
    def path(self) -> ForwardProcess:
        return process_for(self.prediction)

    def level(self, sigma: Tensor) -> Tensor:
        """Returns the levels that the network gets for sigma (B,); with `discrete_timesteps` the table's nearest."""
        if self.discrete_timesteps and isinstance(self.table, NoiseTable):
            return self.table.sigma(self.table.nearest_time(sigma))
        return sigma

    def output(
        self, x: Tensor, sigma: Tensor, cond: Cond, control: tuple[Tensor, ...] = (), recall: Recall | None = None
    ) -> Tensor:
        """The network's own output F(c_in x, t) for x (B, C, h, w) at sigma (B,), in x's dtype and on its device.

        `control` are residuals (B, ...) that the network adds to its own maps, as a ControlNet gives them. With
        `recall` its inner blocks run only where they must (see `step_cache`).
        """
        weight, sigma = next(self.network.parameters()), self.level(sigma)
        c_in, _, _ = predict.preconditioning(self.prediction, sigma)
        t = self.table.network_time(sigma).to(weight.device, torch.promote_types(weight.dtype, torch.float32))
        scaled = (per_row(c_in, x) * x).to(weight.device, weight.dtype)
        extra = tuple(each.to(weight.device, weight.dtype) for each in control)
        recalled = {} if recall is None else {"recall": recall}
        cond = cond.to(weight.device, weight.dtype)
        output = self.network(scaled, t, cond, *((extra,) if extra else ()), **recalled)
        return output.to(x.device, x.dtype)

    def __call__(
        self, x: Tensor, sigma: Tensor, cond: Cond, control: tuple[Tensor, ...] = (), recall: Recall | None = None
    ) -> Tensor:
        """x (B, C, h, w), sigma (B,) float64 on the CPU, cond of B rows -> x0 (B, C, h, w) of x's dtype.

        `control` and `recall` are as in `output`.
        """
        return predict.from_output(self.prediction, self.output(x, sigma, cond, control, recall), x, self.level(sigma))


Score = Callable[[Tensor], Tensor]
"""How good pictures are: x0 (B, C, h, w) -> (B,), with a gradient."""


@dataclass(frozen=True, eq=False)
class Row:
    """One question: what is x0, given x (1, C, h, w) at noise level sigma under cond (one row)?

    With a score: where does it rise? The answer is the gradient of score(x0) with regard to x, of x's shape. `control`
    are residuals (1, ...) that the network adds to its own maps. `memory` is what is kept of earlier questions, where
    inner blocks of the network may be left out; rows with and without one share a call.
    """

    x: Tensor
    sigma: float
    cond: Cond
    denoiser: Denoiser
    score: Score | None = None
    control: tuple[Tensor, ...] = ()
    memory: Memory | None = None

    @property
    def bucket(self) -> tuple:
        """Rows with equal buckets can share a call."""
        control = tuple(each.shape for each in self.control)
        return id(self.denoiser), id(self.score), self.x.shape, self.cond.shapes, control

    @property
    def question(self) -> tuple:
        """Rows with equal questions have the same answer."""
        return id(self.denoiser), id(self.score), id(self.x), self.sigma, id(self.cond), *map(id, self.control)


@dataclass(frozen=True, eq=False)
class Step:
    """Progress of a sampler: about to leave step `index` of `total`, at x (1, C, h, w) of noise level sigma."""

    index: int
    total: int
    sigma: float
    x: Tensor
    x0: Tensor


@dataclass(frozen=True, eq=False)
class Finished:
    """A job's result."""

    x: Tensor


@dataclass(frozen=True, eq=False)
class Failed:
    """A job's failure; the other jobs go on."""

    error: Exception


Job = Generator[list[Row] | Step, list[Tensor], Tensor]
"""Yields questions and steps, receives answers, returns the final x."""


Event = Step | Finished | Failed
Result = TypeVar("Result")
Emitted = TypeVar("Emitted")


def gather(
    *jobs: Generator[list[Row], list[Tensor], Result],
) -> Generator[list[Row], list[Tensor], list[Result]]:
    """Run questions side by side so that they share network calls; returns the results in order.

    What several of them ask is asked once.
    """
    results: dict[int, Result] = {}
    waiting: dict[int, list[Row]] = {}

    def resume(i: int, answers: list[Tensor] | None) -> None:
        try:
            waiting[i] = next(jobs[i]) if answers is None else jobs[i].send(answers)
        except StopIteration as stop:
            results[i] = stop.value

    for i in range(len(jobs)):
        resume(i, None)
    while waiting:
        current, waiting = waiting, {}
        asked = {row.question: row for rows in current.values() for row in rows}
        answers = dict(zip(asked, (yield list(asked.values())), strict=True))
        for i, rows in current.items():
            resume(i, [answers[row.question] for row in rows])
    return [results[i] for i in range(len(jobs))]


def with_steps(job: Job, change: Callable[[Step], Step]) -> Job:
    """Returns the job with its steps changed, such as counted among those of a longer one."""
    return _changed(job, lambda event: change(event) if isinstance(event, Step) else event)


def with_step_cache(job: Job, rule: Rule) -> Job:
    """Returns the job with a memory for its questions, by which inner blocks of networks are left out.

    Questions to one network under one conditioning share a memory. Where there are several at once, as of the windows
    of a large picture, each place in their order has its own.
    """
    memories: dict[tuple[object, ...], tuple[Memory, Row]] = {}  # the rows keep what the ids are of

    def remembering(rows: list[Row]) -> list[Row]:
        places: Counter[tuple[object, ...]] = Counter()
        result = []
        for row in rows:
            stream = id(row.denoiser), id(row.cond), row.x.shape
            place = *stream, places[stream]
            places[stream] += 1
            memory, _ = memories.setdefault(place, (Memory(rule), row))
            result.append(row if row.score is not None else replace(row, memory=memory))
        return result

    return _changed(job, lambda event: event if isinstance(event, Step) else remembering(event))


def _changed(job: Job, change: Callable[[list[Row] | Step], list[Row] | Step]) -> Job:
    answers: list[Tensor] | None = None
    try:
        while True:
            answers = yield change(next(job) if answers is None else job.send(answers))
    except StopIteration as stop:
        return stop.value


def _ask(rows: Sequence[Row]) -> list[Tensor]:
    sigmas = torch.tensor([row.sigma for row in rows], dtype=torch.float64)
    denoiser, score = rows[0].denoiser, rows[0].score
    with torch.inference_mode(False), torch.set_grad_enabled(score is not None):
        x, cond = torch.cat([row.x for row in rows]), Cond.cat([row.cond for row in rows])
        control = tuple(torch.cat(parts) for parts in zip(*(row.control for row in rows), strict=True))
        if score is None:
            memories = [row.memory for row in rows]
            recall = Recall(memories) if any(memories) else None
            return list(denoiser(x, sigmas, cond, control, recall).split(1))
        scores = score(denoiser(x.requires_grad_(), sigmas, cond, control))
        return list(torch.autograd.grad(scores.sum(), x)[0].split(1))


Answer = Tensor | Exception
"""What a network says to a row, or why it cannot."""
Asking = Generator[list[Row] | Emitted, list[Answer] | None, None]
"""Asks for rows and receives their answers in order; what it yields besides passes through to the caller."""


def collected(jobs: Sequence[Job]) -> Asking[tuple[int, Event]]:
    """Runs jobs side by side: asks for the rows of all of them at once, and reports (job number, event) as it happens.

    A job whose own code raises, or whose row has an error for its answer, is reported as Failed; the others go on.
    Closing it closes the jobs.
    """
    try:
        yield from _collected(list(jobs))
    finally:
        for job in jobs:
            job.close()


def emitting(asking: Asking[Emitted], change: Callable[[Emitted], Iterable[Result]]) -> Asking[Result]:
    """Asks what `asking` asks; of each event that it emits become those that `change` gives."""
    answers: list[Answer] | None = None
    with closing(asking):
        while (event := following(asking, answers)) is not None:
            answers = None
            if isinstance(event, list):
                answers = yield event
            else:
                yield from change(event)


def answered(asking: Asking[Emitted], max_rows: int = 8) -> Generator[Emitted, None, None]:
    """Answers what `asking` asks, at most `max_rows` rows in a call of a network; yields what it emits besides."""
    answers: list[Answer] | None = None
    with closing(asking):
        while (event := following(asking, answers)) is not None:
            answers = None
            if isinstance(event, list):
                answers = answer(event, max_rows)
            else:
                yield event


def following(asking: Asking[Emitted], answers: list[Answer] | None) -> list[Row] | Emitted | None:
    """Returns what comes next, given the answers where rows were asked; None at the end."""
    try:
        return next(asking) if answers is None else asking.send(answers)
    except StopIteration:
        return None


def drive(jobs: Sequence[Job], max_rows: int = 8) -> Generator[tuple[int, Event], None, None]:
    """Run jobs to their end, at most `max_rows` rows in a network call, and report (job number, event) as it happens.

    Close the iterator to cancel. A job whose own code or network call raises is reported as Failed; rows that shared
    the failing call are asked again one at a time, so that a neighbour never pays.
    """
    return answered(collected(jobs), max_rows)


@torch.no_grad()
def _collected(jobs: list[Job]) -> Asking[tuple[int, Event]]:
    waiting: dict[int, list[Row]] = {}

    def resume(i: int, answers: list[Answer] | None) -> Iterator[tuple[int, Event]]:
        error = next((one for one in answers or () if isinstance(one, Exception)), None)
        try:
            if error is not None:
                event = jobs[i].throw(error)
            else:
                event = next(jobs[i]) if answers is None else jobs[i].send(cast(list[Tensor], answers))
            while isinstance(event, Step):
                yield i, event
                event = next(jobs[i])
            waiting[i] = event
        except StopIteration as stop:
            yield i, Finished(stop.value)
        except Exception as failure:
            yield i, Failed(failure)

    for i in range(len(jobs)):
        yield from resume(i, None)
    while waiting:
        current, waiting = waiting, {}
        answers = iter((yield [row for rows in current.values() for row in rows]) or ())
        for i, rows in current.items():
            yield from resume(i, list(islice(answers, len(rows))))


@torch.no_grad()
def answer(rows: Sequence[Row], max_rows: int = 8) -> list[Answer]:
    """Asks the networks of rows, at most `max_rows` of a bucket in a call; returns the answers in the rows' order.

    Rows that shared a failing call are asked again one at a time; what fails then has its error for an answer.
    """
    buckets: dict[tuple, list[int]] = {}
    for k, row in enumerate(rows):
        buckets.setdefault(row.bucket, []).append(k)
    answers: dict[int, Answer] = {}
    for places in buckets.values():
        for start in range(0, len(places), max_rows):
            shared = places[start : start + max_rows]
            answers.update(zip(shared, _answered([rows[k] for k in shared]), strict=True))
    return [answers[k] for k in range(len(rows))]


def _answered(rows: Sequence[Row]) -> Sequence[Answer]:
    try:
        return _ask(rows)
    except Exception as error:
        return [error] if len(rows) == 1 else [_answered([row])[0] for row in rows]
