"""What happens while pictures are drawn."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True, eq=False)
class Progress:
    """One step of one picture was taken; `preview()` makes a small, rough picture of what it will become."""

    picture: int
    step: int
    steps: int
    preview: Callable[[], Image.Image]


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture, the seed that draws it again and its settings as text; its score if pictures are ranked."""

    index: int
    image: Image.Image
    seed: int
    infotext: str
    score: float | None = None


Events = Generator[Progress | Picture, None, None]
