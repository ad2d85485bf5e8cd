"""All figures of a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.errors import SfumatoError
from sfumato.evaluate.emoji.attributes import answers
from sfumato.evaluate.emoji.measurement import EVERYTHING, Measurement, Shown, on_paper, singly
from sfumato.evaluate.emoji.prompts import SCENES, WORDS, Plan
from sfumato.evaluate.emoji.report import Concepts, Report, Unseen
from sfumato.evaluate.emoji.samples import Samples, SceneSample, SingleSample, WordsSample
from sfumato.evaluate.emoji.scores import Attributes, Examined, score_attributes
from sfumato.evaluate.emoji.styles import styles_of
from sfumato.evaluate.emoji.variety import measure_variety
from sfumato.evaluate.intervals import Estimate
from sfumato.evaluate.originality import Originality, measure_originality, to_known
from sfumato.evaluate.pictures import Looks, Watch, look, on_white, spread
from sfumato.evaluate.precision import Precision, measure_precision
from sfumato.evaluate.reconstruction import measure_reconstruction, there_and_back
from sfumato.evaluate.speed import Speed, threads, twenty_steps
from sfumato.images.tensors import to_images
from sfumato.pipeline.clip_scorer import ClipScorer
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings


def measure(
    model: Model,
    data: EmojiData,
    judge: ClipScorer,
    settings: Settings,
    plan: Plan,
    first_picture: Callable[[], float | None],
    watch: Watch,
) -> tuple[Report, Samples]:
    """Draw things in plain and in unseen words, scenes, and one prompt with several seeds, and compare.

    The seed of `settings` decides what is asked for, and with the next ones what is drawn. `first_picture` measures the
    start of a process. Raises SfumatoError for a set without pictures or scenes to ask for.
    """
    run = Measurement(model, data, judge, settings, plan, watch)
    if len(run.chosen) < 2:
        raise SfumatoError(f"{data.path} has {len(run.chosen)} training pictures in {', '.join(plan.styles)}")
    reconstruction = {
        split: measure_reconstruction(model.vae, data, spread(numbers, plan.real), watch)
        for split, numbers in run.splits.items()
    }
    run.draw()
    singles = run.of("name")
    looks = run.looks(singles)
    scenes, scene_samples = _scenes(run)
    words, word_samples = _words(run, looks)
    report = Report(
        speed=Speed(first_picture(), twenty_steps(model, settings), run.seconds, threads()),
        reconstruction=reconstruction,
        precision=_precision(run, looks),
        words=words,
        unseen=_unseen(run),
        scenes=scenes,
        variety=measure_variety(data, run.looks(run.of("varied")), run.known, plan.seeds),
        originality=_originality(run, looks),
    )
    varied: dict[str, list[Image.Image]] = {}
    for one, image in run.of("varied"):
        varied.setdefault(one.prompt, []).append(image)
    return report, Samples(_singles(run, looks, singles), scene_samples, word_samples, list(varied.items()))


def _precision(run: Measurement, looks: Looks) -> dict[str, Precision]:
    languages = np.array([one.language for one, _ in run.of("name")])
    held = [i for i in range(len(run.data)) if _name_of(run.data, i) in run.judge.held_out]
    numbers = np.array([i for i in held if run.data.style(i) in run.plan.styles], np.int64)
    drawn = {language: looks.at(languages == language) for language in LANGUAGES}
    real = run.known.of(run.chosen[: run.plan.names])
    held_out = look(run.judge, numbers, on_white(run.data, numbers))
    return measure_precision(run.data, run.judge, drawn, real, held_out, run.watch)


def _words(run: Measurement, names: Looks) -> tuple[dict[str, dict[str, Concepts]], list[WordsSample]]:
    found: dict[str, dict[str, Concepts]] = {}
    samples = []
    for kind in WORDS:
        shown = run.of(kind)
        looks = names if kind == "name" else run.looks(shown)
        rows = {language: np.array([one.language == language for one, _ in shown], bool) for language in LANGUAGES}
        found[kind] = {
            language: run.concepts([shown[k] for k in np.flatnonzero(row)], looks.at(row))
            for language, row in rows.items()
        }
        if kind == "name":
            english = [pair for pair in shown if pair[0].language == "en"]
            real = run.known.of(np.array([one.place for one, _ in english], np.int64))
            found["real"] = {"en": run.concepts(english, real)}
        else:
            samples += _word_samples(run, shown, looks)
    return found, samples


def _word_samples(run: Measurement, shown: Shown, looks: Looks) -> list[WordsSample]:
    right = run.right([one for one, _ in shown], looks, EVERYTHING)
    samples = []
    for k, (one, image) in enumerate(shown):
        style = run.data.style(one.place) if one.styled else None
        best = int(run.classifier.scores(looks.vectors[k : k + 1], style)[0].argmax())
        seen = run.data.concepts[best].names["en"]
        samples.append(
            WordsSample(image, one.prompt, one.language, one.seed, on_paper(run.data, one.place), seen, right[k])
        )
    return samples


def _unseen(run: Measurement) -> Unseen:
    shown = run.of("unseen")
    drawn = run.looks(shown)
    real = look(run.judge, drawn.numbers, on_white(run.data, drawn.numbers))
    artworks = Looks(
        np.concatenate([run.known.numbers, real.numbers]),
        torch.cat([run.known.vectors, real.vectors]),
        torch.cat([run.known.thumbnails, real.thumbnails]),
    )
    styles = styles_of(run.data, drawn, artworks)
    right = [style == run.data.style(int(i)) for style, i in zip(styles, drawn.numbers, strict=True)]
    return Unseen(run.concepts(shown, drawn), Estimate.share(right), run.concepts(shown, real))


def _scenes(run: Measurement) -> tuple[dict[str, Attributes], list[SceneSample]]:
    """The answers of drawn pictures, and of as many and more composed ones."""
    composed = [run.scenes.draw(question.scene).picture for question in run.asked]
    real = []
    for done, (question, x) in enumerate(zip(run.asked, composed, strict=True), 1):
        real.append(answers(question, x, run.scenes, run.classifier))
        run.watch("composed scenes", done, len(run.asked))
    found: dict[str, Attributes] = {}
    samples = []
    for wording in SCENES:
        shown, examined = run.of(wording), []
        for done, ((one, image), x) in enumerate(zip(shown, singly(shown), strict=True), 1):
            seen = answers(run.asked[one.place], x, run.scenes, run.classifier)
            examined.append(Examined(one.language, seen))
            beside = to_images(composed[one.place][None])[0]
            samples.append(SceneSample(image, one.prompt, one.language, one.seed, beside, seen))
            run.watch(f"scenes in {wording} words", done, len(shown))
        if examined:
            found[wording] = score_attributes(examined, real)
    return found, samples


def _originality(run: Measurement, drawn: Looks) -> Originality:
    some = spread(run.train, run.plan.real)
    copies = look(run.judge, some, (there_and_back(run.model.vae, x) for x in on_white(run.data, some)))
    unseen = {split: look(run.judge, numbers, on_white(run.data, numbers)) for split, numbers in run.splits.items()}
    return measure_originality(run.data, run.known, copies, {"drawn": drawn} | unseen)


def _singles(run: Measurement, drawn: Looks, shown: Shown) -> list[SingleSample]:
    likeness = (drawn.vectors * run.known.of(drawn.numbers).vectors).sum(1).tolist()
    near = to_known(run.data, drawn, run.known)
    return [
        SingleSample(
            image=image,
            prompt=one.prompt,
            language=one.language,
            seed=one.seed,
            real=on_paper(run.data, one.place),
            likeness=likeness[k],
            nearest=on_paper(run.data, int(near.numbers[k])),
            distance=near.pixels[k].item(),
        )
        for k, (one, image) in enumerate(shown)
    ]


def _name_of(data: EmojiData, i: int) -> str:
    return f"{data.style(i)}/{data.concept(i).hex}"
