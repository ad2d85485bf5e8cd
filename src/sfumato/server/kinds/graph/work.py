"""Works on a graph: each node when all that it takes is there, and nothing whose result is kept from before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from sfumato.errors import SfumatoError
from sfumato.server.kinds.base import Report, Work
from sfumato.server.kinds.graph.cache import Cache
from sfumato.server.kinds.graph.check import Link, Plan, Step
from sfumato.server.kinds.graph.run import Making, Run
from sfumato.server.kinds.graph.table import Unfit

Outputs = tuple[Any, ...]


def worked_on(plan: Plan, run: Run, cache: Cache) -> Work:
    """Works on a graph; yields steps, pictures, and reports of which node is at work and what it showed.

    The reports are {"cached": keys}, {"executing": key}, and {"executed": key, "pictures": [first, last + 1], "kind":
    "output" or "temp"}; the final one has these by their nodes. Raises SfumatoError.
    """
    made: dict[str, Outputs] = {}
    keys: dict[str, str] = {}
    for key, step in plan.steps.items():
        keys[key] = yield from _keyed(step, made, keys, run)
    needed = _needed(plan, keys, made, cache)
    yield Report({"cached": [key for key in plan.steps if key not in needed]})
    shown: dict[str, Any] = {}
    for key in (key for key in plan.steps if key in needed):
        step, before = plan.steps[key], run.shown
        yield Report({"executing": key})
        made[key] = yield from _outputs(step, made, run)
        if step.node.ends:
            kind = "temp" if step.node.name.startswith("Preview") else "output"
            shown[key] = {"pictures": [before, run.shown], "kind": kind}
            yield Report({"executed": key, **shown[key]})
        else:
            cache.put(keys[key], made[key])
    yield Report({"outputs": shown}, final=True)


def _keyed(step: Step, made: dict[str, Outputs], keys: Mapping[str, str], run: Run) -> Making[str]:
    """The key of a step: what it describes where it only does that, else what it is made of."""
    if step.node.light and all(link.node in made for link in step.links):
        try:
            made[step.key] = _called(step, made, run)
        except SfumatoError:
            yield Report({"executing": step.key})
            raise
        return _digest(step.node.name, repr(made[step.key]))
    inputs = {
        name: [keys[value.node], value.output] if isinstance(value, Link) else value
        for name, value in step.inputs.items()
    }
    return _digest(step.node.name, json.dumps(inputs, sort_keys=True, default=repr))


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()


def _needed(plan: Plan, keys: Mapping[str, str], made: dict[str, Outputs], cache: Cache) -> set[str]:
    """The steps to be worked on; what is kept from before is taken."""
    needed, waiting = set(plan.ends), list(plan.ends)
    for key in waiting:
        for other in (link.node for link in plan.steps[key].links):
            if other in made or other in needed:
                continue
            if (outputs := cache.get(keys[other])) is not None:
                made[other] = outputs
                continue
            needed.add(other)
            waiting.append(other)
    return needed


def _outputs(step: Step, made: Mapping[str, Outputs], run: Run) -> Making[Outputs]:
    if not step.node.asks:
        return _called(step, made, run)
    return _as_outputs(step, (yield from step.node.work(**_given(step, made, run))))


@torch.no_grad()
def _called(step: Step, made: Mapping[str, Outputs], run: Run) -> Outputs:
    return _as_outputs(step, step.node.work(**_given(step, made, run)))


def _as_outputs(step: Step, result: Any) -> Outputs:
    many = len(step.node.outputs)
    return (result,) if many == 1 else tuple(result or ())


def _given(step: Step, made: Mapping[str, Outputs], run: Run) -> dict[str, Any]:
    """What a node's function is called with; values of other nodes are checked as those in the graph were."""
    given: dict[str, Any] = {} if step.node.run is None else {step.node.run: run}
    for name, value in step.inputs.items():
        widget = step.node.inputs[name].widget
        if isinstance(value, Link):
            value = made[value.node][value.output]
            try:
                value = value if widget is None else widget.checked(value)
            except Unfit as unfit:
                raise SfumatoError(f"{name} of {step.node.name}: {unfit}") from None
        given[name] = value
    return given
