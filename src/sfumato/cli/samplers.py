"""`sfumato samplers`: what there is to walk from noise to a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.table import print_table
from sfumato.diffusion.sampler_names import SAMPLER_NAMES, SCHEDULE_NAMES

if TYPE_CHECKING:
    from sfumato.diffusion.options import Option
    from sfumato.diffusion.sample import Sampler


def samplers(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """List the samplers and the schedules, with their options.

    CALLS are those of the network per step, ORDER is the measured order of convergence without noise. An ODE always
    leads to one picture; the ancestral kinds and the SDEs add noise on the way. Any of the names may be given, in any
    case, and options by --set NAME=VALUE.
    """
    from sfumato.diffusion.sample import SAMPLERS
    from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES

    if as_json:
        both = {
            "samplers": [
                {
                    "name": one.name, "label": one.label, "aliases": SAMPLER_NAMES[one.name].aliases, "kind": one.kind,
                    "multistep": one.multistep, "calls": one.calls, "order": one.order, "schedule": one.schedule,
                    "options": _defaults(one.options), "source": one.source,
                }
                for one in SAMPLERS.values()
            ],
            "schedules": [
                {
                    "name": one.name, "label": one.label, "aliases": SCHEDULE_NAMES[one.name].aliases,
                    "options": _defaults(one.options), "source": one.source,
                }
                for one in SIGMA_SCHEDULES.values()
            ],
        }  # fmt: skip
        typer.echo(json.dumps(both))
        return
    columns = ("SAMPLER", "LABEL", "KIND", "CALLS", "ORDER", "SCHEDULE", "SOURCE", "OPTIONS", "ALSO KNOWN AS")
    print_table([columns, *map(_row, SAMPLERS.values())])
    typer.echo()
    print_table(
        [
            ("SCHEDULE", "LABEL", "SOURCE", "OPTIONS", "ALSO KNOWN AS"),
            *(
                (one.name, one.label, one.source, *_more(one.options, SCHEDULE_NAMES[one.name].aliases))
                for one in SIGMA_SCHEDULES.values()
            ),
        ]
    )


def _row(one: Sampler) -> tuple[str, ...]:
    kind = f"{one.kind}, {'multistep' if one.multistep else 'single step'}"
    return (
        one.name, one.label, kind, str(one.calls), str(one.order), one.schedule, one.source,
        *_more(one.options, SAMPLER_NAMES[one.name].aliases),
    )  # fmt: skip


def _more(options: Mapping[str, Option], aliases: Sequence[str]) -> tuple[str, str]:
    return " ".join(f"{name}={value}" for name, value in _defaults(options).items()), ", ".join(aliases)


def _defaults(options: Mapping[str, Option]) -> dict[str, Any]:
    """JSON and people have no word for a number without end."""
    return {name: "inf" if one.default == float("inf") else one.default for name, one in options.items()}
