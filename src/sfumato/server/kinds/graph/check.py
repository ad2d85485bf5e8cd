"""Graphs checked before any job exists, and put into the order in which their nodes are worked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sfumato.errors import SfumatoError, shortened
from sfumato.provenance.readers.graph import is_link
from sfumato.server.kinds.graph.packs import pack_of
from sfumato.server.kinds.graph.table import NODES, Input, Node, Unfit

MOST_NODES = 2000
IGNORED = ("Note", "MarkdownNote")


@dataclass(frozen=True)
class Link:
    """An input that is an output of another node."""

    node: str
    output: int


@dataclass(frozen=True)
class Step:
    """A node of a graph with its inputs, values or links."""

    key: str
    node: Node
    inputs: Mapping[str, Any]

    @property
    def links(self) -> list[Link]:
        return [one for one in self.inputs.values() if isinstance(one, Link)]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a node, at one of its inputs or as a whole."""

    node: str
    kind: str
    message: str
    details: str = ""
    input: str | None = None

    def __str__(self) -> str:
        where = f"node {self.node}" + (f", {self.input}" if self.input else "")
        return f"{where}: {self.message}" + (f" ({self.details})" if self.details else "")


@dataclass(frozen=True)
class Plan:
    """A graph in order: `steps` come after all that they take something from. `ends` are what it is worked on for.

    `problems` are those of nodes that other `ends` than these depend on, which are `lost`.
    """

    steps: Mapping[str, Step]
    ends: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    lost: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class GraphError(SfumatoError):
    """A graph that cannot be worked on: the `kind` of fault as clients know it, and the problems of its nodes."""

    def __init__(self, kind: str, message: str, problems: Sequence[Problem] = (), graph: Plan | None = None):
        listed = "; ".join(map(str, problems[:5]))
        super().__init__(f"{message}: {listed}" if listed else message)
        self.kind, self.message, self.problems, self.graph = kind, message, tuple(problems), graph


def planned(graph: Any, targets: Sequence[str] | None = None) -> Plan:
    """Checks a graph in the API format. `targets` are the ends that are wanted, None for all.

    Raises GraphError for one of which no end can be worked on.
    """
    raw = _nodes(graph)
    wanted = None if targets is None else set(map(str, targets))
    ends = [key for key, (node, _) in raw.items() if node.ends and (wanted is None or key in wanted)]
    if not ends:
        raise GraphError("prompt_no_outputs", "Prompt has no outputs; add a SaveImage or PreviewImage node")
    problems: dict[str, list[Problem]] = {}
    steps: dict[str, Step] = {}
    for key in _reached(raw, ends):
        node, inputs = raw[key]
        given, found = _inputs(key, node, inputs, raw)
        steps[key] = Step(key, node, given)
        if found:
            problems[key] = found
    order, circle = _ordered(steps, ends)
    for key in circle:
        problems.setdefault(key, []).append(Problem(key, "dependency_cycle", "Dependency cycle detected"))
    users = {end: [key for key in _upstream(steps, end) if key in problems] for end in ends}
    good = tuple(end for end in ends if not users[end])
    every = tuple(one for key in problems for one in problems[key])
    lost = {key: tuple(end for end in ends if key in users[end]) for key in problems}
    plan = Plan({key: steps[key] for key in order}, good, every, lost)
    if not good:
        raise GraphError("prompt_outputs_failed_validation", "Prompt outputs failed validation", every, plan)
    needed = {key for end in good for key in _upstream(steps, end)}
    return Plan({key: steps[key] for key in order if key in needed}, good, every, lost)


