"""The table of nodes: a node is a function, and all that clients are told of it derives from its parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, isgeneratorfunction, signature
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from sfumato.hub.local_models import found
from sfumato.server.jobs.inputs import is_input
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.values import SOCKETS, Conditioning, Images

SEED_LIMIT = 2**64 - 1


class Unfit(Exception):
    """A value that an input does not take: the kind of fault as clients know it, what is wrong, and details."""

    def __init__(self, kind: str, message: str, details: str = "", **info: Any):
        super().__init__(f"{message}: {details}" if details else message)
        self.kind, self.message, self.details, self.info = kind, message, details, info


class Widget(ABC):
    """An input that is a value in the graph: what it may be, and how clients are told."""

    socket: str

    @abstractmethod
    def checked(self, value: Any) -> Any:
        """The value as the node takes it. Raises Unfit."""

    def told(self, default: Any) -> list[Any]:
        """What `/object_info` says of it."""
        return [self.socket, {} if default is Parameter.empty else {"default": default}]


@dataclass(frozen=True)
class Number(Widget):
    """A whole number, or one with a fraction if the ends have one."""

    low: float
    high: float
    step: float = 1
    seed: bool = False

    @property
    def socket(self) -> str:  # type: ignore[override]
        return "FLOAT" if isinstance(self.low, float) else "INT"

    def checked(self, value: Any) -> Any:
        try:
            if isinstance(value, bool):
                raise ValueError
            number = float(value) if isinstance(self.low, float) else int(value)
        except (TypeError, ValueError, OverflowError):
            raise Unfit("invalid_input_type", "Failed to convert an input value", self.socket) from None
        if not math.isfinite(number):
            raise Unfit("invalid_input_type", "Failed to convert an input value", f"{value!r} is no number")
        if number < self.low:
            raise Unfit("value_smaller_than_min", f"Value {number} smaller than min of {self.low}")
        if number > self.high:
            raise Unfit("value_bigger_than_max", f"Value {number} bigger than max of {self.high}")
        return number

    def told(self, default: Any) -> list[Any]:
        assert default is not Parameter.empty, "a number has a default, which clients show"
        said = {"default": default, "min": self.low, "max": self.high, "step": self.step}
        return [self.socket, said | ({"control_after_generate": True} if self.seed else {})]


@dataclass(frozen=True)
class Text(Widget):
    """A text."""

    lines: bool = False
    socket = "STRING"

    def checked(self, value: Any) -> str:
        if not isinstance(value, str | int | float):
            raise Unfit("invalid_input_type", "Failed to convert an input value to a STRING value")
        return str(value)

    def told(self, default: Any) -> list[Any]:
        more = {"multiline": True, "dynamicPrompts": True} if self.lines else {}
        return ["STRING", more | ({} if default is Parameter.empty else {"default": default})]


@dataclass(frozen=True)
class Switch(Widget):
    """Yes or no."""

    socket = "BOOLEAN"

    def checked(self, value: Any) -> bool:
        if not isinstance(value, bool | int):
            raise Unfit("invalid_input_type", "Failed to convert an input value to a BOOLEAN value")
        return bool(value)


@dataclass(frozen=True)
class Choice(Widget):
    """One of some words; `instead` says of others what to take."""

    options: tuple[str, ...]
    instead: Mapping[str, str] = field(default_factory=dict, hash=False)
    socket = "COMBO"

    def names(self) -> tuple[str, ...]:
        """The words at this moment."""
        return self.options

    def checked(self, value: Any) -> str:
        names = self.names()
        if value in names:
            return value
        hint = self.instead.get(value) if isinstance(value, str) else None
        listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "there are none here"
        raise Unfit("value_not_in_list", "Value not in list", f"{str(value)[:80]!r}; {hint or f'choose: {listed}'}")

    def told(self, default: Any) -> list[Any]:
        return [list(self.names()), {} if default is Parameter.empty else {"default": default}]


@dataclass(frozen=True)
class File(Choice):
    """A file of the model folders, of one of some `kinds`; without its ending it is meant as well."""

    options: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("model",)

    def names(self) -> tuple[str, ...]:
        return files(*self.kinds)

    def checked(self, value: Any) -> str:
        if isinstance(value, str):
            there = self.names()
            plain = value.replace("\\", "/").rpartition("/")[2]
            stems = {Path(name).stem: name for name in there}
            for name in (value, plain):
                if name in there or name in stems:
                    return stems.get(name, name)
        return super().checked(value)


@dataclass(frozen=True)
class Sent(Widget):
    """A picture that was sent before."""

    mask: bool = False
    socket = "COMBO"

    def checked(self, value: Any) -> str:
        if not is_input(value):
            raise Unfit("custom_validation_failed", "Invalid image file", f"{str(value)[:80]!r} was not uploaded")
        return value

    def told(self, default: Any) -> list[Any]:
        return [[], {"image_upload": True}]


def files(*kinds: str) -> tuple[str, ...]:
    """The names of the files of these kinds, as `hub.local_models.find` takes them."""
    return tuple(dict.fromkeys(one.path.name for one in found() if one.kind in kinds))


@dataclass(frozen=True)
class Input:
    """An input of a node. `widget` is None where only another node can give it, whose kind of value is `socket`."""

    name: str
    socket: str
    widget: Widget | None
    default: Any
    optional: bool

    @property
    def told(self) -> list[Any]:
        """What `/object_info` says of it."""
        return [self.socket, {}] if self.widget is None else self.widget.told(self.default)


@dataclass(frozen=True, eq=False)
class Node:
    """A node. `work` is its function; a `light` one only describes, an `ends` one is what a graph is worked on for."""

    name: str
    category: str
    work: Callable[..., Any]
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...]
    output_names: tuple[str, ...]
    light: bool = False
    ends: bool = False
    run: str | None = None

    @property
    def asks(self) -> bool:
        """Whether it asks networks, or tells how it goes on."""
        return isgeneratorfunction(self.work)

    def told(self) -> dict[str, Any]:
        """What `/object_info` says of it."""
        parts: dict[str, dict[str, Any]] = {"required": {}}
        for one in self.inputs.values():
            parts.setdefault("optional" if one.optional else "required", {})[one.name] = one.told
        return {
            "input": parts, "input_order": {part: list(given) for part, given in parts.items()},
            "output": list(self.outputs), "output_is_list": [False] * len(self.outputs),
            "output_name": list(self.output_names), "name": self.name, "display_name": self.name,
            "description": (self.work.__doc__ or "").strip(), "python_module": "nodes", "category": self.category,
            "output_node": self.ends, "deprecated": False, "experimental": False,
        }  # fmt: skip


NODES: dict[str, Node] = {}


def node(
    name: str, category: str, *names: str, light: bool = False, ends: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes a function a node of the table. `names` are those of its outputs, by default those of their kinds."""

    def registered(work: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(work, include_extras=True)
        result = hints.pop("return", NoneType)
        if isgeneratorfunction(work):
            result = get_args(result)[2]
        outputs = tuple(_sockets(result))
        run = next((name for name, kind in hints.items() if kind is Run), None)
        inputs = {
            name: _input(name, hints[name], one.default)
            for name, one in signature(work).parameters.items()
            if name != run
        }
        NODES[name] = Node(name, category, work, inputs, outputs, names or outputs, light, ends, run)
        return work

    return registered


def _input(name: str, hint: Any, default: Any) -> Input:
    optional = NoneType in get_args(hint)
    if optional:
        hint = next(one for one in get_args(hint) if one is not NoneType)
    widget = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Widget)), None)
    return Input(name, widget.socket if widget else SOCKETS[hint], widget, default, optional)


def _sockets(result: Any) -> Iterator[str]:
    if result is NoneType or result is None:
        return
    if result in SOCKETS:
        yield SOCKETS[result]
    else:
        yield from (SOCKETS[one] for one in get_args(result))


assert Conditioning in SOCKETS and Images in SOCKETS
