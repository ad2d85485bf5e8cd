"""What training and evaluation ask of a data set. They know only these protocols; the sets are handed in.

Letters: S is the edge of a set's pictures in pixels, N and B count pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from sfumato.data.pictures.protocol import SampleSource
from sfumato.nets.layout import Arrangement, Place, Pose, Size, Spot
from sfumato.nets.prior import Understood

Rgb = tuple[int, int, int]


class Dataset(Protocol):
    """Square pictures with transparency, in splits and groups.

    Each picture shows one of `subjects` things and belongs to a group, such as a style of drawing. Training may see the
    split "train"; the other splits are held out.
    """

    @property
    def path(self) -> Path:
        """The folder of the set."""

    @property
    def size(self) -> int:
        """The edge of the pictures in pixels, S."""

    @property
    def manifest(self) -> bytes:
        """Bytes that change whenever a picture does, such as a file that lists all others with their hashes."""

    @property
    def splits(self) -> Mapping[str, np.ndarray]:
        """The numbers of the pictures of each split, int64, ascending."""

    @property
    def languages(self) -> Sequence[str]:
        """The codes of the languages of captions, English ("en") first."""

    @property
    def subjects(self) -> int:
        """How many different things the pictures show."""

    @property
    def groups(self) -> Sequence[str]:
        """The groups of the pictures, in a fixed order."""

    @property
    def grounds(self) -> Sequence[tuple[Rgb, Rgb]]:
        """The plain colours of backgrounds: the lowest and the highest 8-bit RGB values of each."""

    def __len__(self) -> int: ...

    def picture(self, i: int) -> np.ndarray:
        """Returns picture i as uint8 RGBA (S, S, 4), straight alpha."""

    def pictures(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns a copy of several pictures, uint8 (N, S, S, 4)."""

    def subject(self, i: int) -> int:
        """Returns which thing picture i shows, 0 .. subjects - 1."""

    def group(self, i: int) -> str:
        """Returns the group of picture i."""

    def prompt(self, subject: int, group: str, language: str) -> str:
        """Returns the plainest prompt for a picture of this thing in this group."""


class PictureList(Protocol):
    """Pictures that are made when they are asked for, such as those of a set on several backgrounds."""

    @property
    def name(self) -> str:
        """One word, for file names and progress bars."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever a picture does."""

    def __len__(self) -> int: ...

    def draw(self, numbers: np.ndarray) -> Tensor:
        """Returns the pictures with these numbers, (B, 3, S, S) in [-1, 1]."""


