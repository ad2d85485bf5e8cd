"""From the options of `sfumato train` to a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from sfumato.data.dataset import EmojiData
from sfumato.train.config import read_config
from sfumato.train.loop import Outcome, Task, pick_device, train
from sfumato.train.vae import VAETask, VAETraining

T = TypeVar("T", bound=VAETraining)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line may say about any run."""

    fresh: bool = False
    steps: int | None = None
    max_minutes: float | None = None
    device: str = "auto"
    threads: int | None = None


def train_vae(config: str, data: Path, out: Path, options: Options) -> Outcome:
    """Train an autoencoder; RUN/export then holds what `train.vae.load_vae` reads."""
    return _run(read_config(config, VAETraining), out, options, lambda cfg: VAETask(cfg, EmojiData(data)))


def _run(cfg: T, out: Path, options: Options, make: Callable[[T], Task]) -> Outcome:
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.steps:
        cfg = dataclasses.replace(cfg, loop=dataclasses.replace(cfg.loop, steps=options.steps))
    return train(
        make(cfg),
        cfg.loop,
        out,
        record=cfg,
        device=pick_device(options.device),
        resume=not options.fresh,
        max_minutes=options.max_minutes,
    )
