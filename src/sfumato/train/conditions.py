"""What a network is told of samples in training: captions and sizes, encoded as for drawing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from sfumato.data.pictures.protocol import Sample
from sfumato.diffusion.cond import Cond
from sfumato.pipeline.conditioning import GOOD, ids_of
from sfumato.pipeline.latents import autoencoding
from sfumato.pipeline.model import Model
from sfumato.text.encode import TextEncoder

KEPT = 1 << 29  # bytes of encoded captions that are kept


class Conditions:
    """The conditioning of samples by a model's text encoders, its sizes and its scene prior.

    What is encoded once is kept for captions that come again, unless `encode` learns. `device` is where the results
    lie.
    """

    def __init__(self, model: Model, encode: TextEncoder | None = None):
        self.model, self.encode = model, encode or model.encode
        self._kept: OrderedDict[tuple[str, int], Cond] = OrderedDict()
        self._bytes = 0

    def __call__(self, samples: Sequence[Sample]) -> Cond:
        """Returns the conditioning of samples of one size (B rows), on the model's device."""
        if self.encode.learns:
            words = self.encode([sample.caption for sample in samples])
        else:
            words = [self._words(sample) for sample in samples]
            if len({cond.shapes for cond in words}) > 1:  # some caption is longer than one window
                words = self.encode([sample.caption for sample in samples])
        told = [self._with_sizes(cond, sample) for cond, sample in zip(words, samples, strict=True)]
        return Cond.cat(told).to(self.model.device)

    def _words(self, sample: Sample) -> Cond:
        """A caption's own conditioning; a prior lays it out by the picture's number."""
        seed = 0 if self.model.prior is None else sample.picture
        key = sample.caption, seed
        if key not in self._kept:
            cond = self._encoded(sample.caption, seed, sample.size)
            self._kept[key] = cond
            self._bytes += _bytes(cond)
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return self._kept[key]

    @torch.no_grad()
    def _encoded(self, caption: str, seed: int, size: tuple[int, int]) -> Cond:
        prior, factor = self.model.prior, self.model.spec.vae.factor
        if prior is None:
            return self.encode([caption])[0].to("cpu")
        width, height = (edge // factor for edge in size)
        drawing = autoencoding(self.model.vae)
        return prior(self.encode.words(caption), Random(seed), height, width, drawing).to("cpu")

    def _with_sizes(self, cond: Cond, sample: Sample) -> Cond:
        spec, device = self.model.spec, cond.tokens.device
        scale = torch.tensor([spec.defaults.cfg - 1]) if spec.embeds_guidance else None
        ids = ids_of(spec, {**sample.micro_conditioning, "aesthetic_score": (GOOD,)})
        return replace(cond, ids=_on(ids, device), guidance=_on(scale, device))


def _on(value: Tensor | None, device: torch.device) -> Tensor | None:
    return None if value is None else value.to(device)


def _bytes(cond: Cond) -> int:
    return sum(value.nbytes for value in (cond.tokens, cond.pooled, cond.concat) if value is not None)
