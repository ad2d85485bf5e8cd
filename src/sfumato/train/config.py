"""Recipes of training runs: TOML files that ship with the package or lie anywhere."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from sfumato.errors import SfumatoError
from sfumato.files import read_toml
from sfumato.train.recipe_keys import assigned
from sfumato.typed import build as build

T = TypeVar("T")

OptimizerName = Literal["adamw", "adamw8bit", "lion", "prodigy", "adafactor", "muon"]
LrSchedule = Literal["constant", "cosine", "cosine_restarts", "linear", "polynomial", "cooldown"]
COUNTS = (
    "steps",
    "batch",
    "accumulate",
    "cycles",
    "ema_every",
    "log_every",
    "validate_every",
    "sample_every",
    "compare_every",
)


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """Settings of the training loop, the same for every method.

    `batch` samples are learnt from in a step, in `accumulate` parts one after the other, which takes less memory.
    `optimizer` is described in `train.optimizers`; Prodigy takes an `lr` of 1, Lion less than AdamW. `rates` are the
    learning rates of parts that have their own, such as {text = 1e-5}. `lr_schedule` says how rates fall after `warmup`
    steps, to `lr_end` of what they were (`train.rates`); `cycles`, `power` and `decay` belong to it. Gradients longer
    than `clip` are shortened to it, unless it is 0. Weights are averaged with the decay `ema`, at every `ema_every`-th
    step `ema_after` the first ones; 0 turns it off.

    `precision` "auto" is bf16 on devices that compute in it; "fp16" scales the loss, so that small gradients do not
    vanish (Micikevicius et al. 2018, section 3.2). `checkpointing` computes the inner values of blocks twice instead of
    keeping them in memory (`train.recompute`). `channels_last` stores feature maps pixel by pixel, which is faster on
    GPUs; on CPUs only with few norm groups. Of several processes (`train.processes`) each learns from its share of
    `batch`, and at every `compare_every`-th step their weights are compared; with `sharded` each keeps only a share of
    the weights and of the optimizer's state (`train.sharding`). Intervals count steps, except where the name says
    minutes. `wandb` is the project of Weights & Biases that figures are sent to; nothing is sent without it.
    """

    RENAMED: ClassVar[dict[str, str]] = {"schedule": "lr_schedule"}

    steps: int
    batch: int
    lr: float
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    seed: int = 0
    warmup: int = 200
    lr_schedule: LrSchedule = "cosine"
    decay: float = 0.2
    cycles: int = 1
    power: float = 2.0
    lr_end: float = 0.02
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    ema: float = 0.999
    ema_every: int = 1
    ema_after: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    checkpointing: bool = False
    sharded: bool = False
    channels_last: bool = False
    compile: bool = False
    log_every: int = 20
    validate_every: int = 500
    sample_every: int = 1000
    checkpoint_minutes: float = 10.0
    compare_every: int = 100
    wandb: str = ""

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a whole number from 1")
        if not 0 <= self.seed < 2**63:
            raise SfumatoError(f"seed is {self.seed}; expected a whole number from 0 to {2**63 - 1}")
        rates = {f"rates.{part}": rate for part, rate in self.rates.items()}
        for name, value in {"lr": self.lr, "power": self.power, **rates}.items():
            if not value > 0:
                raise SfumatoError(f"{name} is {value}; expected a positive number")
        if self.batch % self.accumulate:
            raise SfumatoError(f"accumulate is {self.accumulate}; expected a divisor of batch, {self.batch}")
        if not 0 <= self.ema < 1:
            raise SfumatoError(f"ema is {self.ema}; expected at least 0 and less than 1")


def read_config(name: str | Path, kind: type[T], assignments: Sequence[str] = ()) -> T:
    """Returns the recipe in a TOML file: `name` is its path, or the bare name of one that ships with the package.

    `assignments` such as "loop.lr=1e-4" take the place of what it says. Raises SfumatoError for a missing file, broken
    TOML, unknown or missing keys and values of another type.
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
    return build(kind, assigned(table, kind, assignments), str(path))
