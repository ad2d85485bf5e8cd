"""All figures of a model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.emoji import captions
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.noun_scenes import NounScenes
from sfumato.errors import SfumatoError
from sfumato.evaluate.attributes import Question, answers, questions
from sfumato.evaluate.backgrounds import ground, name_of
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.naming import Names
from sfumato.evaluate.originality import Originality, measure_originality, to_known
from sfumato.evaluate.pictures import BATCH, Looks, Watch, choose, in_groups, look, on_white, spread, watched
from sfumato.evaluate.precision import Precision, measure_precision
from sfumato.evaluate.prompts import EvaluationPrompt, evaluation_prompts
from sfumato.evaluate.reconstruction import Reconstruction, measure_reconstruction, there_and_back
from sfumato.evaluate.samples import Samples, SceneSample, SingleSample
from sfumato.evaluate.scores import Attributes, Examined, score_attributes
from sfumato.images.tensors import to_images
from sfumato.pipeline import batch as drawing
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings

HELD_OUT = ("unseen_picture", "unseen_concept")
COPIES = 200
REAL_SCENES = 100  # at least, so that what the judge confuses is sure to a few points

Shown = list[tuple[EvaluationPrompt, Image.Image]]


@dataclass(frozen=True)
class Plan:
    """How much is drawn: so many prompts and so many scenes in each language, all with so many seeds."""

    pictures: int
    scenes: int
    seeds: int
    styles: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What `measure` found; see each part. `background` is the share of grounds in the colour that was asked for.

    `standard_error` is the most that chance makes of an R-precision's share, as a standard deviation. `attributes` is
    None where there were no scenes to draw.
    """

    prompts: int
    seeds: int
    seconds_per_picture: float
    reconstruction: dict[str, Reconstruction]
    precision: dict[str, Precision]
    standard_error: float
    originality: Originality
    background: float
    attributes: Attributes | None


def measure(
    model: Model, data: EmojiData, judge: Judge, settings: Settings, plan: Plan, watch: Watch
) -> tuple[Report, Samples]:
    """Draw the prompts of training pictures in every language, some on named backgrounds, then scenes, and compare.

    The seed of `settings` decides what is asked for, and with the next ones what is drawn. Raises SfumatoError for a
    set without pictures or scenes to ask for.
    """
    train = in_groups(data, "train", plan.styles)
    chosen = choose(data, train, plan.pictures, settings.seed)
    if len(chosen) < 2:
        raise SfumatoError(
            f"{data.path} has {len(chosen)} training pictures in {', '.join(plan.styles)}; expected 2 or more"
        )
    # Training composes scenes with seeds from 0 on.
    scenes = NounScenes(data, -1 - settings.seed) if plan.scenes else None
    asked = questions(scenes, plan.styles, max(plan.scenes, REAL_SCENES)) if scenes else []
    held_out = {split: numbers for split in HELD_OUT if len(numbers := in_groups(data, split, plan.styles))}
    reconstruction = {
        split: measure_reconstruction(model.vae, data, numbers, watch) for split, numbers in held_out.items()
    }
    known = look(judge, train, watched(on_white(data, train), "training pictures", len(train), watch))
    unseen = {split: look(judge, numbers, on_white(data, numbers)) for split, numbers in held_out.items()}
    some = spread(train, COPIES)
    copies = look(judge, some, (there_and_back(model.vae, x) for x in on_white(data, some)))

    wanted = evaluation_prompts(data, chosen, asked[: plan.scenes], settings.seed, plan.seeds)
    began = time.perf_counter()
    images = _images(model, wanted, settings, data.size, watch)
    seconds = (time.perf_counter() - began) / len(images)
    pictures, grounds, drawn_scenes = (
        [pair for pair in zip(wanted, images, strict=True) if pair[0].kind == kind]
        for kind in ("picture", "ground", "scene")
    )
    drawn = look(judge, chosen[[request.place for request, _ in pictures]], _pixels(pictures))
    precision = measure_precision(
        data,
        judge,
        {
            language: drawn.at(np.array([request.language == language for request, _ in pictures]))
            for language in captions.LANGUAGES
        },
        known.of(chosen),
        {split: of.of(choose(data, of.numbers, plan.pictures, settings.seed)) for split, of in unseen.items()},
        settings.seed,
        watch,
    )
    singles = _singles(data, drawn, known, pictures)
    examined: tuple[Attributes | None, list[SceneSample]] = (None, [])
    if scenes and asked:
        examined = _scenes(Names.of(data, judge), scenes, asked, drawn_scenes, watch)
    report = Report(
        prompts=len(chosen),
        seeds=plan.seeds,
        seconds_per_picture=seconds,
        reconstruction=reconstruction,
        precision=precision,
        standard_error=0.5 / math.sqrt(len(chosen) * plan.seeds),
        originality=measure_originality(data, known, copies, {"drawn": drawn} | unseen),
        background=_on_their_grounds(grounds),
        attributes=examined[0],
    )
    return report, Samples(singles, examined[1])


