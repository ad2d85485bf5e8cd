"""A run of the benchmark: what is known of the real pictures, and what a model draws beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.concept_scenes import ConceptScenes
from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.emoji.classifier import Classifier
from sfumato.evaluate.emoji.inpainting import SEEDS
from sfumato.evaluate.emoji.prompts import EvaluationPrompt, Plan, evaluation_prompts
from sfumato.evaluate.emoji.questions import Question, questions
from sfumato.evaluate.emoji.report import Concepts
from sfumato.evaluate.intervals import Estimate
from sfumato.evaluate.pictures import BATCH, Looks, Watch, choose, in_groups, look, on_white, watched
from sfumato.images.tensors import to_images
from sfumato.pipeline import batch as drawing
from sfumato.pipeline.clip_scorer import ClipScorer, first_of
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings

HELD_OUT = ("unseen_picture", "unseen_concept")
REAL_SCENES = 8  # of each kind, at least, so that what the check confuses is sure to a few points
EVERYTHING = 1_000_000  # candidates

Shown = list[tuple[EvaluationPrompt, Image.Image]]


@dataclass
class Measurement:
    """One run: what is known of the real pictures, then what is drawn."""

    model: Model
    data: EmojiData
    judge: ClipScorer
    settings: Settings
    plan: Plan
    watch: Watch
    drawn: Shown = field(default_factory=list)
    seconds: float = 0.0

    @cached_property
    def train(self) -> np.ndarray:
        return in_groups(self.data, "train", self.plan.styles)

    @cached_property
    def chosen(self) -> np.ndarray:
        """The pictures whose concepts are asked for."""
        n = max(self.plan.names, self.plan.sentences, 3 * self.plan.keywords, self.plan.varied)
        return choose(self.data, self.train, n, self.settings.seed)

    @cached_property
    def classifier(self) -> Classifier:
        return Classifier(self.data, self.judge)

    @cached_property
    def scenes(self) -> ConceptScenes:
        return ConceptScenes(self.data, SEEDS - self.settings.seed)

    @cached_property
    def asked(self) -> list[Question]:
        if not self.plan.scenes:
            return []
        return questions(self.scenes, self.plan.styles, max(self.plan.scenes * len(LANGUAGES), REAL_SCENES))

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        return {split: numbers for split in HELD_OUT if len(numbers := in_groups(self.data, split, self.plan.styles))}

    @cached_property
    def known(self) -> Looks:
        """All pictures that training saw."""
        pictures = watched(on_white(self.data, self.train), "training pictures", len(self.train), self.watch)
        return look(self.judge, self.train, pictures)

    def draw(self) -> None:
        """Draw all prompts."""
        unseen = choose(self.data, self.splits.get("unseen_picture", self.train[:0]), EVERYTHING, self.settings.seed)
        wanted = evaluation_prompts(self.data, self.chosen, unseen, self.asked, self.plan, self.settings.seed)
        began, images = time.perf_counter(), {}
        size = (self.data.size, self.data.size)
        requests = [drawing.Request(one.prompt, one.seed) for one in wanted]
        with closing(drawing.draw_each(self.model, requests, self.settings)) as pictures:
            for picture in pictures:
                images[picture.index] = picture.image if picture.image.size == size else picture.image.resize(size)
                self.watch("drawing", len(images), len(wanted))
        self.seconds = (time.perf_counter() - began) / len(wanted)
        self.drawn = [(one, images[k]) for k, one in enumerate(wanted)]

    def of(self, *kinds: str) -> Shown:
        """The drawn pictures of some kinds of prompts."""
        return [pair for pair in self.drawn if pair[0].kind in kinds]

    def looks(self, shown: Shown) -> Looks:
        """What is kept of drawn pictures of single things."""
        return look(self.judge, np.array([one.place for one, _ in shown], np.int64), pixels(shown))

    def right(self, prompts: Sequence[EvaluationPrompt], looks: Looks, candidates: int) -> list[float]:
        """The chance that each picture shows a concept that answers its prompt, among so many."""
        if not prompts:
            return []
        fitting = torch.zeros(len(prompts), len(self.data.concepts), dtype=torch.bool)
        scores = torch.empty(len(prompts), len(self.data.concepts))
        for k, prompt in enumerate(prompts):
            fitting[k, list(prompt.fitting)] = True
            style = self.data.style(prompt.place) if prompt.styled else None
            scores[k] = self.classifier.scores(looks.vectors[k : k + 1], style)[0]
        return first_of(scores, fitting, candidates).tolist()

    def concepts(self, shown: Shown, looks: Looks) -> Concepts:
        prompts = [one for one, _ in shown]
        return Concepts(*(Estimate.share(self.right(prompts, looks, n)) for n in (100, EVERYTHING)))


def on_paper(data: EmojiData, number: int) -> Image.Image:
    """A picture of the set on white."""
    return to_images(next(on_white(data, np.array([number]))))[0]


def pixels(shown: Shown) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) in [-1, 1]."""
    for start in range(0, len(shown), BATCH):
        levels = np.stack([np.asarray(image) for _, image in shown[start : start + BATCH]])
        yield torch.from_numpy(levels).movedim(-1, 1).float() / 127.5 - 1


def singly(shown: Shown) -> Iterator[Tensor]:
    """Pictures (3, H, W) in [-1, 1]."""
    for batch in pixels(shown):
        yield from batch
