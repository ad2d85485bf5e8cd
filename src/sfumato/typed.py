"""Frozen dataclasses from tables of a file (TOML, JSON): every value is checked against its type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from sfumato.errors import SfumatoError, warn

T = TypeVar("T")


def build(kind: type[T], table: Any, where: str) -> T:
    """Returns the dataclass `kind` with the values of `table`; `where` is the place that messages name.

    A class may say in `RENAMED: ClassVar[dict[str, str]]` what its former keys are called now; "a.b" is key b of the
    table a. A former key is accepted, and SfumatoWarning says its new name. Raises SfumatoError for unknown or missing
    keys and for values of another type.
    """
    if not isinstance(table, dict):
        raise SfumatoError(f"{where} is {table!r}; expected a table")
    table = _renamed(table, getattr(kind, "RENAMED", {}), where)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(table.keys() - fields.keys())
    if unknown:
        raise SfumatoError(f"{where}: unknown key '{unknown[0]}'; expected one of {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and name not in table
    ]
    if missing:
        raise SfumatoError(f"{where}: key '{missing[0]}' is missing")
    values = {name: _value(hints[name], value, f"{where}: {name}") for name, value in table.items()}
    return kind(**values)


def _renamed(table: dict[str, Any], names: Mapping[str, str], where: str) -> dict[str, Any]:
    """Returns a copy of `table` with its former keys moved to the present ones."""
    table = dict(table)
    for old, new in names.items():
        if old not in table:
            continue
        *path, name = new.split(".")
        inner = table
        for key in path:
            if not isinstance(inner.setdefault(key, {}), dict):
                raise SfumatoError(f"{where}: {key} is {inner[key]!r}; expected a table")
            inner[key] = dict(inner[key])
            inner = inner[key]
        if name in inner:
            raise SfumatoError(f"{where} has both '{old}' and '{new}', its present name; leave out '{old}'")
        inner[name] = table.pop(old)
        warn(f"{where}: '{old}' is now called '{new}'")
    return table


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if value in arguments:
            return value
        raise SfumatoError(f"{where} is {value!r}; expected one of {', '.join(map(str, arguments))}")
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_value(arguments[0], entry, f"{where}[{i}]") for i, entry in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    plain = origin or hint
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise SfumatoError(f"{where} is {value!r}; expected {plain.__name__}")
    return value
