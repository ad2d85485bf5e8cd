"""What training and evaluation ask of a data set. They know these protocols and no set by name: sets are handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from sfumato.nets.layout import Spot

Rgb = tuple[int, int, int]


class Dataset(Protocol):
    """N square pictures with an alpha channel, in splits.

    Each shows one of `subjects` things and belongs to a group, such as a style of drawing. Split "train" is what
    training may see; the others are held out.
    """

    @property
    def path(self) -> Path:
        """The folder of the set."""

    @property
    def size(self) -> int:
        """Edge of the pictures in pixels, S below."""

    @property
    def manifest(self) -> bytes:
        """What changes whenever a picture does, such as the file that names all others by their hashes."""

    @property
    def splits(self) -> Mapping[str, np.ndarray]:
        """Numbers of the pictures of each split, int64, ascending."""

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages of captions, English ("en") first."""

    @property
    def subjects(self) -> int:
        """How many different things the pictures show."""

    @property
    def groups(self) -> Sequence[str]:
        """The groups of the pictures, in a fixed order."""

    @property
    def grounds(self) -> Sequence[tuple[Rgb, Rgb]]:
        """Plain colours that pictures are laid on: the lowest and highest 8-bit RGB values of each."""

    def __len__(self) -> int: ...

    def picture(self, i: int) -> np.ndarray:
        """RGBA of picture i, uint8 (S, S, 4), straight alpha."""

    def pictures(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """A copy of several pictures, uint8 (N, S, S, 4)."""

    def subject(self, i: int) -> int:
        """Which of the things picture i shows, 0 .. subjects - 1."""

    def group(self, i: int) -> str:
        """The group of picture i."""

    def prompt(self, subject: int, group: str, language: str) -> str:
        """The plainest words for a picture of this thing in this group."""


class PictureList(Protocol):
    """M pictures that are made when asked for, such as those of a set on several backgrounds."""

    @property
    def name(self) -> str:
        """One word, for file names and progress bars."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever a picture does."""

    def __len__(self) -> int: ...

    def draw(self, numbers: np.ndarray) -> Tensor:
        """The pictures with these numbers, (B, 3, S, S) in [-1, 1]."""


class Captioned(Protocol):
    """What a denoiser learns from: pictures to encode once, and captions drawn anew whenever one is seen.

    Numbers count through all `parts`, one after the other.
    """

    @property
    def parts(self) -> Sequence[PictureList]:
        """All pictures, in lists that are encoded and kept apart."""

    def batch(self, step: int, count: int) -> tuple[np.ndarray, list[str]]:
        """Numbers (count,) and captions of training step `step`; a pure function of the step."""

    def validation(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        """Fixed pictures and prompts to measure on, by name: "seen" by training, and such that it does not see."""


@dataclass(frozen=True, eq=False)
class Example:
    """A picture of which everything is known.

    `picture` (3, S, S) is in [-1, 1]. `masks` (K, S, S), bool, are the visible pixels of each thing. `depth` (S, S)
    runs from 0, the background, to 1, the nearest thing. `caption(rng)` gives one of many captions.
    """

    picture: Tensor
    masks: Tensor
    depth: Tensor
    caption: Callable[[Random], str]


class Examples(Protocol):
    """An endless row of examples, each a function of its number."""

    def __getitem__(self, number: int) -> Example: ...


class LabelledScenes(Protocol):
    """An endless row of composed scenes of which everything is known, each a function of its number."""

    def draw(self, numbers: Sequence[int]) -> Tensor:
        """The scenes with these numbers as pictures (N, 3, S, S) in [-1, 1]."""

    def labels(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """What is known of N scenes, as tensors by name; all but `spot` are int64.

        A scene shows up to M = `nets.layout.MAX_THINGS` things in up to G = `nets.layout.MAX_GROUPS` groups of equal
        things. Of each thing, (N, M): `picture`, its number in the set; `tint`, 0 for none, else counted from 1;
        `group`, -1 where there is no thing; and `spot` (N, M, 5), float32: x, y, side, angle in degrees, 1 if mirrored
        (see `nets.layout.Spot`). Of each group, (N, G): `concept`, a subject of the set, -1 where there is no group;
        `count`, `size` and `pose` (0: no word says it). Of the scene, (N,): `arrangement`; `place` (0: no word says
        it); `style`, the place in `Dataset.groups`; `ground`, the place in `Dataset.grounds`, or their number for white
        that no word says.
        """


class TrainingSet(Dataset, Protocol):
    """A set that every training method can learn from."""

    def captioned(self, options: Mapping[str, Any], seed: int, held_out: int) -> Captioned:
        """Pictures and captions for a denoiser; `held_out` is how many of each kind `validation` gives.

        `options` is the recipe's table [data], which each set defines. Raises SfumatoError for options it lacks.
        """

    def examples(self, seed: int, single: float, deep: bool) -> Examples:
        """Composed pictures, a share `single` of them of one thing; `deep`: mostly of things that overlap."""

    def caption(self, rng: Random, composed: float) -> str:
        """A caption of some training picture, or of a composed one for the share `composed`, in any language."""

    def scenes(self, seed: int) -> LabelledScenes:
        """Composed scenes of the training pictures, other ones for each seed."""

    def alone(self, spot: Spot) -> PictureList:
        """The thing that each picture of the set shows, alone on white at this spot; numbers are the set's own."""
