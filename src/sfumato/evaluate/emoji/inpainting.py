"""Whether a thing that is asked for appears where a scene is drawn anew, or goes on beyond its edge.

Of a composed scene the thing that its caption speaks of first is taken out: something else lies in its place, and the
outlines of both, grown, are the mask ("inpaint"), or the picture ends before it ("outpaint"). The answers are about
that thing alone, because the rest was given.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.concept_scenes import ConceptScenes, PlacedConcept
from sfumato.data.emoji.dataset import EmojiData
from sfumato.errors import SfumatoError
from sfumato.evaluate.emoji.attributes import Answer, Sight, together
from sfumato.evaluate.emoji.classifier import Classifier
from sfumato.evaluate.emoji.questions import Question, questions
from sfumato.evaluate.emoji.samples import Samples, SceneSample
from sfumato.evaluate.emoji.scores import Attributes, Examined, score_attributes
from sfumato.evaluate.objects import Found
from sfumato.evaluate.pictures import Watch
from sfumato.images.mask import grown
from sfumato.images.tensors import to_images, to_pixels
from sfumato.pipeline.clip_scorer import ClipScorer
from sfumato.pipeline.events import Picture
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings
from sfumato.settings.task_options import InpaintOptions
from sfumato.tasks.inpaint import inpaint
from sfumato.tasks.outpaint import OVERLAP, OutpaintMargins, outpaint

Task = Literal["inpaint", "outpaint"]
KINDS = {"inpaint": ("left", "right", "above", "count"), "outpaint": ("left", "right", "above")}
REAL_SCENES = 20  # of each kind, at least, so that what the check confuses is sure to a few points
GROW = 6  # pixels around the outlines
SAME, CHANGED = "as given", "changed"
SEEDS = -1  # and below: training composes its scenes with seeds from 0 on


@dataclass(frozen=True, eq=False)
class Gap:
    """A scene to complete: `given` (3, S, S), of which what is `open` (S, S) is drawn, the `composed` whole, and what
    has to come back as it was given, `kept` (S, S): all the rest but what outpainting overlaps."""

    question: Question
    given: Tensor
    composed: Tensor
    open: Tensor
    kept: Tensor


@dataclass(frozen=True)
class InpaintingReport:
    """What `measure_inpainting` found."""

    task: Task
    seconds_per_picture: float
    attributes: Attributes


def gaps(scenes: ConceptScenes, task: Task, styles: Sequence[str], n: int) -> list[Gap]:
    """The first n scenes of each of the task's kinds, each without its first thing."""
    asked = questions(scenes, styles, n, KINDS[task])
    if task == "outpaint":
        return [_cropped(scenes, question) for question in asked]
    # Something else in its place: the first thing of the scene before.
    return [_replaced(scenes, question, asked[k - 1].things[0]) for k, question in enumerate(asked)]


def _replaced(scenes: ConceptScenes, question: Question, stranger: PlacedConcept) -> Gap:
    scene, thing = question.scene, question.things[0]
    k = scene.objects.index(thing)
    intruder = replace(thing, picture=stranger.picture, colour=stranger.colour)
    given = scenes.draw(replace(scene, objects=(*scene.objects[:k], intruder, *scene.objects[k + 1 :])))
    composed = scenes.draw(scene)
    either = given.masks[k] | composed.masks[k]
    open = grown(either[None, None].float(), GROW)[0, 0] > 0
    return Gap(question, given.picture, composed.picture, open, ~open)


def _cropped(scenes: ConceptScenes, question: Question) -> Gap:
    composed = scenes.draw(question.scene).picture
    side = composed.shape[1]
    half, deep = side // 2, side // 2 - round(OVERLAP * side)
    open, kept = torch.zeros(2, side, side, dtype=torch.bool)
    match question.kind:
        case "left":
            open[:, :half] = kept[:, -deep:] = True
        case "right":
            open[:, half:] = kept[:, :deep] = True
        case _:
            open[:half] = kept[-deep:] = True
    return Gap(question, composed, composed, open, kept)


def measure_inpainting(
    model: Model,
    data: EmojiData,
    judge: ClipScorer,
    settings: Settings,
    task: Task,
    styles: tuple[str, ...],
    n: int,
    watch: Watch,
) -> tuple[InpaintingReport, Samples]:
    """Complete n scenes of each kind in each language, each picture by itself.

    The seed of `settings` decides which, and is that of the first. Raises SfumatoError for a set without scenes.
    """
    scenes = ConceptScenes(data, SEEDS - settings.seed)
    holes = gaps(scenes, task, styles, max(n, REAL_SCENES))
    if not holes:
        raise SfumatoError(f"no scenes of two things in {', '.join(styles)}; choose other styles")
    classifier = Classifier(data, judge)
    real = []
    for done, gap in enumerate(holes, 1):
        real.append(judged(gap, gap.composed.where(gap.open, gap.given), classifier))  # shadows reach farther
        watch("composed scenes", done, len(holes))
    wanted = [(language, gap) for language in LANGUAGES for gap in holes[: n * len(KINDS[task])]]
    began, examined, shown = time.perf_counter(), [], []
    for k, (language, gap) in enumerate(wanted):
        prompt = gap.question.prompt(language, False, 0)
        request = replace(settings, prompt=prompt, seed=settings.seed + k)
        image = complete(model, gap, task, request)
        found = judged(gap, to_pixels(image)[0], classifier)
        examined.append(Examined(language, found))
        shown.append(SceneSample(image, prompt, language, request.seed, to_images(gap.given[None])[0], found))
        watch(f"{task}ing", k + 1, len(wanted))
    seconds = (time.perf_counter() - began) / len(wanted)
    return InpaintingReport(task, seconds, score_attributes(examined, real)), Samples([], shown, [], [])


def judged(gap: Gap, x: Tensor, classifier: Classifier) -> list[Answer]:
    """What picture (3, S, S) in [-1, 1] shows in the gap: of all objects the one of which most lies in it."""
    question, scene = gap.question, gap.question.scene
    sight = Sight.of(x, scene.style, classifier)
    inside = [int((found.mask & gap.open).sum()) for found in sight.objects]
    k = max(range(len(inside)), key=inside.__getitem__) if any(inside) else None
    thing = question.things[0]
    found = sight.of_thing(thing, scene.asked.things[thing.group].concept, k)
    found.append(sight.of_count(scene))
    if question.kind != "count":
        other = next((n for n in range(len(inside)) if n != k), None)
        found.append(sight.of_position(question.kind, k, other))
    same = bool(((x - gap.given).abs().amax(0) * gap.kept).amax() < 1 / 255)
    found.append(Answer("outside", SAME, SAME if same else CHANGED))
    return [*found, together(found)]


def complete(model: Model, gap: Gap, task: Task, settings: Settings) -> Image.Image:
    """The whole picture, its gap drawn by the model."""
    given = to_images(gap.given[None])[0]
    if task == "inpaint":
        mask = Image.fromarray(gap.open.numpy()).convert("L")
        events = inpaint(model, given, mask, settings, InpaintOptions())
    else:
        rest, half = Found.of(~gap.open).box, given.width // 2
        side = {"above": "top"}.get(gap.question.kind, gap.question.kind)
        events = outpaint(model, given.crop(rest), settings, OutpaintMargins(**{side: half}))
    return next(event.image for event in events if isinstance(event, Picture))
