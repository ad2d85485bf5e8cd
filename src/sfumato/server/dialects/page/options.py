"""The options of a model, made of the table of all options: names, help, ranges, the model's own defaults."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from sfumato.diffusion.sampler_names import SAMPLER_NAMES, SCHEDULE_NAMES
from sfumato.hub.local_models import EMBEDDED
from sfumato.server.dialects.base import QueueOf
from sfumato.server.jobs.job import JobRequest
from sfumato.settings.kinds import Choice, Kind, Named, Names, Number, Switch, TwoNumbers, Whole
from sfumato.settings.option import MODEL, Option, options_in
from sfumato.settings.table import OPTIONS
from sfumato.settings.task_options import TASK_GROUPS
from sfumato.spec import Spec

router = APIRouter()
TYPES: tuple[tuple[type[Kind], str], ...] = (
    (Whole, "whole"), (Number, "number"), (Switch, "switch"), (Choice, "choice"), (Named, "choice"),
    (Names, "names"), (TwoNumbers, "pair"),
)  # fmt: skip
LABELS = {"sampler": SAMPLER_NAMES, "schedule": SCHEDULE_NAMES}


class OptionView(BaseModel):
    """An option; `low`, `high` and `step` are of numbers, `choices` and their `labels` of words.

    Of a text, `choices` are examples. `infotext` is its name in a picture's settings.
    """

    name: str
    type: str
    help: str
    panel: str
    default: Any
    infotext: str | None
    low: float | None
    high: float | None
    step: float | None
    choices: list[str]
    labels: list[str]


class OptionsView(BaseModel):
    """The options of a model. `tasks` are the options of single tasks, by the names of their groups."""

    model: str
    title: str
    family: str
    inpaints: bool
    options: list[OptionView]
    tasks: dict[str, list[OptionView]]


@router.get("/options")
async def list_options(queue: QueueOf, model: str = EMBEDDED) -> OptionsView:
    """List all options, with the ranges and defaults of a model."""
    await queue.checked(JobRequest(model=model))
    spec = await queue.in_background(queue.desk.spec, model)
    tasks = {
        group.__name__.removesuffix("Options").lower(): [_view(one, spec) for one in options_in(group).values()]
        for group in TASK_GROUPS
    }
    return OptionsView(
        model=model, title=spec.title, family=spec.family, inpaints=spec.inpaints,
        options=[_view(one, spec) for one in OPTIONS.values()], tasks=tasks,
    )  # fmt: skip


def _view(one: Option, spec: Spec) -> OptionView:
    kind, default = one.kind, one.default
    if default is MODEL:
        default = getattr(spec.defaults, one.name)
    if isinstance(default, type):
        default = default()
    low, high, step = (_number(getattr(kind, name, None), spec) for name in ("low", "high", "step"))
    choices = list(kind.names()) if isinstance(kind, Named) else list(getattr(kind, "choices", ()))
    return OptionView(
        name=one.name, type=next((name for known, name in TYPES if isinstance(kind, known)), "text"), help=one.help,
        panel=one.panel, default=default, infotext=one.infotext, low=low, high=high, step=step, choices=choices,
        labels=[LABELS[one.name][name].label if one.name in LABELS else name for name in choices],
    )  # fmt: skip


def _number(limit: Any, spec: Spec) -> float | None:
    value = limit(spec) if callable(limit) else limit
    return float(value) if isinstance(value, int | float) else None
