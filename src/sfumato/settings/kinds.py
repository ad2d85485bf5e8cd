"""Kinds of values that options have: what each may be, and how it is written and read as text.

The errors of this file are ValueErrors whose text has {name} once, where the option's name goes (`Option.checked`).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sfumato.diffusion.interval import Interval
from sfumato.errors import SfumatoError, shortened, unknown
from sfumato.settings.checks import is_number, is_whole

Limit = float | Callable[[Any], float]
"""A bound of a range, or what gives it from a model's spec."""
MAX_SEED = 2**64  # seeds are below it
_WHOLE = re.compile(r"\s*[+-]?\d{1,30}\s*")
_PAIR = re.compile(r"\s*\(?\s*(\d{1,6})\s*[xX×,]\s*(\d{1,6})\s*\)?\s*")


@dataclass(frozen=True)
class Kind(ABC):
    """A kind of values. `hint` is its type in Python, `metavar` what stands for a value in help."""

    hint: ClassVar[str] = "str"
    metavar: ClassVar[str | None] = None
    repeated: ClassVar[bool] = False  # on the command line

    @abstractmethod
    def checked(self, value: Any, spec: Any) -> Any:
        """The value as settings have it. Raises ValueError."""

    def read(self, text: str) -> Any:
        """The value that a text says. Raises ValueError."""
        return text

    def written(self, value: Any) -> object:
        """What a picture's settings say of a value."""
        return value

    @property
    def range(self) -> str:
        """What a value may be, as help says it; empty where `metavar` says it already."""
        return ""


def _bad(value: object, wanted: str) -> ValueError:
    return ValueError("{name} is " + f"{shortened(value)}; {wanted}")


