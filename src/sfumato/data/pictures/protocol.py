"""What a training method asks of pictures with captions, whichever layout or set they come from.

All sizes are (width, height) and all corners (left, top), in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True)
class Sample:
    """One use of a picture: brought to the size `scaled`, cut to `size` at `corner`, then mirrored if `flip`.

    `picture` is its number in the set and `original` the size of its file. The loss is multiplied by `weight`, and if
    `masked` by the mask at each place. `regularisation` marks a picture that keeps what a model knew already, see
    DreamBooth (Ruiz et al. 2022).
    """

    picture: int
    caption: str
    original: Pair
    scaled: Pair
    corner: Pair
    size: Pair
    flip: bool = False
    weight: float = 1.0
    masked: bool = False
    regularisation: bool = False

    @property
    def micro_conditioning(self) -> dict[str, Pair]:
        """The numbers that XL is told (Podell et al. 2023, section 2.2): pairs of height and width, or top and left.

        `crop` is the corner in the scaled picture, as seen after mirroring.
        """
        left, top = self.corner
        if self.flip:
            left = self.scaled[0] - left - self.size[0]
        return {"original_size": self.original[::-1], "crop": (top, left), "target_size": self.size[::-1]}


class CaptionedPictures(Protocol):
    """Pictures with captions, in batches for training."""

    @property
    def name(self) -> str:
        """One word, for file names and progress bars."""

    @property
    def epoch(self) -> int:
        """How many samples an epoch has: every picture as often as it is repeated."""

    @property
    def sizes(self) -> Mapping[Pair, int]:
        """The sizes of batches, each with the number of its samples in an epoch."""

    def batch(self, step: int, count: int) -> Sequence[Sample]:
        """Returns the `count` samples of training step `step`, all of one size: a pure function of seed and step."""

    def validation(self) -> Sequence[Sample]:
        """Returns fixed samples to measure on, each with its plain caption, neither mirrored nor cut at random.

        They show pictures that training does not see, or some of those that it sees if none is held out.
        """

    def views(self) -> Iterable[Sample]:
        """Yields every view of a picture that a batch or `validation` can have once, so that it can be encoded before.

        Captions are plain ones.
        """

    def pixels(self, sample: Sample) -> Tensor:
        """Returns the view (3, H, W) in [-1, 1]. Raises SfumatoError for a broken file."""

    def mask(self, sample: Sample) -> Tensor:
        """Returns where the loss counts, (1, H, W) in [0, 1]; ones if the sample is not `masked`."""

    def key(self, sample: Sample) -> str:
        """Returns a hash of everything that `pixels` depends on: the picture's bytes and the transform."""


class SampleSource(Protocol):
    """A set that can hand out pictures with captions."""

    def samples(self, options: Mapping[str, Any], seed: int, resolution: int, multiple: int) -> CaptionedPictures:
        """Returns the pictures by the recipe's table [data], which each kind of set defines for itself.

        `resolution` is the edge of a square picture that the model draws, unless the options say another; all sizes are
        multiples of `multiple`. Raises SfumatoError for unknown options, missing captions and unreadable pictures.
        """