def _scenes(
    names: Names, scenes: NounScenes, asked: Sequence[Question], drawn: Shown, watch: Watch
) -> tuple[Attributes, list[SceneSample]]:
    """The answers of drawn pictures, and of as many and more composed ones."""
    composed = [scenes.draw(question.scene).picture for question in asked]
    real = []
    for done, (question, x) in enumerate(zip(asked, composed, strict=True), 1):
        real.append(answers(question, x, names))
        watch("composed scenes", done, len(asked))
    examined, shown = [], []
    for done, ((request, image), x) in enumerate(zip(drawn, _singly(drawn), strict=True), 1):
        found = answers(asked[request.place], x, names)
        examined.append(Examined(request.language, request.turn, found))
        beside = to_images(composed[request.place][None])[0]
        shown.append(SceneSample(image, request.prompt, request.language, request.seed, beside, found))
        watch("drawn scenes", done, len(drawn))
    return score_attributes(examined, real, len({request.place for request, _ in drawn})), shown


def _singles(data: EmojiData, drawn: Looks, known: Looks, pictures: Shown) -> list[SingleSample]:
    real = known.of(drawn.numbers)
    likeness = (drawn.vectors * real.vectors).sum(1).tolist()
    near = to_known(data, drawn, known)

    def on_paper(number: int) -> Image.Image:
        return to_images(next(on_white(data, np.array([number]))))[0]

    return [
        SingleSample(
            image=image,
            prompt=request.prompt,
            language=request.language,
            seed=request.seed,
            real=on_paper(int(drawn.numbers[k])),
            likeness=likeness[k],
            nearest=on_paper(int(near.numbers[k])),
            distance=near.pixels[k].item(),
        )
        for k, (request, image) in enumerate(pictures)
    ]


def _on_their_grounds(drawn: Shown) -> float:
    seen = torch.cat([name_of(ground(x)) for x in _pixels(drawn)])
    return (seen == torch.tensor([request.place for request, _ in drawn])).float().mean().item()


def _images(
    model: Model, wanted: Sequence[EvaluationPrompt], settings: Settings, size: int, watch: Watch
) -> list[Image.Image]:
    """The pictures of the requests in their order, scaled to size x size pixels."""
    images: dict[int, Image.Image] = {}
    with closing(
        drawing.draw_each(model, [drawing.Request(one.prompt, one.seed) for one in wanted], settings)
    ) as pictures:
        for picture in pictures:
            image = picture.image
            images[picture.index] = image if image.size == (size, size) else image.resize((size, size))
            watch("drawing", len(images), len(wanted))
    return [images[k] for k in range(len(wanted))]


def _pixels(drawn: Shown) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) in [-1, 1]."""
    for start in range(0, len(drawn), BATCH):
        levels = np.stack([np.asarray(image) for _, image in drawn[start : start + BATCH]])
        yield torch.from_numpy(levels).movedim(-1, 1).float() / 127.5 - 1


def _singly(drawn: Shown) -> Iterator[Tensor]:
    """Pictures (3, H, W) in [-1, 1]."""
    for batch in _pixels(drawn):
        yield from batch
