"""What the configs share: typed access to a JSON object, and the fields of which ours know one value."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sfumato.errors import SfumatoError

Config = Mapping[str, Any]
SHOWN = 100  # characters of a value that is refused

# Fields that change what a network computes, with the values that ours implement. Absent means the first of them.
Fixed = Mapping[str, tuple[Any, ...]]


def check(where: str, config: Config, fixed: Fixed) -> None:
    """Raises SfumatoError, naming the field, where one has a value that ours do not implement."""
    for name, values in fixed.items():
        if config.get(name, values[0]) not in values:
            allowed = " or ".join(map(repr, values))
            raise SfumatoError(f"{where} has {name} = {_shown(config[name])}; this version supports {allowed} only")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def stated(fixed: Fixed) -> dict[str, Any]:
    """The fields as a file of ours states them: each at its first value, unless that is null."""
    return {name: values[0] for name, values in fixed.items() if values[0] is not None}


class Fields:
    """Typed access to a config; a value of the wrong type is refused by name."""

    def __init__(self, where: str, config: Config):
        self.where, self.config = where, config

    def wrong(self, name: str, wanted: str) -> SfumatoError:
        return SfumatoError(f"{self.where} has {name} = {_shown(self.config.get(name))}; {wanted} is expected")

    def integer(self, name: str, default: int) -> int:
        value = self.config.get(name, default)
        if type(value) is not int or not 0 <= value < 1 << 20:
            raise self.wrong(name, "a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.config.get(name, default)
        if type(value) not in (int, float) or not abs(value) < 1e6:
            raise self.wrong(name, "a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.config.get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a name")
        return value

    def choice(self, name: str, default: str, known: Collection[str]) -> str:
        value = self.text(name, default)
        if value not in known:
            raise self.wrong(name, " or ".join(known))
        return value

    def integers(self, name: str, default: tuple[int, ...], count: int | None = None) -> tuple[int, ...]:
        """A list, or with `count` also one number that holds for all."""
        value = self.config.get(name, default)
        if count is not None and type(value) is int:
            value = [value] * count
        if (
            not isinstance(value, list | tuple)
            or not value
            or not all(type(n) is int and 0 < n < 1 << 20 for n in value)
        ):
            raise self.wrong(name, "a list of positive whole numbers")
        if count is not None and len(value) != count:
            raise self.wrong(name, f"a list of {count} numbers")
        return tuple(value)

    def optional(self, name: str) -> int | None:
        return None if self.config.get(name) is None else self.integer(name, 0)

    def flag(self, name: str, default: bool) -> bool:
        value = self.config.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def flags(self, name: str, count: int) -> tuple[bool, ...]:
        """A list, or one value that holds for all."""
        value = self.config.get(name, False)
        value = [value] * count if isinstance(value, bool) else value
        if not isinstance(value, list | tuple) or len(value) != count or not all(type(n) is bool for n in value):
            raise self.wrong(name, f"true, false or a list of {count} of them")
        return tuple(value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers, maybe empty."""
        value = self.config.get(name, ())
        if not isinstance(value, list | tuple) or not all(type(n) is int and 0 <= n < 1 << 20 for n in value):
            raise self.wrong(name, "a list of whole numbers")
        return tuple(value)

    def names(self, name: str, default: tuple[str, ...]) -> list[str]:
        value = self.config.get(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of names")
        return list(value)


def sample_size(config: Config, where: str, default: int) -> tuple[int, int]:
    """The usual height and width of what a network works on, in its own pixels or latents."""
    present = {} if config.get("sample_size") is None else config
    height, width = Fields(where, present).integers("sample_size", (default, default), 2)
    return height, width
