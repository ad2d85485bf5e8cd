"""One's own pictures as squares of one size, for the methods that learn a network anew from pictures and captions.

A caption is a class: pictures with the same caption show the same. The letters are those of `data.protocol`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random

import numpy as np

from sfumato.data.pictures.captions import drawn_caption
from sfumato.data.pictures.picture_set import PictureSet
from sfumato.data.protocol import LabelledPicture, Rgb

WHITE: Rgb = (255, 255, 255)
SHOWN_TO_MEASURE = 64  # pictures that are measured on where none is held out


class SquareSet:
    """What `vae` and `clip` ask a set for, see `data.protocol`, of pictures that are all of one square size."""

    languages: Sequence[str] = ("en",)
    groups: Sequence[str] = ("picture",)
    grounds: Sequence[tuple[Rgb, Rgb]] = ((WHITE, WHITE),)

    def __init__(self, pictures: PictureSet):
        self.source = pictures
        self.samples = {sample.picture: sample for sample in reversed(list(pictures.views()))}
        numbers = sorted(self.samples)
        self.size = self.samples[numbers[0]].size[0]
        held = sorted(pictures.held_out)
        train = np.array([number for number in numbers if number not in held])
        measured = np.array(held) if held else train[:SHOWN_TO_MEASURE]
        self.splits = {"train": train, "unseen_picture": measured, "unseen_concept": np.array([], int)}
        self.captions = sorted({sample.caption for sample in self.samples.values()})
        self._subjects = {caption: place for place, caption in enumerate(self.captions)}

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def subjects(self) -> int:
        """How many different captions there are."""
        return len(self.captions)

    def subject(self, i: int) -> int:
        """Returns the class of a picture's caption."""
        return self._subjects[self.samples[int(i)].caption]

    def group(self, i: int) -> str:
        """Returns the only group."""
        return self.groups[0]

    def prompt(self, subject: int, group: str, language: str) -> str:
        """Returns the caption of a class."""
        return self.captions[subject]

    def picture(self, i: int) -> np.ndarray:
        """Returns a picture, opaque, uint8 (S, S, 4)."""
        pixels = self.source.pixels(self.samples[int(i)])
        rgb = ((pixels + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])

    def pictures(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns several pictures, uint8 (N, S, S, 4)."""
        return np.stack([self.picture(int(i)) for i in indices])

    def labelled(self, seed: int) -> LabelledSquares:
        """Returns the same with labels; what is held out is said by the set's options."""
        return LabelledSquares(self)


class LabelledSquares:
    """Pictures and captions with labels, see `data.protocol.LabelledPictures`: captions, and one style."""

    def __init__(self, squares: SquareSet):
        self._set = squares
        self.kinds: Mapping[str, tuple[int, int]] = {"concept": (1, squares.subjects), "style": (1, 1)}
        self.numbers, self.held_out = squares.splits["train"], squares.splits["unseen_picture"]
        self.pictures = squares.pictures

    def picture(self, number: int, rng: Random) -> LabelledPicture:
        """Returns a picture, which may be moved but has the colours that it has."""
        shown = [self._set.subject(number), 0]
        return LabelledPicture(self._set.picture(number), WHITE, shown, movable=True, tintable=False, whole=False)

    def text(self, rng: Random) -> tuple[str, list[int]]:
        """Draws a caption of a training picture, with its labels."""
        number = int(self.numbers[rng.randrange(len(self.numbers))])
        entry = self._set.source.entries[number]
        return drawn_caption(entry.captions, entry.options, rng), [self._set.subject(number), 0]

    def corpus(self, count: int) -> Iterable[str]:
        """Returns the captions and `count` drawn ones, for a tokenizer to learn from."""
        rng = Random(0)
        yield from self._set.captions
        yield from (self.text(rng)[0] for _ in range(count))

    def name(self, subject: int, language: str) -> str:
        """Returns the caption of a class."""
        return self._set.captions[subject]

    def key(self, number: int) -> str:
        """Returns the hash of a picture's file."""
        return self._set.source.content_hash(int(number))
