"""What happens while pictures are drawn."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from sfumato.diffusion.driver import Asking, answered


@dataclass(frozen=True, eq=False)
class WordMaps:
    """Where a picture attends to which word of its prompt, as the network had it at one step.

    `maps` (words, h, w) are the shares of each place's attention that the words get, means over all heads and blocks.
    """

    words: tuple[str, ...]
    maps: Tensor


@dataclass(frozen=True, eq=False)
class Progress:
    """One step of one picture was taken; `preview()` makes a small, rough picture of what it will become.

    The step left the latents `x` (1, C, h, w) of the noise level `sigma`, for which the network's estimate of the
    finished latents was `x0`, of the same shape; these three are None where the step is none of a sampler's, as when
    pixels are enlarged. Steps are counted from 1. The tensors are the sampler's own: copy what is to be changed.
    `attention` is there where it was asked for, at steps that the network under the prompt was asked about.
    """

    picture: int
    step: int
    steps: int
    preview: Callable[[], Image.Image]
    sigma: float | None = None
    x: Tensor | None = None
    x0: Tensor | None = None
    attention: WordMaps | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture, the seed that draws it again and its settings as text; its score if pictures are ranked.

    `latents` (1, C, h, w) are what it was decoded from, None where that were several. `name` is the beginning of the
    name that its file shall have, None where that does not matter; `texts` are further texts for a PNG file.
    """

    index: int
    image: Image.Image
    seed: int
    infotext: str
    score: float | None = None
    latents: Tensor | None = None
    name: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


Drawing = Asking[Progress | Picture]
"""A task at work: it asks for rows of networks, and yields steps and finished pictures."""


class Events(Iterator[Progress | Picture]):
    """Steps and finished pictures as they happen; close it to cancel what is not finished.

    It asks networks by itself, `max_rows` rows in a call. Who draws several requests at once takes `drawing` instead
    and answers the rows of all of them together.
    """

    def __init__(self, drawing: Drawing, max_rows: int = 8):
        self.drawing, self.max_rows = drawing, max_rows
        self._answered: Generator[Progress | Picture, None, None] = answered(drawing, max_rows)

    def __next__(self) -> Progress | Picture:
        return next(self._answered)

    def close(self) -> None:
        """Cancel: what is not finished is given up."""
        self._answered.close()
        self.drawing.close()
