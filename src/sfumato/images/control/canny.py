"""Edges after Canny (1986), bit by bit as OpenCV's `Canny` finds them with a Sobel filter of 3x3 and the L1 norm."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

LOW, HIGH = 100, 200  # thresholds that the authors of ControlNet use
# tan(22.5 degrees) in fixed point, by which OpenCV tells a gradient's direction.
SHIFT = 15
TANGENT = round(math.tan(math.pi / 8) * (1 << SHIFT))


def canny(image: Image.Image, low: float = LOW, high: float = HIGH) -> Image.Image:
    """White edges on black: where the gradient is a ridge above `high`, and where one above `low` leads on from there.

    Gradients are sums of absolute differences, of the channel in which that is largest.
    """
    low, high = sorted((math.floor(low), math.floor(high)))
    dx, dy = _sobel(np.asarray(image.convert("RGB")).astype(np.int64))
    size = np.abs(dx) + np.abs(dy)
    channel = size.argmax(2)[:, :, None]
    dx, dy, size = (np.take_along_axis(one, channel, 2)[:, :, 0] for one in (dx, dy, size))
    ridge = _ridges(dx, dy, size) & (size > low)
    edges = _grown(ridge & (size > high), ridge)
    return Image.fromarray((edges * 255).astype(np.uint8)).convert("RGB")


def _sobel(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences to the right and downwards (H, W, C); beyond the edges lie the outermost pixels."""
    around = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    across = around[:, 2:] - around[:, :-2]
    down = around[2:] - around[:-2]
    return across[:-2] + 2 * across[1:-1] + across[2:], down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]


def _ridges(dx: np.ndarray, dy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where the gradient is largest along its own direction, of which there are four; beyond the edges it is 0."""
    around = np.pad(size, 1)
    height, width = size.shape

    def beside(down: int, right: int) -> np.ndarray:
        return around[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    x, y = np.abs(dx), np.abs(dy) << SHIFT
    flat = x * TANGENT
    steep = flat + (x << (SHIFT + 1))
    across = (size > beside(0, -1)) & (size >= beside(0, 1))
    along = (size > beside(-1, 0)) & (size >= beside(1, 0))
    falling = (size > beside(-1, -1)) & (size > beside(1, 1))
    rising = (size > beside(-1, 1)) & (size > beside(1, -1))
    diagonal = np.where((dx < 0) != (dy < 0), rising, falling)
    return np.where(y < flat, across, np.where(y > steep, along, diagonal))


def _grown(seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The seeds, and all of `where` that hangs together with them, over corners too."""
    width = where.shape[1] + 2
    free = np.pad(where & ~seeds, 1).ravel()
    found = np.pad(seeds, 1).ravel()
    front = np.flatnonzero(found)
    steps = np.array([down * width + right for down in (-1, 0, 1) for right in (-1, 0, 1) if down or right])
    while len(front):
        near = np.unique(front[:, None] + steps)
        front = near[free[near]]
        free[front] = False
        found[front] = True
    return found.reshape(-1, width)[1:-1, 1:-1]
