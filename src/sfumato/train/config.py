"""Recipes of training runs: TOML files that ship with the package or lie anywhere."""

from __future__ import annotations

import dataclasses
import tomllib
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from sfumato.errors import SfumatoError
from sfumato.files import read_toml
from sfumato.typed import build as build

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Settings of the training loop, the same for every method.

    `lr_schedule` says how the learning rate falls from `lr` to `lr_end` times `lr`: "cosine" over the whole run,
    "cooldown" linearly over the last share `decay` of the steps. `precision` "auto" is bf16 on devices that compute in
    it; "fp16" scales the loss, so that small gradients do not vanish (Micikevicius et al. 2018, section 3.2).
    `channels_last` stores feature maps pixel by pixel, which is faster on GPUs; on CPUs only with few norm groups.
    `ema` 0 turns averaging off. Intervals count steps, except where the name says minutes.
    """

    RENAMED: ClassVar[dict[str, str]] = {"schedule": "lr_schedule"}

    steps: int
    batch: int
    lr: float
    seed: int = 0
    warmup: int = 200
    lr_schedule: Literal["constant", "cosine", "cooldown"] = "cosine"
    decay: float = 0.2
    lr_end: float = 0.02
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    ema: float = 0.999
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
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
    """Returns the recipe in a TOML file: `name` is its path, or the bare name of one that ships with the package.

    Raises SfumatoError for a missing file, broken TOML, unknown or missing keys and values of another type.
    """
    path = Path(name)
    shipped = {Path(file.name).stem: file for file in resources.files("sfumato.train").joinpath("configs").iterdir()}
    if name in shipped:
        table = tomllib.loads(shipped[str(name)].read_text(encoding="utf-8"))
    else:
        try:
            table = read_toml(path)
        except SfumatoError as error:
            near = get_close_matches(str(name), shipped, 1)
            guess = f"did you mean {near[0]!r}? " if near else ""
            names = ", ".join(sorted(shipped))
            raise SfumatoError(f"{error}; {guess}a config is a TOML file or one of {names}") from error
    return build(kind, table, str(path))
