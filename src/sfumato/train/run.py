"""From the options of `sfumato train` to a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from sfumato.data.dataset import EmojiData, corpus
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.beside import BesideTask, BesideTraining
from sfumato.train.clip import CLIPTask, CLIPTraining
from sfumato.train.config import read_config
from sfumato.train.depth_net import DepthNetTask, DepthNetTraining
from sfumato.train.distil import DistilTask, DistilTraining
from sfumato.train.ldm import LDMTask, LDMTraining
from sfumato.train.loop import Outcome, Task, pick_device, train
from sfumato.train.start import gather
from sfumato.train.vae import VAETask, VAETraining

T = TypeVar("T", VAETraining, CLIPTraining, LDMTraining, DepthNetTraining, BesideTraining, DistilTraining)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line may say about any run."""

    seed: int | None = None
    fresh: bool = False
    steps: int | None = None
    max_minutes: float | None = None
    device: str = "auto"
    threads: int | None = None


def train_vae(config: str, data: Path, out: Path, options: Options) -> Outcome:
    """Train an autoencoder; RUN/export then holds what `train.vae.load_vae` reads."""
    return _run(read_config(config, VAETraining), out, options, lambda cfg: VAETask(cfg, EmojiData(data)))


def train_clip(config: str, data: Path, out: Path, options: Options) -> Outcome:
    """Train a text-and-image model; RUN/export then holds what `train.clip.load_clip` reads."""

    def task(cfg: CLIPTraining) -> CLIPTask:
        pictures = EmojiData(data)
        return CLIPTask(cfg, pictures, run_tokenizer(cfg, pictures, out / "tokenizer"))

    return _run(read_config(config, CLIPTraining), out, options, task)


def run_tokenizer(cfg: CLIPTraining, data: EmojiData, folder: Path) -> CLIPTokenizer:
    """The run's own: of equally frequent merges another may come first each time, and weights go with their symbols."""
    if not (folder / "tokenizer_config.json").is_file():
        CLIPTokenizer.train(corpus(data), cfg.text.vocab_size, max_length=cfg.text.max_length).save(folder)
    return CLIPTokenizer.from_folder(folder)


def train_ldm(
    config: str,
    data: Path,
    out: Path,
    init: str | None,
    vae: Path | None,
    clip: Path | None,
    latents: Path | None,
    options: Options,
) -> Outcome:
    """Train a denoiser on the latents of `vae` and the words of `clip`; RUN/export is then a diffusers folder.

    It starts from the weights of the model `init` where one is given, and takes from it what is not given. Encoded
    pictures are kept in `latents`, by default the run folder.
    """
    cfg, device = read_config(config, LDMTraining), pick_device(options.device)
    if init is not None:
        cfg = dataclasses.replace(cfg, init=init)
    start = gather(cfg.init, vae, clip)
    return _run(cfg, out, options, lambda cfg: LDMTask(cfg, EmojiData(data), start, latents or out, device))


def train_depth_net(config: str, data: Path, out: Path, options: Options) -> Outcome:
    """Train a small depth network; RUN/export then holds what `train.depth_net.load_depth_net` reads."""
    return _run(read_config(config, DepthNetTraining), out, options, lambda cfg: DepthNetTask(cfg, EmojiData(data)))


def train_beside(
    config: str, data: Path, out: Path, init: str | None, adapter: Path | None, depth_net: Path | None, options: Options
) -> Outcome:
    """Train a variant of the model `init` that sees something beside its latents; RUN/export then holds its file.

    It goes on from the differences of an earlier variant, `adapter`, where one is given. `depth_net` is the export of
    `train_depth_net`.
    """
    cfg, device = read_config(config, BesideTraining), pick_device(options.device)
    cfg = dataclasses.replace(cfg, init=init or cfg.init)
    return _run(cfg, out, options, lambda cfg: BesideTask(cfg, EmojiData(data), out, device, adapter, depth_net))


def train_distil(
    config: str, data: Path, out: Path, init: str | None, adapter: Path | None, options: Options
) -> Outcome:
    """Train a variant of the model `init` that draws in few steps; `adapter` as in `train_beside`."""
    cfg, device = read_config(config, DistilTraining), pick_device(options.device)
    cfg = dataclasses.replace(cfg, init=init or cfg.init)
    return _run(cfg, out, options, lambda cfg: DistilTask(cfg, EmojiData(data), out, device, adapter))


def _run(cfg: T, out: Path, options: Options, make: Callable[[T], Task]) -> Outcome:
    if options.threads:
        torch.set_num_threads(options.threads)
    changes = {name: value for name in ("seed", "steps") if (value := getattr(options, name)) is not None}
    cfg = dataclasses.replace(cfg, loop=dataclasses.replace(cfg.loop, **changes))
    return train(
        make(cfg),
        cfg.loop,
        out,
        record=cfg,
        device=pick_device(options.device),
        resume=not options.fresh,
        max_minutes=options.max_minutes,
    )
