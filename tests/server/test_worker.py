"""The worker's parts: the engine that merges jobs, and the models within a limit of memory."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion import driver
from sfumato.pipeline.events import Picture
from sfumato.server.kinds.base import Begun, Report
from sfumato.server.worker.engine import Ended, Engine
from sfumato.server.worker.models import Models, weight_bytes
from sfumato.tasks.txt2img import Txt2ImgRequest

QUICK = {"width": 128, "height": 128}
REQUESTS = [
    Txt2ImgRequest(prompt="a red heart", options={**QUICK, "seed": 1, "steps": 3}),
    Txt2ImgRequest(prompt="a cat", options={**QUICK, "seed": 2, "steps": 2, "cfg": 3.0, "sampler": "heun"}),
    Txt2ImgRequest(prompt="many stars", options={**QUICK, "seed": 3, "steps": 4, "n": 2, "sampler": "dpmpp_2m"}),
]


@pytest.fixture(scope="module")
def sd() -> StableDiffusion:
    return sfumato.load()


def together(engine: Engine, sd: StableDiffusion) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for k, request in enumerate(REQUESTS):
        events = sd.events(request)
        engine.add(str(k), Begun(events.drawing, events.max_rows))
    while engine.jobs:
        for job, event in engine.round():
            if isinstance(event, Picture):
                found.setdefault(job, []).append(event)
            assert not (isinstance(event, Ended) and event.error), event
    return found


@pytest.mark.parametrize("exact", [False, True])
def test_jobs_share_calls_and_draw_what_they_draw_alone(
    sd: StableDiffusion, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    ask = driver._ask
    monkeypatch.setattr(driver, "_ask", lambda rows: (calls.append(len(rows)), ask(rows))[1])
    alone = [[event for event in sd.events(request) if isinstance(event, Picture)] for request in REQUESTS]
    one_by_one, calls[:] = len(calls), []
    found = together(Engine(exact), sd)
    for k, pictures in enumerate(alone):
        for mine, other in zip(pictures, found[str(k)], strict=True):
            a, b = (torch.tensor(list(one.image.tobytes()), dtype=torch.int16) for one in (mine, other))
            assert (a - b).abs().max() <= (0 if exact else 1)
    assert len(calls) == one_by_one if exact else len(calls) < 0.7 * one_by_one


def test_one_that_fails_harms_no_other() -> None:
    def fails() -> driver.Asking:
        yield Report({"step": 1})
        raise ValueError("broken")

    def works() -> driver.Asking:
        yield Report({"step": 1})
        yield []
        yield Report({"step": 2})

    engine, told = Engine(), []
    for name, work in (("a", fails()), ("b", works()), ("c", works())):
        engine.add(name, Begun(work))
    engine.drop("c")
    engine.drop("nobody")
    while engine.jobs:
        told += [*engine.round()]
    assert [job for job, event in told if isinstance(event, Ended) and event.error] == ["a"]
    assert [event.data["step"] for job, event in told if job == "b" and isinstance(event, Report)] == [1, 2]


def test_models_leave_when_memory_is_short(model: str) -> None:
    loads: list[str] = []
    made: weakref.WeakSet[StableDiffusion] = weakref.WeakSet()

    def load(name: str) -> StableDiffusion:
        loads.append(name)
        made.add(one := sfumato.load(model))
        return one

    size = weight_bytes(sfumato.load(model))
    models = Models("cpu", limit=int(2.5 * size), loader=load)
    for name in ("a", "b", "a", "c", "a", "b"):
        models.get(name)
    assert loads == ["a", "b", "c", "b"] and models.names == ["a", "b"]
    models.get("d", in_use=["a"])
    assert models.names == ["a", "d"]
    for k in range(20):
        models.get(f"model {k}")
        assert models.bytes <= 2.5 * size
    gc.collect()
    assert len(made) == len(models.names)
    models.unload()
    assert models.names == [] and models.bytes == 0
