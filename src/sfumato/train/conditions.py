"""What a network is told of samples in training: captions and sizes, encoded as for drawing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from random import Random

import torch
from torch import Tensor

from sfumato.data.pictures.protocol import Sample
from sfumato.diffusion.cond import Cond
from sfumato.nets.layout import Region
from sfumato.nets.prior import Underlay, Words
from sfumato.pipeline.conditioning import GOOD, ids_of
from sfumato.pipeline.latents import autoencoding
from sfumato.pipeline.model import Model
from sfumato.text.encode import TextEncoder
from sfumato.train.cache import Cache, joined_hash, weights_hash
from sfumato.train.drafts import DRAFT_ERROR

KEPT = 1 << 29  # bytes of encoded captions that are kept
TURNS = 8  # drafts of a picture

Draft = Callable[[Sample, int], Tensor | Region | None]
"""What a scene prior's draft of a sample is, in one of its `TURNS`: latents (C, h, w) of a picture that lies as the
sample does, or the part of the picture that the caption's things fill; None leaves it to the prior."""


class Conditions:
    """The conditioning of samples by a model's text encoders, its sizes and its scene prior.

    A prior would lay out a caption in its own way, which is not how the picture is: a network that learnt from that
    would learn to distrust drafts, and blur. So `draft` says what the drafts of samples are; to latents errors as large
    as a draft has are added. A sample without a caption has no draft.

    What is encoded once is kept for captions that come again, unless `encode` learns; in a `cache`, also for other
    runs with the same text encoders.
    """

    def __init__(self, model: Model, draft: Draft, encode: TextEncoder | None = None, cache: Cache | None = None):
        self.model, self.draft, self.encode, self._cache = model, draft, encode or model.encode, cache
        self._kept: OrderedDict[str | Sample, Cond] = OrderedDict()
        self._bytes = 0

    def __call__(self, samples: Sequence[Sample], turns: Sequence[int] = ()) -> Cond:
        """Returns the conditioning of samples of one size (B rows), on the model's device.

        `turns` are numbers that differ when a sample comes again, for what is not to be the same each time.
        """
        if self.encode.learns:
            words = self.encode([sample.caption for sample in samples])
        elif self.model.prior is not None:
            each = zip(samples, turns or [0] * len(samples), strict=True)
            words = [self._drafted(sample, turn % TURNS) for sample, turn in each]
        else:
            words = [self._words(sample) for sample in samples]
            if len({cond.shapes for cond in words}) > 1:  # some caption is longer than one window
                words = self.encode([sample.caption for sample in samples])
        told = [self._with_sizes(cond, sample) for cond, sample in zip(words, samples, strict=True)]
        return Cond.cat(told).to(self.model.device)

    def read(self, sample: Sample) -> Words:
        """Returns a sample's caption as a prior reads it."""
        return self.encode.words(sample.caption)

    def _drafted(self, sample: Sample, turn: int) -> Cond:
        """A caption's conditioning by a prior, with the sample's draft."""
        draft = self.draft(sample, turn) if sample.caption else None
        if not isinstance(draft, Tensor):
            return self._words(sample, draft)
        nothing = Underlay(torch.zeros(1, *draft.shape), strength=0.0, goes_on=True)
        generator = torch.Generator().manual_seed(TURNS * sample.picture + turn)
        errors = DRAFT_ERROR * torch.randn(draft.shape, generator=generator)
        return replace(self._words(sample, nothing), concat=(draft.float() + errors)[None])

    def _words(self, sample: Sample, underlay: Underlay | Region | None = None) -> Cond:
        """A caption's own conditioning; a prior lays it out by the picture's number on what is given."""
        key = sample.caption if self.model.prior is None else sample
        if key not in self._kept:
            cond = self._encoded(sample, underlay)
            self._kept[key] = cond
            self._bytes += _bytes(cond)
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return self._kept[key]

    @torch.no_grad()
    def _encoded(self, sample: Sample, underlay: Underlay | Region | None) -> Cond:
        prior, factor = self.model.prior, self.model.spec.vae.factor
        if prior is None:
            return self._read(sample.caption)
        width, height = (edge // factor for edge in sample.size)
        drawing = autoencoding(self.model.vae)
        return prior(self.read(sample), Random(sample.picture), height, width, drawing, underlay).to("cpu")

    def _read(self, caption: str) -> Cond:
        """What the text encoders make of a caption, on the CPU."""
        if self._cache is None or self.encode.embeddings:
            return self.encode([caption])[0].to("cpu")

        def made() -> dict[str, Tensor]:
            cond = self.encode([caption])[0]
            return {"tokens": cond.tokens} | ({} if cond.pooled is None else {"pooled": cond.pooled})

        found = self._cache.tensors(joined_hash("text", caption, self._encoders), made)
        return Cond(found["tokens"], found.get("pooled"))

    @cached_property
    def _encoders(self) -> tuple[object, ...]:
        """What encoded captions depend on: the weights of all text encoders, and their tokenizers."""
        encode, t5 = self.encode, self.encode.t5
        parts: list[object] = [weights_hash(tower, ("",), tower.cfg) for tower in encode.towers]
        parts.append(joined_hash(encode.tokenizer.files()))
        if t5 is not None:
            pieces = None if t5.tokenizer is None or t5.tokenizer.file is None else t5.tokenizer.file.read_bytes()
            network = None if t5.network is None else weights_hash(t5.network)
            parts.append((t5.width, t5.length, joined_hash(pieces), network))
        return tuple(parts)

    def _with_sizes(self, cond: Cond, sample: Sample) -> Cond:
        spec, device = self.model.spec, cond.tokens.device
        scale = torch.tensor([spec.defaults.cfg - 1]) if spec.embeds_guidance else None
        ids = ids_of(spec, {**sample.micro_conditioning, "aesthetic_score": (GOOD,)})
        return replace(cond, ids=_on(ids, device), guidance=_on(scale, device))


def _on(value: Tensor | None, device: torch.device) -> Tensor | None:
    return None if value is None else value.to(device)


def _bytes(cond: Cond) -> int:
    return sum(value.nbytes for value in (cond.tokens, cond.pooled, cond.concat) if value is not None)
