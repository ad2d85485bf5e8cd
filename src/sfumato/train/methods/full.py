"""Trains all weights of a model's network that draws, and of its text encoders where the recipe says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sfumato.data.pictures.protocol import CaptionedPictures, SampleSource
from sfumato.train.fine_tuning import FineTuning, FineTuningTask
from sfumato.train.learnt import Whole, WholeOptions, with_parts
from sfumato.train.new_thing import remembering


@dataclass(frozen=True, kw_only=True)
class FullTraining(FineTuning, WholeOptions):
    """Recipe of a fine-tuned model; see also `WholeOptions`."""


def make(
    cfg: FullTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> FullTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return FullTask(replace(cfg, model=model or cfg.model), data, folder, device)


class FullTask(FineTuningTask):
    """Trains a model's own weights, see `FineTuningTask`. A scene prior remembers the pictures, too."""

    cfg: FullTraining

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        pictures = super()._pictures(data, folder)
        self.base = with_parts(self.base, prior=remembering(self.base, pictures))
        return pictures

    def _learnt(self) -> Whole:
        return Whole(self.base, self.cfg)
