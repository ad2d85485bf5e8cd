"""How a thing stands: upright, tilted, mirrored or upside down, by the artwork that it comes nearest to."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.data.emoji.cutout import Cutout
from sfumato.evaluate.objects import Found, cut_out

SIDE = 48  # pixels at which things are compared
UPRIGHT = "upright"
# The ways to stand: clockwise angle in degrees, and whether it is mirrored first.
STANDS: dict[str, tuple[tuple[float, bool], ...]] = {
    UPRIGHT: ((0, False), (-6, False), (6, False)),
    "tilted": ((-30, False), (-23, False), (-16, False), (16, False), (23, False), (30, False)),
    "mirrored": ((0, True), (-6, True), (6, True)),
    "upside_down": ((180, False),),
}
TELLABLE = 0.1  # how far apart two ways must be, as RMSE where black and white are 1 apart


def pose_of(x: Tensor, found: Found, cutout: Cutout) -> str:
    """How the object of picture (3, H, W) in [-1, 1] stands, whose artwork is known."""
    return nearest(cut_out(x, found, SIDE), cutout)


def nearest(thing: Tensor, cutout: Cutout) -> str:
    """Of a thing that is cut out, (3, SIDE, SIDE)."""
    return min(STANDS, key=lambda pose: min(_apart(thing, _shown(cutout, *stand)) for stand in STANDS[pose]))


def tellable(cutout: Cutout, pose: str) -> bool:
    """Whether the artwork looks different in that pose, so that one can ask for it."""
    shown = _shown(cutout, *STANDS[pose][0])
    return nearest(shown, cutout) == pose and _apart(shown, _shown(cutout, 0, False)) >= TELLABLE


def _apart(a: Tensor, b: Tensor) -> float:
    return (a - b).square().mean().sqrt().item() / 2


def _shown(cutout: Cutout, angle: float, mirrored: bool) -> Tensor:
    rgba = torch.from_numpy(cutout.posed(*cutout.size(2 * SIDE), angle, mirrored).copy()).movedim(-1, 0)
    return cut_out((rgba[:3] + 1 - rgba[3:]) * 2 - 1, Found.of(rgba[3] > 0.5), SIDE)