@dataclass(frozen=True)
class Whole(Kind):
    """Whole numbers from `low` to `high`; multiples of `step`."""

    low: Limit
    high: Limit
    step: Limit = 1

    hint = "int"
    metavar = "N"

    def checked(self, value: Any, spec: Any) -> int:
        low, high, step = (_limit(one, spec) for one in (self.low, self.high, self.step))
        if not is_whole(value) or value % (step or 1) or not _between(value, low, high):
            kind = "a whole number" if step in (1, None) else f"a multiple of {step:g}"
            raise _bad(value, f"choose {kind} {_span(low, high, 'd')}")
        return value

    def read(self, text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise _bad(text, "give a whole number")
        return int(text)

    @property
    def range(self) -> str:
        if callable(self.low) or callable(self.high):
            return "" if callable(self.low) else f"{self.low:g} or more"
        return f"From {self.low:g} to {self.high:g}" if self.high < 1000 else f"{self.low:g} or more"


@dataclass(frozen=True)
class Seed(Whole):
    """Seeds as torch takes them; a negative one stands for itself plus MAX_SEED."""

    low: Limit = -(2**63)
    high: Limit = MAX_SEED - 1

    def checked(self, value: Any, spec: Any) -> int:
        return super().checked(value, spec) % MAX_SEED

    @property
    def range(self) -> str:
        return ""


@dataclass(frozen=True)
class Number(Kind):
    """Numbers from `low` to `high`, or `between` them, with one that is usual for messages."""

    low: float
    high: float
    example: float
    between: bool = False

    hint = "float"
    metavar = "NUMBER"

    def checked(self, value: Any, spec: Any) -> float:
        # NaN is neither less nor more.
        if not is_number(value) or not self.low <= value <= self.high or (self.between and value in self._ends):
            kind = "a number between" if self.between else "a number from"
            span = f"{self.low:g} {'and' if self.between else 'to'} {self.high:g}"
            raise _bad(value, f"choose {kind} {span}, such as {self.example:g}")
        return value

    def read(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise _bad(text, f"give a number, such as {self.example:g}") from None

    @property
    def range(self) -> str:
        return f"From {self.low:g} to {self.high:g}" if self.high < 1000 else ""

    @property
    def _ends(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class Switch(Kind):
    """True or False."""

    hint = "bool"

    def checked(self, value: Any, spec: Any) -> bool:
        if not isinstance(value, bool):
            raise _bad(value, "choose True or False")
        return value

    def read(self, text: str) -> bool:
        if (low := text.strip().lower()) in ("true", "yes", "on", "false", "no", "off"):
            return low in ("true", "yes", "on")
        raise _bad(text, "give true or false")


@dataclass(frozen=True)
class Choice(Kind):
    """One of some words, or of other names for these, in any case."""

    choices: tuple[str, ...]
    others: Mapping[str, str] | None = None
    shown: str = ""

    @property
    def metavar(self) -> str:  # type: ignore[override]
        return self.shown or "|".join(self.choices)

    def checked(self, value: Any, spec: Any) -> str:
        if isinstance(value, str):
            low = value.strip().lower()
            for word in self.choices:
                if word.lower() == low:
                    return word
            if low in (self.others or {}):
                return (self.others or {})[low]
        raise ValueError(unknown("{name}", value, self.choices))

    def read(self, text: str) -> str:
        return text.strip()


@dataclass(frozen=True)
class Named(Kind):
    """A name that `find` knows; it raises SfumatoError for others. `label` is how a picture's settings have it."""

    find: Callable[[Any], str]
    label: Callable[[str], str]
    names: Callable[[], Sequence[str]]
    shown: str = "NAME"

    @property
    def metavar(self) -> str:  # type: ignore[override]
        return self.shown

    def checked(self, value: Any, spec: Any) -> str:
        try:
            return self.find(value)
        except SfumatoError as error:
            raise ValueError(getattr(error, "marked", error)) from None

    def written(self, value: Any) -> str:
        return self.label(value)


@dataclass(frozen=True)
class Text(Kind):
    """Any text, such as a path."""

    shown: str = "TEXT"
    hint = "str | Path"

    @property
    def metavar(self) -> str:  # type: ignore[override]
        return self.shown

    def checked(self, value: Any, spec: Any) -> str:
        if not isinstance(value, str | Path):
            raise _bad(value, f"give {self.shown.lower().replace('|', ' or ')} as text")
        return str(value)


@dataclass(frozen=True)
class Picture(Text):
    """A picture: its file, or one that is loaded already."""

    shown: str = "FILE"
    hint = "Any"

    def checked(self, value: Any, spec: Any) -> Any:
        return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class Names(Kind):
    """Several names, separated by blanks in a picture's settings, and each an option of its own on the command line."""

    example: str
    shown: str = "NAME"
    repeated = True
    hint = "Sequence[str]"

    @property
    def metavar(self) -> str:  # type: ignore[override]
        return self.shown

    def checked(self, value: Any, spec: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(one, str) for one in value):
            raise _bad(value, f"give names in brackets, such as ({self.example!r},)")
        return tuple(value)

    def read(self, text: str) -> tuple[str, ...]:
        return tuple(text.split())

    def written(self, value: Any) -> str | None:
        return " ".join(value) or None


@dataclass(frozen=True)
class Span(Kind):
    """A part of the noise levels or of the steps, see `diffusion.interval`."""

    metavar = "LOW-HIGH"

    def checked(self, value: Any, spec: Any) -> str:
        try:
            Interval.parse(value)
        except SfumatoError as error:
            raise ValueError(str(error).replace("the interval", "{name}", 1)) from None
        return value


@dataclass(frozen=True)
class Words(Kind):
    """A prompt; one without words is as none."""

    hint = "str"
    metavar = "TEXT"

    def checked(self, value: Any, spec: Any) -> str | None:
        if not isinstance(value, str):
            raise _bad(value, "give one text in quotes")
        return value if value.strip() else None


@dataclass(frozen=True)
class TwoNumbers(Kind):
    """Two whole numbers, each from `low` to `high`, such as a width and a height."""

    low: int
    high: int
    example: tuple[int, int]
    mark: str = "x"
    shown: str = "WxH"
    hint = "tuple[int, int]"

    @property
    def metavar(self) -> str:  # type: ignore[override]
        return self.shown

    def checked(self, value: Any, spec: Any) -> tuple[int, int]:
        if not isinstance(value, Sequence) or len(value) != 2 or not all(map(is_whole, value)):
            raise _bad(value, f"give two whole numbers, such as {self.example}")
        if not self.low <= min(value) <= max(value) <= self.high:
            raise _bad(value, f"give two numbers from {self.low} to {self.high}")
        return int(value[0]), int(value[1])

    def read(self, text: str) -> tuple[int, int]:
        match = _PAIR.fullmatch(text)
        if match is None or (not text.isascii() and "×" not in text):
            raise _bad(text, f"give {self.shown}, such as {self.mark.join(map(str, self.example))}")
        return int(match[1]), int(match[2])

    def written(self, value: Any) -> str:
        return f"{value[0]}x{value[1]}"


@dataclass(frozen=True)
class Levels(Kind):
    """Two or more numbers."""

    hint = "Sequence[float]"
    metavar = "LIST"

    def checked(self, value: Any, spec: Any) -> tuple[float, ...]:
        if (
            isinstance(value, str)
            or not isinstance(value, Sequence)
            or len(value) < 2
            or not all(map(is_number, value))
        ):
            raise ValueError("{name} are " + shortened(value) + "; give two or more falling numbers that end in 0")
        return tuple(map(float, value))

    def read(self, text: str) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in text.split(","))
        except ValueError:
            wanted = "give numbers with commas between, such as 14.6,7,3,1,0.1,0"
            raise ValueError("{name} are " + shortened(text) + f"; {wanted}") from None

    def written(self, value: Any) -> str:
        return ", ".join(map(str, value))


@dataclass(frozen=True)
class Assignments(Kind):
    """Names with values, which something else checks."""

    repeated = True
    hint = "Mapping[str, Value]"
    metavar = "NAME=VALUE"

    def checked(self, value: Any, spec: Any) -> Any:
        return value


def _limit(limit: Limit, spec: Any) -> Any:
    """A bound for a model; None where it depends on a model and there is none."""
    return (None if spec is None else limit(spec)) if callable(limit) else limit


def _between(value: int, low: Any, high: Any) -> bool:
    return (low is None or low <= value) and (high is None or value <= high)


def _span(low: Any, high: Any, form: str) -> str:
    if high is None:
        return f"from {low:{form}}"
    return f"from {low:{form}} to {high:{form}}"
