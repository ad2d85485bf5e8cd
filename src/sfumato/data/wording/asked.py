"""What a prompt says, apart from its words."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.data.emoji.captions import Colour, Concept
from sfumato.nets.layout import Arrangement, Place, Pose, Size


@dataclass(frozen=True)
class Thing:
    """A group of equal things: `count` of them, and the tint, size and pose that words give, None where they give none.

    `count` runs from 1 to 6; six may also be said as "many".
    """

    concept: Concept
    count: int = 1
    colour: Colour | None = None
    size: Size | None = None
    pose: Pose | None = None


@dataclass(frozen=True)
class Asked:
    """One to four `things`, how they lie, the style and the background, None where words do not say it.

    The first thing of "left" is left of the second, that of "above" above it, that of "front" in front of it; "row"
    runs from left to right. `place` is where the group of "one" lies.
    """

    things: tuple[Thing, ...]
    arrangement: Arrangement = "one"
    place: Place | None = None
    style: str | None = None
    ground: Colour | None = None
