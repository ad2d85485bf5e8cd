"""TOML recipes read into frozen dataclasses: every key typed, every unknown key refused by name."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from sfumato.errors import SfumatoError

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """What every training run has, whatever it trains.

    `decay` of the "cooldown" schedule is the last share of the steps, over which the rate falls linearly to `lr_end`
    times `lr`; "cosine" falls over the whole run. `precision` "auto" is bf16 where the device computes in it.
    `channels_last` stores feature maps pixel by pixel: faster on GPUs, on the CPU only with few norm groups.
    `ema` 0 turns averaging off. Intervals count steps, except where the name says minutes.
    """

    steps: int
    batch: int
    lr: float
    seed: int = 0
    warmup: int = 200
    schedule: Literal["constant", "cosine", "cooldown"] = "cosine"
    decay: float = 0.2
    lr_end: float = 0.02
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    ema: float = 0.999
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = False
    compile: bool = False
    log_every: int = 20
    validate_every: int = 500
    sample_every: int = 1000
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "validate_every", "sample_every"):
            if getattr(self, name) < 1:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a whole number from 1")
        if not 0 <= self.seed < 2**63:
            raise SfumatoError(f"seed is {self.seed}; expected a whole number from 0 to {2**63 - 1}")
        if not self.lr > 0:
            raise SfumatoError(f"lr is {self.lr}; expected a positive number")
        if not 0 <= self.ema < 1:
            raise SfumatoError(f"ema is {self.ema}; expected at least 0 and less than 1")


def read_config(name: str | Path, kind: type[T]) -> T:
    """Read a recipe: a path of a TOML file, or the bare name of one that ships with the package.

    Raises SfumatoError for a missing file, broken TOML, unknown or missing keys and values of the wrong type.
    """
    path = Path(name)
    shipped = {Path(file.name).stem: file for file in resources.files("sfumato.train").joinpath("configs").iterdir()}
    if name in shipped:
        text = shipped[str(name)].read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            names = ", ".join(sorted(shipped))
            raise SfumatoError(f"cannot read config {path}: {reason}; give a TOML file or one of {names}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SfumatoError(f"{path} is not valid TOML: {error}") from error
    return build(kind, table, str(path))


def build(kind: type[T], table: Any, where: str) -> T:
    """A dataclass from a table; `where` is the place that error messages name."""
    if not isinstance(table, dict):
        raise SfumatoError(f"{where} is {table!r}; expected a table")
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


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        raise SfumatoError(f"{where} is {value!r}; expected one of {', '.join(map(str, arguments))}")
    if origin in (typing.Union, types.UnionType):
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
