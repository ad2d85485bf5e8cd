"""All figures of a model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data import captions
from sfumato.data.dataset import EmojiData
from sfumato.errors import SfumatoError
from sfumato.evaluate.backgrounds import ground, name_of
from sfumato.evaluate.draw import draw
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.originality import Originality, measure_originality
from sfumato.evaluate.pictures import BATCH, Watch, choose, in_styles, look, on_white, spread, watched
from sfumato.evaluate.precision import Precision, measure_precision
from sfumato.evaluate.reconstruction import Reconstruction, measure_reconstruction, there_and_back
from sfumato.model import StableDiffusion
from sfumato.tasks.settings import Settings

HELD_OUT = ("unseen_picture", "unseen_concept")
COPIES = 200


@dataclass(frozen=True)
class Report:
    """What `measure` found; see each part. `background` is the share of grounds in the colour that was asked for.

    `standard_error` is the most that chance makes of an R-precision's share, as a standard deviation.
    """

    prompts: int
    seconds_per_picture: float
    reconstruction: dict[str, Reconstruction]
    precision: dict[str, Precision]
    standard_error: float
    originality: Originality
    background: float


def measure(
    model: StableDiffusion,
    data: EmojiData,
    judge: Judge,
    settings: Settings,
    n: int,
    styles: tuple[str, ...],
    watch: Watch,
) -> Report:
    """Draw the prompts of n training pictures in every language, then n on named backgrounds, and compare.

    The seed of `settings` decides what is chosen and drawn. Raises SfumatoError for a set without pictures to ask for.
    """
    train = in_styles(data, "train", styles)
    chosen = choose(data, train, n, settings.seed)
    if len(chosen) < 2:
        raise SfumatoError(
            f"{data.path} has {len(chosen)} training pictures in {', '.join(styles)}; expected 2 or more"
        )
    held_out = {split: numbers for split in HELD_OUT if len(numbers := in_styles(data, split, styles))}
    reconstruction = {
        split: measure_reconstruction(model.vae, data, numbers, watch) for split, numbers in held_out.items()
    }
    known = look(judge, train, watched(on_white(data, train), "training pictures", len(train), watch))
    unseen = {split: look(judge, numbers, on_white(data, numbers)) for split, numbers in held_out.items()}
    some = spread(train, COPIES)
    copies = look(judge, some, (there_and_back(model.vae, x) for x in on_white(data, some)))

    requests, colours = _requests(data, chosen, settings.seed)
    began = time.perf_counter()
    images = _images(model, requests, settings, data.size, watch)
    seconds = (time.perf_counter() - began) / len(requests)
    count = len(chosen) * len(captions.LANGUAGES)
    drawn = look(judge, np.tile(chosen, len(captions.LANGUAGES)), _pixels(images[:count]))
    grounds = torch.cat([ground(x) for x in _pixels(images[count:])])

    precision = measure_precision(
        data,
        judge,
        {
            language: drawn.at(np.arange(k * len(chosen), (k + 1) * len(chosen)))
            for k, language in enumerate(captions.LANGUAGES)
        },
        known.of(chosen),
        {split: looks.of(choose(data, looks.numbers, n, settings.seed)) for split, looks in unseen.items()},
        settings.seed,
        watch,
    )
    return Report(
        prompts=len(chosen),
        seconds_per_picture=seconds,
        reconstruction=reconstruction,
        precision=precision,
        standard_error=0.5 / math.sqrt(len(chosen)),
        originality=measure_originality(data, known, copies, {"drawn": drawn} | unseen),
        background=(name_of(grounds) == torch.tensor(colours)).float().mean().item(),
    )


def _requests(data: EmojiData, chosen: np.ndarray, seed: int) -> tuple[list[tuple[str, int]], list[int]]:
    """Prompts with their seeds: language by language, then those with backgrounds; and these backgrounds' places."""
    pairs = [(data.concept(int(i)), data.style(int(i))) for i in chosen]
    prompts = [captions.prompt(concept, style, language) for language in captions.LANGUAGES for concept, style in pairs]
    colours = [k % len(captions.COLOURS) for k in range(len(pairs))]
    for k, (concept, style) in enumerate(pairs):
        language = captions.LANGUAGES[k % len(captions.LANGUAGES)]
        prompts.append(captions.caption(concept, style, language, Random(k), captions.COLOURS[colours[k]]))
    return [(prompt, seed + k) for k, prompt in enumerate(prompts)], colours


def _images(
    model: StableDiffusion, requests: Sequence[tuple[str, int]], settings: Settings, size: int, watch: Watch
) -> list[Image.Image]:
    """The pictures of the requests in their order, scaled to size x size pixels."""
    images: dict[int, Image.Image] = {}
    with closing(draw(model, requests, settings)) as pictures:
        for picture in pictures:
            image = picture.image
            images[picture.index] = image if image.size == (size, size) else image.resize((size, size))
            watch("drawing", len(images), len(requests))
    return [images[k] for k in range(len(requests))]


def _pixels(images: Sequence[Image.Image]) -> Iterator[Tensor]:
    """Batches (B, 3, H, W) in [-1, 1]."""
    for start in range(0, len(images), BATCH):
        levels = np.stack([np.asarray(image) for image in images[start : start + BATCH]])
        yield torch.from_numpy(levels).movedim(-1, 1).float() / 127.5 - 1
