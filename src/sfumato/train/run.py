"""Runs a training method: reads the recipe, builds the task and trains it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.data.pictures.protocol import SampleSource
from sfumato.errors import SfumatoError
from sfumato.runtime.threads import MAX_THREADS
from sfumato.train.config import read_config
from sfumato.train.loop import Outcome, train
from sfumato.train.precision import pick_device
from sfumato.train.registry import Method
from sfumato.train.task import MethodTask, Prepares


@dataclass(frozen=True)
class Options:
    """Options that every run has; None leaves a value to the recipe or to torch.

    `assignments` change keys of the recipe, such as
    "loop.lr=1e-4". With `fresh`, a run that lies in the folder already is an error and not continued.
    """

    seed: int | None = None
    fresh: bool = False
    steps: int | None = None
    max_minutes: float | None = None
    device: str = "auto"
    threads: int | None = None
    assignments: tuple[str, ...] = ()


def run_method(
    method: Method, recipe: str | Path, data: SampleSource, out: Path, inputs: Mapping[str, Any], options: Options
) -> Outcome:
    """Trains by `method` in the folder `out` and leaves the result in `out`/export.

    `recipe` is a TOML file, or the name of one that ships. `data` is a `data.protocol.TrainingSet`, unless the method
    takes a user's own pictures. `inputs` are the values of `method.inputs` by name. Raises
    SfumatoError for a recipe, inputs or a device that do not fit.
    """
    task, device = built(method, recipe, data, out, inputs, options)
    if isinstance(task, Prepares):
        task.prepare()
    return train(
        task,
        task.cfg.loop,
        out,
        record=task.cfg,
        device=device,
        resume=not options.fresh,
        max_minutes=options.max_minutes,
    )


def recipe_of(method: Method, recipe: str | Path, options: Options) -> Any:
    """Returns the recipe of a run, with what the options change. Raises SfumatoError as `run_method`."""
    cfg: Any = read_config(recipe, method.load()[0], options.assignments)
    changes = {name: value for name in ("seed", "steps") if (value := getattr(options, name)) is not None}
    return dataclasses.replace(cfg, loop=dataclasses.replace(cfg.loop, **changes))


def built(
    method: Method, recipe: str | Path, data: SampleSource, out: Path, inputs: Mapping[str, Any], options: Options
) -> tuple[MethodTask, torch.device]:
    """Returns the task of a run and its device, with everything loaded. The arguments are those of `run_method`."""
    cfg = recipe_of(method, recipe, options)
    if options.threads:
        if not 1 <= options.threads <= MAX_THREADS:
            raise SfumatoError(f"{options.threads} threads are asked for; choose from 1 to {MAX_THREADS}")
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    return method.load()[1](cfg, data, out, device, **inputs), device
