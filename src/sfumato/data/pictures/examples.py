"""The examples of a training set as captioned pictures, so that a method learns from either by one road."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.data.pictures.protocol import Sample
from sfumato.data.protocol import TrainingSet
from sfumato.errors import SfumatoError
from sfumato.seeding import shuffled, stream


@dataclass(frozen=True)
class ExampleOptions:
    """The table [data] of a recipe that learns from the examples of a set.

    The first `examples` are learnt from, and `held_out` more are measured on. The share `single` of them show one thing
    alone, and the share `caption_dropout` of captions is left empty. An example has so many `captions`, 0 ever new
    ones; few are encoded once and kept.
    """

    examples: int = 512
    held_out: int = 32
    single: float = 0.5
    caption_dropout: float = 0.1
    captions: int = 0

    def __post_init__(self) -> None:
        for name, least in (("examples", 1), ("held_out", 1), ("captions", 0)):
            if getattr(self, name) < least:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a whole number from {least}")
        for name in ("single", "caption_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1")


class ExamplePictures:
    """Examples of a set, all of one square size: `protocol.CaptionedPictures`."""

    name = "examples"

    def __init__(self, data: TrainingSet, options: ExampleOptions, seed: int, resolution: int, multiple: int) -> None:
        self.options, self._seed = options, seed
        self._examples = data.examples(seed, options.single, False)
        side = min(resolution, data.size) // multiple * multiple
        if side == 0:
            raise SfumatoError(f"the resolution is {resolution}; expected at least {multiple} pixels")
        self._size = side, side
        self._plain = Sample(0, "", (data.size, data.size), self._size, (0, 0), self._size)
        self._origin = f"{hashlib.sha256(data.manifest).hexdigest()} {seed} {options.single} {side}"
        self._captions: dict[int, Callable[[Random], str]] = {}
        self.epoch, self.sizes = options.examples, {self._size: options.examples}

    def batch(self, step: int, count: int) -> list[Sample]:
        """See `protocol.CaptionedPictures`."""
        rng = Random(int(stream(self._seed, "example captions", step).integers(2**63)))
        numbers = shuffled(self._seed, "examples", step * count, count, self.epoch).tolist()
        return [
            dataclasses.replace(self._plain, picture=number, caption=self._caption(number, rng)) for number in numbers
        ]

    def validation(self) -> list[Sample]:
        """See `protocol.CaptionedPictures`."""
        return [self._view(number) for number in range(self.epoch, self.epoch + self.options.held_out)]

    def views(self) -> Iterator[Sample]:
        """See `protocol.CaptionedPictures`."""
        return map(self._view, range(self.epoch + self.options.held_out))

    def pixels(self, sample: Sample) -> Tensor:
        """See `protocol.CaptionedPictures`."""
        example = self._examples[sample.picture]
        self._captions[sample.picture] = example.caption
        if example.picture.shape[1:] == sample.size:
            return example.picture
        return F.interpolate(example.picture[None], sample.size, mode="bicubic", antialias=True)[0].clamp(-1, 1)

    def mask(self, sample: Sample) -> Tensor:
        """See `protocol.CaptionedPictures`."""
        return torch.ones(1, *sample.size)

    def key(self, sample: Sample) -> str:
        """See `protocol.CaptionedPictures`."""
        return hashlib.sha256(f"{self._origin} {sample.picture}".encode()).hexdigest()[:32]

    def _view(self, number: int) -> Sample:
        caption = self._writer(number)(Random(f"example {number}"))
        return dataclasses.replace(self._plain, picture=number, caption=caption)

    def _caption(self, number: int, rng: Random) -> str:
        if rng.random() < self.options.caption_dropout:
            return ""
        count = self.options.captions
        return self._writer(number)(Random(f"example {number}/{rng.randrange(count)}") if count else rng)

    def _writer(self, number: int) -> Callable[[Random], str]:
        """What writes the captions of an example, kept so that its picture is not drawn each time."""
        if number not in self._captions:
            self._captions[number] = self._examples[number].caption
        return self._captions[number]
