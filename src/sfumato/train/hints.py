"""What the methods share by which a network learns to steer a model by hints that are made of the pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint.hashes import model_hash
from sfumato.data.pictures.protocol import CaptionedPictures, Sample
from sfumato.diffusion.cond import Cond
from sfumato.images.tensors import to_images, to_pixels
from sfumato.nets.controlled import Control as ControlNetwork
from sfumato.nets.controlled import Controlled
from sfumato.pipeline.hints import hint_input, hint_picture
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.underlay import filled_part
from sfumato.settings.control import Control
from sfumato.train.cache import Cache, joined_hash
from sfumato.train.conditions import TURNS, Conditions
from sfumato.train.fine_tuning import RATIOS, SHOWN, FineTuning, FineTuningTask, by_size
from sfumato.train.learnt import with_networks
from sfumato.train.objective import validation_errors
from sfumato.train.precision import arithmetic
from sfumato.train.sheet import sheet
from sfumato.train.steering import steered, write_control
from sfumato.train.warp import warped


@dataclass(frozen=True, kw_only=True)
class HintTraining(FineTuning):
    """What the recipes have of networks that are shown hints of a kind, which are made of the pictures.

    Depth and normals are seen by the network of the model `depth_model`, such as Stable Diffusion 2.0 depth.
    """

    hint: Literal["canny", "gradient", "scribble", "lineart", "tile", "colour", "depth", "normal"] = "canny"
    depth_model: str = ""


class Steering:
    """A network that learns to steer, `control`, and the model that it steers."""

    def __init__(self, base: Model, cfg: HintTraining, control: ControlNetwork):
        self.base, self.cfg = base, cfg
        self.control = control.to(base.device).requires_grad_(True)
        self.networks = nn.ModuleDict({"control": self.control})
        self.model = with_networks(base, Controlled(base.denoiser.network, [self.control]), base.encode)

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes the network in diffusers' names."""
        write_control(folder, self.control, self.cfg.hint, self.base)


class Hints(Conditions):
    """The conditioning of samples, with the hints of their pictures.

    The drafts of a model with a scene prior are the pictures themselves, warped: what they show and in which colours is
    right, as with the drafts of captions, and its shape is to be taken from the hint.
    """

    def __init__(self, steering: Steering, pictures: CaptionedPictures, cache: Cache):
        super().__init__(steering.base, self.warped, cache=cache)
        self._steering, self._pictures, self._made = steering, pictures, cache
        self._base_hash = model_hash(steering.base.path)

    def __call__(self, samples: Sequence[Sample], turns: Sequence[int] = ()) -> Cond:
        """Returns the conditioning of samples of one size, with what the ControlNet makes of their hints."""
        hints = [self.hint(sample).float() for sample in samples]  # autocast on a CPU joins no float16
        return self.hinted(self.plain(samples, turns), torch.cat(hints))

    def plain(self, samples: Sequence[Sample], turns: Sequence[int] = ()) -> Cond:
        """Returns the same without hints."""
        return super().__call__(samples, turns)

    @torch.no_grad()
    def warped(self, sample: Sample, turn: int) -> Tensor:
        """The latents of a sample's picture, warped in the way that a turn has."""

        def made() -> dict[str, Tensor]:
            picture = warped(self._pictures.pixels(sample), TURNS * sample.picture + turn)
            return {"latents": encode(self.model.vae, picture[None].to(self.model.device))[0].half()}

        key = joined_hash("warped", self._pictures.key(sample), sample.picture, turn, self._base_hash)
        return self._made.tensors(key, made)["latents"]

    def hinted(self, cond: Cond, hint: Tensor) -> Cond:
        """Adds to a conditioning what the ControlNet makes of hints, one a row."""
        control, hint = self._steering.control, hint.float().to(self.model.device)
        weights = torch.ones(len(hint), control.residuals, device=hint.device)
        return replace(cond, hints=control.prepare(hint), hint_weights=(weights,))

    def hint(self, sample: Sample) -> Tensor:
        """Returns what the ControlNet is given of a sample's picture, (1, C, H, W), float16."""
        cfg, control, base = self._steering.cfg, self._steering.control, self._steering.base
        key = joined_hash(
            "hint", self._pictures.key(sample), cfg.hint, cfg.depth_model, type(control).__name__, self._base_hash
        )

        def made() -> dict[str, Tensor]:
            shown = Control("control", self.picture(sample))
            return {"hint": hint_input(base, shown, control, *sample.size).half()}

        return self._made.tensors(key, made)["hint"]

    def picture(self, sample: Sample) -> Image.Image:
        """Returns the hint of a sample as a picture."""
        cfg = self._steering.cfg
        image = to_images(self._pictures.pixels(sample)[None])[0]
        return hint_picture(
            Control("control", image, cfg.hint, depth_model=cfg.depth_model or None), None, *sample.size
        )


class HintTask(FineTuningTask):
    """Trains a network that steers a model by hints, see `FineTuningTask`."""

    cfg: HintTraining
    learnt: Steering

    @abstractmethod
    def _learnt(self) -> Steering:
        """Returns what steers the model; called once."""

    def _told(self) -> Hints:
        self._told_hints = Hints(self.learnt, self.pictures, self.cache)
        return self._told_hints

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Returns what `FineTuningTask` does; "gain" is the share of the model's own error that the hints take away, at
        the largest ratio of noise to signal."""
        found, alone = super().validate(), list[Tensor]()
        for samples in by_size(self.pictures.validation()):
            x0 = self.latents(samples).to(self.device)
            with arithmetic(self.cfg.loop, self.device):
                errors = validation_errors(self.base.denoiser, x0, self._told_hints.plain(samples), RATIOS[-1])
            alone.append(errors.flatten(1).mean(1))
        return found | {"gain": 1 - found[f"x0_{RATIOS[-1]:g}"] / torch.cat(alone).mean().item()}

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """Returns pictures, their hints, and what is drawn from their captions without hints and with them."""
        shown = by_size(self.pictures.validation())[0][:SHOWN]
        told = self._told_hints
        rows = [torch.stack([self.pictures.pixels(sample) for sample in shown])]
        pictures = [told.picture(sample) for sample in shown]
        rows.append(torch.cat([to_pixels(picture) for picture in pictures]))
        captions, numbers = [sample.caption for sample in shown], [sample.picture for sample in shown]
        hints = [told.hint(sample) for sample in shown]
        for given in (None, lambda place, cond: told.hinted(cond, hints[place])):
            regions = [filled_part(picture) for picture in pictures] if given else []
            drawing = self.base, self.model.denoiser
            rows.append(steered(*drawing, captions, numbers, shown[0].size, self.cfg.sheet_steps, given, regions))
        return sheet(rows)