class Captioned(Protocol):
    """What a denoiser learns from: pictures that are encoded once, and captions that are drawn anew each time.

    Numbers count through all `parts`, one after the other.
    """

    @property
    def parts(self) -> Sequence[PictureList]:
        """All pictures, in lists that are encoded and kept separately."""

    def batch(self, step: int, count: int) -> tuple[np.ndarray, list[str]]:
        """Returns picture numbers (count,) and captions of training step `step`, a pure function of the step."""

    def validation(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        """Returns fixed picture numbers and prompts to measure on, by name.

        "seen" has pictures that training sees; the other names, such as "unseen", have pictures that it does not see.
        """


@dataclass(frozen=True, eq=False)
class Example:
    """A picture of which everything is known.

    `picture` (3, S, S) is in [-1, 1]. `masks` (K, S, S), bool, are the visible pixels of each thing. `depth` (S, S)
    runs from 0, the background, to 1, the nearest thing. `caption(rng)` returns one of many captions.
    """

    picture: Tensor
    masks: Tensor
    depth: Tensor
    caption: Callable[[Random], str]


class Examples(Protocol):
    """An endless row of examples, each a function of its number."""

    def __getitem__(self, number: int) -> Example:
        """Returns example `number`, a whole number from 0."""


class LabelledScenes(Protocol):
    """An endless row of composed scenes of which everything is known, each a function of its number."""

    def draw(self, numbers: Sequence[int]) -> Tensor:
        """Returns the scenes with these numbers as pictures, (N, 3, S, S) in [-1, 1]."""

    def labels(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """Returns what N scenes show, as tensors by name.

        A scene shows up to M = `nets.layout.MAX_THINGS` things in groups of equal ones. `picture` (N, M), int64, are
        their numbers in the set; `tint` (N, M), int64, counts tints from 1, with 0 for none; `group` (N, M), int64, is
        -1 where there is no thing; `spot` (N, M, 5), float32, has x, y, side, angle in degrees, and 1 if mirrored, see
        `nets.layout.Spot`. `ground` (N,), int64, is the place in `Dataset.grounds`, or their number for white that no
        word mentions.
        """


UNKNOWN = -1  # the label of what nobody knows of a picture or a text


@dataclass(frozen=True)
class LabelledPicture:
    """A picture to recognise: `rgba` (s, s, 4), uint8, that is laid over the 8-bit colour `rgb`.

    `shown` are its labels, a row as in `LabelledPictures.kinds`. A picture that is not `movable` means something else
    if it is mirrored or turned, and one that is not `tintable` if its hue changes; of one that is `whole` nothing may
    be cut off.
    """

    rgba: np.ndarray
    rgb: Rgb
    shown: list[int]
    movable: bool
    tintable: bool
    whole: bool


class LabelledPictures(Protocol):
    """Pictures and texts with labels of the same kinds, for networks that compare pictures with texts."""

    @property
    def kinds(self) -> Mapping[str, tuple[int, int]]:
        """The kinds of labels in the order of a row: the labels in a row and the classes of each.

        If texts may leave a kind open, its last class says so. A label may also be UNKNOWN.
        """

    @property
    def numbers(self) -> np.ndarray:
        """The numbers of the pictures that may be learnt from, int64, ascending."""

    @property
    def held_out(self) -> np.ndarray:
        """The numbers of pictures that are kept from learning, to measure on; int64, ascending."""

    def picture(self, number: int, rng: Random) -> LabelledPicture:
        """Draws a variant of picture `number`, or now and then a composed picture instead."""

    def text(self, rng: Random) -> tuple[str, list[int]]:
        """Draws a text, with the row of its labels."""

    def corpus(self, count: int) -> Iterable[str]:
        """Returns names, keywords and `count` texts, for a tokenizer to learn from."""

    def pictures(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the pictures with these numbers as `picture` has them, uint8 RGBA (N, s, s, 4), straight alpha."""

    def name(self, subject: int, language: str) -> str:
        """Returns the bare name of a subject."""

    def key(self, number: int) -> str:
        """Returns a name of picture `number` that stays the same if pictures are added to the set."""


@dataclass(frozen=True)
class RequestedThing:
    """A group of equal things that a prompt asks for.

    `subject` is what they are, `count` how many, `tint` their colour (counted from 1, 0 for none). `size` and `pose`
    are None if no word says them.
    """

    subject: int
    count: int = 1
    tint: int = 0
    size: Size | None = None
    pose: Pose | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what it asks for.

    `things` are empty for a prompt that asks for nothing. `style` is a place in `Dataset.groups`, `ground` one in
    `Dataset.grounds`; these and `place` are None if no word says them. `fitting` are all subjects that are equally
    right for the first thing, such as those that share a keyword.
    """

    text: str
    things: tuple[RequestedThing, ...]
    arrangement: Arrangement = "one"
    place: Place | None = None
    style: int | None = None
    ground: int | None = None
    fitting: tuple[int, ...] = ()


class Prompts(Protocol):
    """Prompts in all languages of a set, for a reader of prompts to learn from."""

    @property
    def subjects(self) -> Sequence[int]:
        """The subjects that prompts may name, ascending."""

    @property
    def tests(self) -> Sequence[str]:
        """The kinds of held-out prompts; those of a name that begins with "scene" ask for more than one plain thing."""

    def training(self, rng: Random) -> Prompt:
        """Draws a prompt for training."""

    def held_out(self, kind: str, language: str, rng: Random) -> Prompt:
        """Draws a prompt of one of `tests`, in wording that training never sees."""

    def handwritten(self, language: str) -> Sequence[tuple[str, Callable[[Understood], bool]]]:
        """Returns prompts that people wrote, each with a function that says whether a reader understood it."""

    def words(self) -> Iterable[str]:
        """Returns names and keywords, for a tokenizer to learn besides the prompts."""

    def sayings(self, rng: Random) -> Iterable[Prompt]:
        """Returns some short prompts for every subject in every language."""

    def phrases(self) -> Sequence[tuple[str, int, bool]]:
        """Returns names and keywords in all their forms, each with a subject and whether it is a name of it."""

    def values(self) -> Sequence[tuple[str, str, int]]:
        """Returns phrases that say a value of a field, each with the field and the place of the value.

        The fields are "count", "tint", "size", "pose", "place", "style" and "ground". Places begin at 0 with the first
        value that can be said: "one" is place 0 of "count".
        """


class TrainingSet(Dataset, SampleSource, Protocol):
    """A set that training methods learn from; docs/data.md lists what each method asks for."""

    def captioned(self, options: Mapping[str, Any], seed: int, held_out: int) -> Captioned:
        """Returns pictures and captions for a denoiser.

        `options` is the recipe's table [data], which each set defines for itself. `held_out` is the number of pictures
        of each kind that `validation` gives. Raises SfumatoError for unknown options.
        """

    def examples(self, seed: int, single: float, deep: bool) -> Examples:
        """Returns composed pictures, other ones for each seed.

        `single` is the share of pictures of one thing; with `deep` most others show things that overlap.
        """

    def caption(self, rng: Random, composed: float) -> str:
        """Returns a caption in any language, for the share `composed` of a composed picture, else of a single one."""

    def scenes(self, seed: int) -> LabelledScenes:
        """Returns composed scenes of the training pictures, other ones for each seed."""

    def alone(self, spot: Spot, ground: Rgb = (255, 255, 255)) -> PictureList:
        """Returns the thing of each picture alone on a plain ground at this spot, under the numbers of the set."""

    def labelled(self, seed: int) -> LabelledPictures:
        """Returns pictures and texts with labels; the seed decides what is held out."""

    @property
    def tints(self) -> Sequence[tuple[Rgb, Rgb]]:
        """The tints that things in scenes and prompts may have: the lowest and the highest 8-bit RGB values of each."""

    def prompts(self) -> Prompts:
        """Returns prompts for pictures of the training split."""
