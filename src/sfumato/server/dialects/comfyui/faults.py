"""How ComfyUI says that something is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sfumato.server.kinds.graph.check import GraphError, Problem

DEEPEST = 64  # levels of a body's values


def fault(message: str, kind: str = "invalid_prompt", details: str = "") -> dict[str, Any]:
    """What is wrong with a request as a whole."""
    return {"type": kind, "message": message, "details": details, "extra_info": {}}


def refused(error: GraphError, graph: Mapping[str, Any]) -> dict[str, Any]:
    """The reply for a graph that cannot be worked on."""
    lost = {} if error.graph is None else error.graph.lost
    details = "\n".join(map(str, error.problems[:20]))
    return {"error": fault(error.message, error.kind, details), "node_errors": node_errors(error.problems, lost, graph)}


def node_errors(
    problems: tuple[Problem, ...], lost: Mapping[str, tuple[str, ...]], graph: Mapping[str, Any]
) -> dict[str, Any]:
    """The problems of nodes by their keys, each with the ends that are lost by them."""
    found: dict[str, Any] = {}
    for one in problems:
        node = graph.get(one.node)
        name = node.get("class_type") if isinstance(node, Mapping) else None
        entry = found.setdefault(
            one.node, {"errors": [], "dependent_outputs": list(lost.get(one.node, ())), "class_type": name}
        )
        info = {} if one.input is None else {"input_name": one.input}
        details = f"{one.input}, {one.details}" if one.input and one.details else one.input or one.details
        entry["errors"].append({"type": one.kind, "message": one.message, "details": details, "extra_info": info})
    return found


def problem_of(value: Any) -> str | None:
    """Why a body cannot be kept and sent back as JSON: numbers that are none, halves of letters, too many levels."""
    level, waiting = 0, [value]
    while waiting:
        if level > DEEPEST:
            return f"the body is more than {DEEPEST} levels deep"
        level, here, waiting = level + 1, waiting, []
        for one in here:
            if isinstance(one, dict):
                waiting += [*one, *one.values()]
            elif isinstance(one, list):
                waiting += one
            elif isinstance(one, float) and not math.isfinite(one):
                return f"the body has the number {one}, which JSON does not know"
            elif isinstance(one, str) and not one.isascii() and one.encode(errors="replace").decode() != one:
                return "the body has a text with half a letter (a lone surrogate)"
    return None
