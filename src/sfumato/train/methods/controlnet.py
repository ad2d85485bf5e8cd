"""Trains a ControlNet (Zhang et al. 2023) on pictures with captions: the hints are made of the pictures themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint.hashes import model_hash
from sfumato.data.pictures.protocol import CaptionedPictures, Sample, SampleSource
from sfumato.diffusion.cond import Cond
from sfumato.images.tensors import to_images, to_pixels
from sfumato.nets.controlled import Controlled
from sfumato.pipeline.hints import hint_input, hint_picture
from sfumato.pipeline.model import Model
from sfumato.settings.control import Control
from sfumato.train.cache import Cache, joined_hash
from sfumato.train.conditions import Conditions
from sfumato.train.fine_tuning import SHOWN, FineTuning, FineTuningTask, by_size
from sfumato.train.learnt import with_networks
from sfumato.train.methods.control import fresh, steered, write_control
from sfumato.train.sheet import sheet


@dataclass(frozen=True, kw_only=True)
class ControlNetTraining(FineTuning):
    """Recipe of a ControlNet that is shown hints of a kind, which are made of the pictures.

    Depth and normals are seen by the network of the model `depth_model`, such as Stable Diffusion 2.0 depth. For a
    transformer it has so many `blocks` of the width `hidden`; for a U-Net it is a copy of its way down.
    """

    hint: Literal["canny", "gradient", "scribble", "lineart", "tile", "colour", "depth", "normal"] = "canny"
    depth_model: str = ""
    hidden: int = 768
    blocks: int = 6


def make(
    cfg: ControlNetTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> ControlNetTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return ControlNetTask(replace(cfg, model=model or cfg.model), data, folder, device)


class Steering:
    """A ControlNet that learns, and the model that it steers. Raises SfumatoError as `control.fresh`."""

    def __init__(self, base: Model, cfg: ControlNetTraining):
        self.base, self.cfg = base, cfg
        drawing = base.denoiser.network
        self.control = fresh(drawing, cfg, base.spec.vae.latent_channels).to(base.device).requires_grad_(True)
        self.networks = nn.ModuleDict({"control": self.control})
        self.model = with_networks(base, Controlled(drawing, [self.control]), base.encode)

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes the ControlNet in diffusers' names."""
        write_control(folder, self.control, self.cfg.hint, self.base)


class Hints(Conditions):
    """The conditioning of samples, with the hints of their pictures."""

    def __init__(self, steering: Steering, pictures: CaptionedPictures):
        super().__init__(steering.base)
        self._steering, self._pictures, self._cache = steering, pictures, Cache()

    def __call__(self, samples: Sequence[Sample]) -> Cond:
        """Returns the conditioning of samples of one size, with what the ControlNet makes of their hints."""
        return self.hinted(super().__call__(samples), torch.cat([self.hint(sample) for sample in samples]))

    def hinted(self, cond: Cond, hint: Tensor) -> Cond:
        """Adds to a conditioning what the ControlNet makes of hints, one a row."""
        control, hint = self._steering.control, hint.float().to(self.model.device)
        weights = torch.ones(len(hint), control.residuals, device=hint.device)
        return replace(cond, hints=control.prepare(hint), hint_weights=(weights,))

    def hint(self, sample: Sample) -> Tensor:
        """Returns what the ControlNet is given of a sample's picture, (1, C, H, W), float16."""
        cfg, control, base = self._steering.cfg, self._steering.control, self._steering.base
        key = joined_hash(
            "hint", self._pictures.key(sample), cfg.hint, cfg.depth_model, type(control).__name__, model_hash(base.path)
        )

        def made() -> dict[str, Tensor]:
            shown = Control("control", self.picture(sample))
            return {"hint": hint_input(base, shown, control, *sample.size).half()}

        return self._cache.tensors(key, made)["hint"]

    def picture(self, sample: Sample) -> Image.Image:
        """Returns the hint of a sample as a picture."""
        cfg = self._steering.cfg
        image = to_images(self._pictures.pixels(sample)[None])[0]
        return hint_picture(
            Control("control", image, cfg.hint, depth_model=cfg.depth_model or None), None, *sample.size
        )


class ControlNetTask(FineTuningTask):
    """Trains a ControlNet, see `FineTuningTask`."""

    cfg: ControlNetTraining
    learnt: Steering

    def _learnt(self) -> Steering:
        return Steering(self.base, self.cfg)

    def _told(self) -> Hints:
        return Hints(self.learnt, self.pictures)

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """Returns pictures, their hints, and what is drawn from their captions without hints and with them."""
        shown = by_size(self.pictures.validation())[0][:SHOWN]
        told = self._conditions
        assert isinstance(told, Hints)
        rows = [torch.stack([self.pictures.pixels(sample) for sample in shown])]
        rows.append(torch.cat([to_pixels(told.picture(sample)) for sample in shown]))
        captions, numbers = [sample.caption for sample in shown], [sample.picture for sample in shown]
        hints = [told.hint(sample) for sample in shown]
        for given in (None, lambda place, cond: told.hinted(cond, hints[place])):
            rows.append(
                steered(self.base, self.model.denoiser, captions, numbers, shown[0].size, self.cfg.sheet_steps, given)
            )
        return sheet(rows)
