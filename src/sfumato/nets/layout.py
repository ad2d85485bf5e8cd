"""Where the things of a picture lie: groups of equal things -> a spot for each thing.

Training composes its scenes by these rules, and a prior that has read a prompt lays its things out by the same ones.
All lengths are shares of the picture's edge, so that one layout serves every size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, get_args

Arrangement = Literal["one", "left", "above", "front", "row"]
Place = Literal["left", "right", "top", "bottom"]
Size = Literal["small", "big"]
Pose = Literal["tilted", "mirrored", "upside_down"]

ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
PLACES: tuple[Place, ...] = get_args(Place)
SIZES: tuple[Size, ...] = get_args(Size)
POSES: tuple[Pose, ...] = get_args(Pose)

MAX_COUNT = 6  # equal things in a group; "many" are so many
MAX_GROUPS = 4
MAX_THINGS = 6  # in a picture
ALONE = (0.8, 0.94)  # the longer edge of a thing that has the picture to itself
WANDER = 0.02  # how far from its place a thing may lie
GAP = 0.05  # between neighbours, so that things can be told apart and counted
LEAN = (14.0, 32.0)  # degrees of a tilted thing, to either side


@dataclass(frozen=True)
class Group:
    """`count` equal things; `size` and `pose` are what words say of them, None where they say nothing."""

    count: int = 1
    size: Size | None = None
    pose: Pose | None = None


@dataclass(frozen=True)
class Spot:
    """Middle and longer edge of a thing; `angle` turns it clockwise, in degrees, after `mirrored` has flipped it.

    `group` is the place of its group among those that were asked for; `order` counts from 0, the farthest.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0
    mirrored: bool = False
    group: int = 0
    order: int = 0


@dataclass(frozen=True)
class Region:
    """A part of the picture that one group has: its middle and its edges."""

    x: float
    y: float
    width: float
    height: float


def spots(arrangement: Arrangement, place: Place | None, groups: Sequence[Group], rng: Random) -> list[Spot]:
    """A spot for each thing of the `groups`, group by group.

    "left" puts the first group left of the second, "above" above it, "front" before it; "row" runs from left to right.
    `place` is where a group that is alone lies. Raises ValueError for groups that the arrangement does not take.
    """
    if not groups or len(groups) > MAX_GROUPS or sum(group.count for group in groups) > MAX_THINGS:
        raise ValueError(f"{len(groups)} groups of {[group.count for group in groups]}; see MAX_GROUPS and MAX_THINGS")
    if (arrangement == "one") != (len(groups) == 1) or (arrangement != "row" and len(groups) > 2):
        raise ValueError(f"{arrangement!r} does not arrange {len(groups)} groups")
    result = []
    for number, (group, region) in enumerate(zip(groups, regions(arrangement, place, groups, rng), strict=True)):
        order = int(arrangement == "front" and number == 0)
        neighbours = len(groups) > 1 and arrangement != "front"
        for x, y, side in _filled(region, group, len(groups) == 1 and place is None, neighbours, rng):
            angle, mirrored = _posed(group.pose, rng)
            result.append(Spot(x, y, side, angle, mirrored, number, order))
    return result


def regions(arrangement: Arrangement, place: Place | None, groups: Sequence[Group], rng: Random) -> list[Region]:
    """The part of the picture that each group has."""
    u = rng.uniform
    match arrangement:
        case "one":
            return [_placed(place, groups[0], rng)]
        case "left" | "above":
            share = _share(groups)
            across, slope = u(0.45, 0.55), u(-0.05, 0.05)
            along = (share / 2, share), ((1 + share) / 2, 1 - share)
            bands = [(middle, across + tilt, size) for (middle, size), tilt in zip(along, (slope, -slope), strict=True)]
            if arrangement == "left":
                return [Region(middle, other, size, 0.9) for middle, other, size in bands]
            return [Region(other, middle, 0.9, size) for middle, other, size in bands]
        case "front":
            x, y, side = u(0.13, 0.18) * rng.choice((-1, 1)), u(0.08, 0.13), u(0.54, 0.62)
            return [Region(0.5 + x, 0.5 + y, side, side), Region(0.5 - x, 0.5 - y, side, side)]
        case "row":
            if len(groups) == 4 and rng.random() < 0.5:
                return [Region(x, y, 0.5, 0.5) for y in (0.26, 0.74) for x in (0.26, 0.74)]
            y, width = u(0.42, 0.58), 1 / len(groups)
            return [Region((k + 0.5) * width, y + u(-0.02, 0.02), width, 0.9) for k in range(len(groups))]


