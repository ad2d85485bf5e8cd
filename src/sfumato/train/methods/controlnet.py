"""Trains a ControlNet (Zhang et al. 2023) on pictures with captions: the hints are made of the pictures themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from sfumato.data.pictures.protocol import SampleSource
from sfumato.train.hints import HintTask, HintTraining, Steering
from sfumato.train.steering import fresh


@dataclass(frozen=True, kw_only=True)
class ControlNetTraining(HintTraining):
    """Recipe of a ControlNet; see also `HintTraining`.

    For a transformer it has so many `blocks` of the width `hidden`, whose tokens know their `positions` or not; for a
    U-Net it is a copy of its way down.
    """

    RENAMED: ClassVar[dict[str, str]] = {
        "init": "model", "examples": "data.examples", "held_out": "data.held_out", "single": "data.single",
        "drop": "data.caption_dropout", "views": "data.captions",
    }  # fmt: skip

    hidden: int = 768
    blocks: int = 6
    positions: bool = False


def make(
    cfg: ControlNetTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> ControlNetTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return ControlNetTask(replace(cfg, model=model or cfg.model), data, folder, device)


class ControlNetTask(HintTask):
    """Trains a ControlNet, see `HintTask`. Raises SfumatoError as `steering.fresh`."""

    cfg: ControlNetTraining

    def _learnt(self) -> Steering:
        base = self.base
        return Steering(base, self.cfg, fresh(base.denoiser.network, self.cfg, base.spec.vae.latent_channels))
