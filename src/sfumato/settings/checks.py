"""What numbers that users give may be."""

from __future__ import annotations

from typing import Any

from sfumato.errors import SfumatoError


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return isinstance(value, float) or is_whole(value)


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Raises SfumatoError unless `value` is a whole number from `low` to `high`."""
    if not is_whole(value) or not low <= value <= high:
        raise SfumatoError(f"{name} is {value!r}; choose a whole number from {low} to {high}")


def check_number(name: str, value: Any, low: float, high: float, example: float) -> None:
    """Raises SfumatoError unless `value` is a number from `low` to `high`."""
    if not is_number(value) or not low <= value <= high:  # NaN is neither less nor more
        raise SfumatoError(f"{name} is {value!r}; choose a number from {low:g} to {high:g}, such as {example:g}")