def filling(found: Sequence[Spot], region: Region) -> list[Spot]:
    """The same spots moved and scaled so that together they fill a part of the picture, whose longer edge is theirs."""
    left, right = min(one.x - one.side / 2 for one in found), max(one.x + one.side / 2 for one in found)
    top, bottom = min(one.y - one.side / 2 for one in found), max(one.y + one.side / 2 for one in found)
    width, height = right - left, bottom - top
    scale = max(region.width, region.height) / max(width, height)
    return [
        replace(
            one,
            x=region.x + (one.x - (left + right) / 2) * region.width / width,
            y=region.y + (one.y - (top + bottom) / 2) * region.height / height,
            side=one.side * scale,
        )
        for one in found
    ]


def _placed(place: Place | None, group: Group, rng: Random) -> Region:
    if place is None:
        return Region(0.5, 0.5, 1.0, 1.0)
    near, across, side = rng.uniform(0.24, 0.28), rng.uniform(0.42, 0.58), rng.uniform(0.44, 0.52)
    x, y = {
        "left": (near, across),
        "right": (1 - near, across),
        "top": (across, near),
        "bottom": (across, 1 - near),
    }[place]
    return Region(x, y, side, side)


def _share(groups: Sequence[Group]) -> float:
    """How much of the picture the first of two groups has: more where it is big, or has more things."""
    weight = [{"small": 0.6, "big": 1.6, None: 1.0}[group.size] * math.sqrt(min(group.count, 3)) for group in groups]
    return min(max(weight[0] / sum(weight), 0.36), 0.64)


def _filled(
    region: Region, group: Group, alone: bool, neighbours: bool, rng: Random
) -> list[tuple[float, float, float]]:
    """Middle and longer edge of each thing of a group in its region, which has the picture to itself (`alone`) or
    others beside it (`neighbours`)."""
    count = group.count
    if count > 1:  # all of it lies in the picture
        x, y = (
            min(max(at, edge / 2), 1 - edge / 2) for at, edge in ((region.x, region.width), (region.y, region.height))
        )
        region = replace(region, x=x, y=y)
    rows, columns = _grid(region, count, rng)
    width, height = region.width / columns, region.height / rows
    cell = min(width, height, 0.5 if count > 1 else 1.0)
    low, high = {"small": (0.36, 0.48), "big": (0.93, 0.99), None: ALONE if alone and count == 1 else (0.82, 0.92)}[
        group.size
    ]
    side, room = cell * rng.uniform(low, high), 1.0
    if neighbours or count > 1:
        side = min(side, cell - GAP)
        room = max(0.0, min(width, height) - side - GAP) / 2  # on either side
    found = []
    for k in range(count):
        row, column = divmod(k, columns)
        in_row = min(columns, count - row * columns)  # the last row may be shorter, and is centred
        x = region.x + (column - (in_row - 1) / 2) * width
        y = region.y + (row - (rows - 1) / 2) * height
        slack = min(room, WANDER if group.size != "small" else 4 * WANDER * min(1.0, cell))
        x, y = x + rng.uniform(-slack, slack), y + rng.uniform(-slack, slack)
        found.append((min(max(x, side / 2), 1 - side / 2), min(max(y, side / 2), 1 - side / 2), side))
    return found


def _grid(region: Region, count: int, rng: Random) -> tuple[int, int]:
    """Rows and columns that suit the shape of the region."""
    if count == 1:
        return 1, 1
    if region.width > 1.5 * region.height:
        return (1, count) if count <= 3 else (2, math.ceil(count / 2))
    if region.height > 1.5 * region.width:
        return (count, 1) if count <= 3 else (math.ceil(count / 2), 2)
    if count <= 3:
        return (1, count) if count == 2 or rng.random() < 0.5 else (2, 2)
    return 2, math.ceil(count / 2)


def _posed(pose: Pose | None, rng: Random) -> tuple[float, bool]:
    """The angle, and whether it is mirrored."""
    match pose:
        case "tilted":
            return rng.uniform(*LEAN) * rng.choice((-1, 1)), False
        case "mirrored":
            return 0.0, True
        case "upside_down":
            return 180.0, False
        case None:
            return 0.0, False
