"""What a prompt asks for, apart from its words."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.data.emoji.captions import Colour, Concept
from sfumato.nets.layout import Arrangement, Place, Pose, Size


@dataclass(frozen=True)
class Thing:
    """A group of `count` equal things, 1 to 6; six may also be worded as "many".

    `colour` is the tint, `size` and `pose` are as words give them, each None if no word says it.
    """

    concept: Concept
    count: int = 1
    colour: Colour | None = None
    size: Size | None = None
    pose: Pose | None = None


@dataclass(frozen=True)
class Asked:
    """A request: one to four groups of things, how they lie, the style and the background.

    In "left" the first group is left of the second, in "above" above it, in "front" in front of it; "row" runs from
    left to right. `place` is where the group of "one" lies. `place`, `style` and `ground` are None if no word says
    them.
    """

    things: tuple[Thing, ...]
    arrangement: Arrangement = "one"
    place: Place | None = None
    style: str | None = None
    ground: Colour | None = None
