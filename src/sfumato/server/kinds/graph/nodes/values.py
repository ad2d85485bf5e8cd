"""Nodes that only say a value."""

from __future__ import annotations

from typing import Annotated, Any

from sfumato.server.kinds.graph.table import Number, Switch, Text, node
from sfumato.server.kinds.graph.values import Anything

WHOLE = 2**63 - 1
Lines = Annotated[str, Text(lines=True)]


@node("PrimitiveInt", "utils/primitive", light=True)
def whole(value: Annotated[int, Number(-WHOLE, WHOLE)] = 0) -> int:
    """A whole number."""
    return value


@node("PrimitiveFloat", "utils/primitive", light=True)
def number(value: Annotated[float, Number(-float(WHOLE), float(WHOLE), 0.1)] = 0.0) -> float:
    """A number."""
    return value


@node("PrimitiveString", "utils/primitive", light=True)
def line(value: Annotated[str, Text()] = "") -> str:
    """A text."""
    return value


@node("PrimitiveStringMultiline", "utils/primitive", light=True)
def lines(value: Lines = "") -> str:
    """A text of several lines."""
    return value


@node("PrimitiveBoolean", "utils/primitive", light=True)
def yes(value: Annotated[bool, Switch()] = False) -> bool:
    """Yes or no."""
    return value


@node("StringConcatenate", "utils/string", light=True)
def joined(string_a: Lines = "", string_b: Lines = "", delimiter: Annotated[str, Text()] = "") -> str:
    """Two texts, one behind the other."""
    return f"{string_a}{delimiter}{string_b}"


@node("Reroute", "utils")
def reroute(value: Anything) -> Anything:
    """The value itself."""
    passed: Any = value
    return passed
