"""Trains a model that sees depth beside its latents, as Stable Diffusion 2.0 depth does.

It is one channel, from -1 where the picture is farthest to 1 where it is nearest. Depth comes from pictures of it, or
is seen by a depth network in the pictures themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.data.pictures.protocol import CaptionedPictures, Sample, SampleSource
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.images.tensors import to_images, to_pixels
from sfumato.pipeline.depth import depth_map, depth_of, shown
from sfumato.pipeline.hints import load_depth
from sfumato.pipeline.model import Model
from sfumato.spec import Spec
from sfumato.train.beside import BesideTask, BesideTraining
from sfumato.train.cache import joined_hash, weights_hash
from sfumato.train.learnt import with_parts
from sfumato.train.pairs import check_pairs


@dataclass(frozen=True, kw_only=True)
class DepthTraining(BesideTraining):
    """Recipe of a model that sees depth; see also `BesideTraining`.

    Without pictures of depth it is seen by the network of the model `depth_model`, such as Stable Diffusion 2.0 depth,
    which becomes a part of the model; empty stands for the model's own.
    """

    depth_model: str = ""


def make(
    cfg: DepthTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None,
    depths: Path | None = None,
) -> DepthTask:  # fmt: skip
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return DepthTask(replace(cfg, model=model or cfg.model), data, folder, device, depths)


class DepthTask(BesideTask):
    """Trains a model to follow depth, see `BesideTask`; `depths` is a folder with a picture of depth for each."""

    cfg: DepthTraining
    READS = "depth"

    def __init__(
        self, cfg: DepthTraining, data: SampleSource, folder: Path, device: torch.device, depths: Path | None = None
    ):
        self._depths_folder = depths
        super().__init__(cfg, data, folder, device)
        self._network_hash = "" if self.base.depth is None else weights_hash(self.base.depth)

    def channels(self, spec: Spec) -> int:
        """See `BesideTask`."""
        return 1

    def _fitted(self, base: Model) -> Model:
        if self.cfg.depth_model:
            network = load_depth(self.cfg.depth_model).to(base.device)
            base = with_parts(base, depth=network)
        if base.depth is None and self._depths_folder is None:
            raise SfumatoError(
                f"{base.name} has no network that sees depth; give --depths, a folder with a picture of depth for each "
                "of --data, or depth_model, a model that has one"
            )
        base = super()._fitted(base)
        return base if base.depth is None else with_parts(base, spec=replace(base.spec, depth=base.depth.cfg))

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        pictures = super()._pictures(data, folder)
        self._depths = None
        if self._depths_folder is not None:
            options = {**self.cfg.data, "caption_missing": "allow"}
            self._depths = self._opened(OwnPictures(self._depths_folder), options)
            check_pairs(pictures, self._depths, self._depths_folder)
        return pictures

    def beside(self, sample: Sample, rng: np.random.Generator | None) -> Tensor:
        """See `BesideTask`."""
        seen = self.pictures.key(sample) if self._depths is None else self._depths.key(sample)
        key = joined_hash("depth", seen, self._network_hash if self._depths is None else "", self.base.spec.vae.factor)
        return self.cache.tensors(key, lambda: {"beside": self._depth(sample)})["beside"]

    def shown(self, sample: Sample) -> Tensor:
        """See `BesideTask`."""
        return to_pixels(shown(self.beside(sample, None).float(), *sample.size))[0]

    def _depth(self, sample: Sample) -> Tensor:
        """Depth (1, 1, h, w), float16."""
        width, height = (edge // self.base.spec.vae.factor for edge in sample.size)
        if self._depths is not None:
            picture = to_images(self._depths.pixels(sample)[None])[0]
            return depth_map(self.base, None, picture, (height, width)).half()
        assert self.base.depth is not None
        picture = to_images(self.pictures.pixels(sample)[None])[0]
        return depth_of(self.base.depth, picture, height, width).half()
