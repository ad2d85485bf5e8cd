"""What users may set of a sampler or a schedule: parameters of its function that say which values they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from sfumato.errors import SfumatoError

Value = float | int | str

# Their names in the settings of a picture, as A1111 writes those that it has; some differ by sampler.
FIELDS = {
    "eta": "Eta",
    "ddim eta": "Eta DDIM",
    "s_churn": "Sigma churn",
    "s_tmin": "Sigma tmin",
    "s_tmax": "Sigma tmax",
    "s_noise": "Sigma noise",
    "unipc order": "UniPC order",
    "unipc variant": "UniPC variant",
    "rho": "Schedule rho",
    "alpha": "Beta schedule alpha",
    "beta": "Beta schedule beta",
    "threshold": "Linear quadratic threshold",
    "order": "Solver order",
    "corrector": "Corrector order",
    "variant": "Solver variant",
    "solver": "Solver type",
    "r": "Solver r",
    "rtol": "Relative tolerance",
    "atol": "Absolute tolerance",
    "h": "First step",
    "restarts": "Restarts",
}


def field_of(sampler: str, option: str) -> str:
    """The name of an option in a picture's settings."""
    own = option.replace("_", " ").capitalize()  # of a sampler that a user made
    return FIELDS.get(f"{sampler} {option}", FIELDS.get(option, own))


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`."""

    low: float
    high: float


Share = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0, 1e6)]
Positive = Annotated[float, Range(1e-6, 1e6)]
ToThree = Annotated[int, Range(1, 3)]
ToFour = Annotated[int, Range(1, 4)]


@dataclass(frozen=True)
class Option:
    """A parameter with its default and what it may be: numbers in a range, whole if the default is, or some words."""

    name: str
    default: Value
    allowed: Range | tuple[str, ...]

    def checked(self, value: object) -> Value:
        """The value, a whole number as a float where that is meant. Raises SfumatoError."""
        if isinstance(self.allowed, tuple):
            if value in self.allowed:
                return str(value)
            raise SfumatoError(f"{self.name} is {value!r}; choose {' or '.join(self.allowed)}")
        whole = isinstance(self.default, int)
        kind = "whole number" if whole else "number"
        if not isinstance(value, int if whole else int | float) or isinstance(value, bool):
            raise SfumatoError(f"{self.name} is {value!r}; choose a {kind} such as {self.default}")
        if not self.allowed.low <= value <= self.allowed.high:  # NaN is neither less nor more
            raise SfumatoError(
                f"{self.name} is {value!r}; choose a {kind} from {self.allowed.low:g} to {self.allowed.high:g}"
            )
        return value if whole else float(value)


def read_value(text: str) -> Value:
    """Returns a written value as a number where it reads as one, else as text."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The parameters of a function that are annotated with a range or with words, by their names."""
    bare = function.func if isinstance(function, partial) else function
    hints = get_type_hints(bare, include_extras=True)
    options = {}
    for name, parameter in signature(function).parameters.items():
        kind, values = get_origin(hints.get(name)), get_args(hints.get(name))
        if kind is Literal:
            options[name] = Option(name, parameter.default, values)
        elif kind is Annotated:
            options[name] = Option(name, parameter.default, values[1])
    return options


def checked(given: object, known: Mapping[str, Option], what: str) -> dict[str, Value]:
    """The given options of `what`, each checked. Raises SfumatoError for the first that is unknown or unfit."""
    if not isinstance(given, Mapping):
        raise SfumatoError(f"the sampler's options are {given!r}; give names with values, such as {{'eta': 0.5}}")
    for name in given:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise SfumatoError(f"{what} has no option {name!r}; {has}")
    return {name: known[name].checked(value) for name, value in given.items()}
