"""The keys of recipes, read from the dataclasses: what each is, and values that are given by name."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sfumato.errors import SfumatoError, unknown

_SENTENCE = re.compile(r"(?<=[.:])\s+(?=[A-Z`\"-])")


def keys(kind: type, prefix: str = "") -> Iterator[tuple[str, type, dataclasses.Field]]:
    """Yields the dotted keys of a recipe, each with the class that describes it and its field."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = _dataclass_in(hints[field.name])
        if inner is None:
            yield prefix + field.name, kind, field
        else:
            yield from keys(inner, f"{prefix}{field.name}.")


def explained(kind: type, key: str) -> str:
    """Returns what is known of a key of a recipe, or of all for "all": its type, its default, and what it does.

    What it does are the sentences that name it in the text of its class, or all of them if none does. Raises
    SfumatoError for a key that the recipe does not have.
    """
    known = {name: (owner, field) for name, owner, field in keys(kind)}
    if key == "all":
        return "\n".join(_head(name, *found) for name, found in known.items())
    if key not in known:
        inside = [name for name in known if name.startswith(f"{key}.")]
        if inside:
            return "\n".join(_head(name, *known[name]) for name in inside)
        raise _unknown(key, known)
    owner, field = known[key]
    return f"{_head(key, owner, field)}\n\n{_sentences(owner, field.name)}"


def assigned(table: Mapping[str, Any], kind: type, assignments: Sequence[str]) -> dict[str, Any]:
    """Returns the table of a recipe with assignments such as "loop.lr=1e-4" or 'data.trigger="sks"' in it.

    A value is TOML, or else text. Raises SfumatoError for what is no assignment and for keys that the recipe does not
    have; types are checked where the recipe is built.
    """
    known = [name for name, _, _ in keys(kind)]
    changed = _copied(table)
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        key = key.strip()
        if not sign or not key:
            raise SfumatoError(f"--set {assignment!r} is no assignment; give KEY=VALUE, such as loop.lr=1e-4")
        if not _fits(kind, key.split(".")):
            raise _unknown(key, known)
        inner = changed
        *path, name = key.split(".")
        for part in path:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise SfumatoError(f"--set {assignment!r}: {part} is no table in this recipe; leave out the rest")
        inner[name] = _value(text.strip())
    return changed


def _fits(kind: Any, path: Sequence[str]) -> bool:
    """Whether a recipe has such a key; in tables of free keys, such as [data], every one."""
    hints = typing.get_type_hints(kind)
    if path[0] not in {field.name for field in dataclasses.fields(kind)}:
        return False
    if len(path) == 1:
        return True
    hint = hints[path[0]]
    inner = _dataclass_in(hint)
    if inner is not None:
        return _fits(inner, path[1:])
    return typing.get_origin(hint) is dict


def _unknown(key: str, known: typing.Iterable[str]) -> SfumatoError:
    return unknown("key of this recipe", key, known, "`--explain all` lists them")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copied(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in table.items()}


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass that a hint such as `UNetConfig | None` speaks of."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return next((one for one in options if isinstance(one, type) and dataclasses.is_dataclass(one)), None)


def _head(key: str, owner: type, field: dataclasses.Field) -> str:
    """A key with its type and default: "loop.warmup: int = 200"."""
    hint = re.sub(r"\b(typing|sfumato(\.\w+)*)\.", "", _name(typing.get_type_hints(owner)[field.name]))
    if field.default is not dataclasses.MISSING:
        return f"{key}: {hint} = {field.default!r}"
    if field.default_factory is not dataclasses.MISSING:
        return f"{key}: {hint} = {field.default_factory()!r}"
    return f"{key}: {hint}, needed"


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _sentences(owner: type, name: str) -> str:
    text = " ".join((inspect.getdoc(owner) or "").split())
    found = [sentence for sentence in _SENTENCE.split(text) if re.search(rf"`{name}`|{{{name} =", sentence)]
    return " ".join(found) or text