def _nodes(graph: Any) -> dict[str, tuple[Node, Mapping[str, Any]]]:
    """The nodes of a graph by their keys. Raises GraphError for what is no graph, and for nodes that are not here."""
    if not isinstance(graph, Mapping) or not graph:
        raise GraphError("no_prompt", "No prompt provided; send the graph in the API format")
    if len(graph) > MOST_NODES:
        raise GraphError("invalid_prompt", f"The graph has {len(graph)} nodes; the limit is {MOST_NODES}")
    found, unknown = {}, []
    for key, one in graph.items():
        name = one.get("class_type") if isinstance(one, Mapping) else None
        inputs = one.get("inputs", {}) if isinstance(one, Mapping) else None
        if not isinstance(name, str) or not isinstance(inputs, Mapping):
            what = "needs class_type and inputs, as in the API format; is this the editor's format?"
            raise GraphError("invalid_prompt", f"Cannot execute because node {shortened(key)} {what}")
        if name in NODES:
            found[str(key)] = NODES[name], inputs
        elif name not in IGNORED:
            pack = pack_of(name)
            unknown.append(Problem(str(key), "missing_node_type", f"Node {name[:80]!r} not found", pack))
    if unknown:
        names = ", ".join(dict.fromkeys(f"{one.message} ({one.details})" for one in unknown[:8]))
        raise GraphError("missing_node_type", f"Cannot execute because nodes are not here: {names}", unknown)
    return found


def _reached(raw: Mapping[str, tuple[Node, Mapping[str, Any]]], ends: Sequence[str]) -> Iterator[str]:
    """The ends and all that they depend on, each once."""
    seen, waiting = set(ends), list(ends)
    for key in waiting:
        yield key
        node, inputs = raw[key]
        for name in node.inputs:
            value: Any = inputs.get(name)
            other = str(value[0]) if is_link(value) else ""
            if other in raw and other not in seen:
                seen.add(other)
                waiting.append(other)


def _inputs(
    key: str, node: Node, inputs: Mapping[str, Any], raw: Mapping[str, tuple[Node, Mapping[str, Any]]]
) -> tuple[dict[str, Any], list[Problem]]:
    """The inputs of a node as it takes them, and what is wrong with them."""
    given: dict[str, Any] = {}
    problems = []
    for name, one in node.inputs.items():
        try:
            if name not in inputs or (inputs[name] is None and one.optional):
                if not one.optional:
                    raise Unfit("required_input_missing", "Required input is missing", name)
                continue
            given[name] = _given(one, inputs[name], raw)
        except Unfit as unfit:
            problems.append(Problem(key, unfit.kind, unfit.message, unfit.details, name))
    return given, problems


def _given(one: Input, value: Any, raw: Mapping[str, tuple[Node, Mapping[str, Any]]]) -> Any:
    if not isinstance(value, list):
        if one.widget is None:
            raise Unfit("bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]")
        return one.widget.checked(value)
    if not is_link(value):
        raise Unfit("bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]")
    other, output = str(value[0]), value[1]
    if other not in raw or not 0 <= output < len(raw[other][0].outputs):
        raise Unfit("bad_linked_input", "Bad linked input", f"there is no output {output} of a node {other[:40]!r}")
    theirs = raw[other][0].outputs[output]
    if not _fits(theirs, one.socket):
        kinds = f"received_type({theirs}) mismatch input_type({one.socket})"
        raise Unfit("return_type_mismatch", "Return type mismatch between linked nodes", kinds)
    return Link(other, output)


def _fits(theirs: str, ours: str) -> bool:
    return theirs == ours or "*" in (theirs, ours) or (theirs, ours) in (("INT", "FLOAT"), ("STRING", "COMBO"))


def _upstream(steps: Mapping[str, Step], end: str) -> list[str]:
    """A step and all that it depends on."""
    seen, waiting = {end}, [end]
    for key in waiting:
        for link in steps[key].links:
            if link.node not in seen:
                seen.add(link.node)
                waiting.append(link.node)
    return waiting


def _ordered(steps: Mapping[str, Step], ends: Sequence[str]) -> tuple[list[str], list[str]]:
    """The keys of steps, each after those that it depends on, and those that depend on themselves."""
    order: list[str] = []
    state: dict[str, bool] = {}  # whether a step is done; those that are begun are not
    circle: list[str] = []
    for end in ends:
        waiting = [end]
        while waiting:
            key = waiting[-1]
            if key in state:
                waiting.pop()
                if not state[key]:
                    state[key] = True
                    order.append(key)
                continue
            state[key] = False
            for other in (link.node for link in steps[key].links):
                if other not in state:
                    waiting.append(other)
                elif not state[other]:
                    circle.append(other)
    return order, circle
