"""What a picture shows: the concept, of all in the set, whose plainest English caption the judge ranks first."""

from __future__ import annotations

from functools import cache, cached_property

import torch
from torch import Tensor

from sfumato.data.emoji.captions import Concept, prompt
from sfumato.data.emoji.dataset import EmojiData
from sfumato.pipeline.clip_scorer import ClipScorer
from sfumato.seeding import stream

CANDIDATES = 100


class Classifier:
    """Tells pictures apart by captions of all C concepts of a set. `places` gives a concept's number by its code."""

    def __init__(self, data: EmojiData, judge: ClipScorer):
        self.data, self.judge = data, judge
        self.places = {concept.hex: k for k, concept in enumerate(data.concepts)}
        self.captions = cache(self._captions)

    def _captions(self, style: str | None) -> Tensor:
        """Vectors (C, E) of all concepts, in a style or in none that is said."""
        concepts = self.data.concepts
        texts = [concept.names["en"] if style is None else prompt(concept, style, "en") for concept in concepts]
        return self.judge.encode_text(texts)

    @torch.no_grad()
    def look(self, pictures: Tensor) -> Tensor:
        """Unit vectors (B, E) of pictures (B, 3, H, W) in [-1, 1], on the CPU."""
        return self.judge.encode_image(pictures).cpu()

    def scores(self, vectors: Tensor, style: str | None) -> Tensor:
        """How well pictures with vectors (B, E) fit every concept: (B, C)."""
        return vectors @ self.captions(style).T

    @cached_property
    def _order(self) -> list[list[int]]:
        n = len(self.data.concepts)
        return [stream(0, "others", k).permutation(n).tolist() for k in range(n)]

    def called(self, scores: Tensor, concept: Concept) -> str:
        """The English name of the best of CANDIDATES concepts by scores (C,): one concept and others that chance took,
        always the same."""
        own = self.places[concept.hex]
        others = [k for k in self._order[own] if k != own and self._name(k) != self._name(own)]
        candidates = [own, *others[: CANDIDATES - 1]]
        return self._name(candidates[int(scores[candidates].argmax())])

    def _name(self, k: int) -> str:
        return self.data.concepts[k].names["en"]
