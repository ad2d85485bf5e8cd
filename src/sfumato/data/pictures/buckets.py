"""Aspect-ratio buckets: the sizes of batches, and how a picture is brought to one of them.

The rule is that of NovelAI (2022) as kohya's scripts have it. The sides of a bucket are multiples of a step, its area
is at most the resolution squared, and a picture goes where the aspect ratio is nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.protocol import Pair
from sfumato.errors import SfumatoError

USUAL_STEP = 64
SMALL = 256  # resolution below which steps are as small as the model allows


@dataclass(frozen=True)
class Placement:
    """The size to which a picture is scaled, and the size of its bucket, which is not larger."""

    scaled: Pair
    size: Pair


def bucket_sizes(resolution: int, step: int, least: int, most: int) -> list[Pair]:
    """Returns all buckets, ascending: for every width from `least` to `most` the greatest height, and both turned.

    >>> bucket_sizes(512, 64, 384, 704)
    [(384, 640), (448, 576), (512, 512), (576, 448), (640, 384)]
    """
    area, square = resolution**2, resolution // step * step
    found = {(square, square)}
    for width in range(least, most + 1, step):
        height = min(most, area // width) // step * step
        if height >= least:
            found |= {(width, height), (height, width)}
    return sorted(found)


class Buckets:
    """The buckets of a set. Raises SfumatoError for options that leave none."""

    def __init__(self, options: PictureOptions, resolution: int, multiple: int) -> None:
        self.resolution = options.resolution or resolution
        small = self.resolution < SMALL
        self.step = options.bucket_step or (multiple if small else math.lcm(USUAL_STEP, multiple))
        if self.step % multiple:
            raise SfumatoError(f"bucket_step is {self.step}; this model needs a multiple of {multiple}")
        if self.resolution < self.step:
            raise SfumatoError(f"resolution is {self.resolution}; expected at least {self.step} pixels")
        least, most = options.bucket_least or self.resolution // 2, options.bucket_most or 2 * self.resolution
        if not least <= self.resolution <= most:
            raise SfumatoError(
                f"buckets from {least} to {most} pixels leave out the resolution {self.resolution}; "
                "change bucket_least or bucket_most"
            )
        first = max(self.step, math.ceil(least / self.step) * self.step)
        square = self.resolution // self.step * self.step
        self._square = not options.buckets
        self.sizes = [(square, square)] if self._square else bucket_sizes(self.resolution, self.step, first, most)
        self._upscale = options.upscale

    def place(self, width: int, height: int, name: str) -> Placement:
        """Returns the placement of a picture.

        One that would have to be enlarged goes, unless that is allowed, to a bucket of its own size rounded down.
        Raises SfumatoError for a picture that is too small for that, or for a square if all are to be square; `name`
        is what the message calls it.
        """
        ratio = width / height
        size = width, height
        if size not in self.sizes:
            size = min(self.sizes, key=lambda one: (abs(one[0] / one[1] - ratio), -one[0] * one[1]))
        if self._upscale or (width >= size[0] and height >= size[1]):
            return Placement(_covering(size, width, height), size)
        shrink = min(1.0, self.resolution / math.sqrt(width * height))
        scaled = max(1, round(width * shrink)), max(1, round(height * shrink))
        size = scaled[0] // self.step * self.step, scaled[1] // self.step * self.step
        least = self.sizes[0][0] if self._square else self.step
        if self._square or min(size) == 0:
            raise SfumatoError(
                f"{name} has {width}x{height} pixels; at least {least}x{least} are needed: "
                "take it out, give a lower resolution, or say upscale = true"
            )
        return Placement(scaled, size)


def _covering(size: Pair, width: int, height: int) -> Pair:
    """The smallest size with a picture's aspect ratio that covers a bucket."""
    scale = max(size[0] / width, size[1] / height)
    return max(size[0], round(width * scale)), max(size[1], round(height * scale))
