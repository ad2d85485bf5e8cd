"""Soft and drawn lines: how fast a picture changes, and where it is darker or brighter than its surroundings."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

BLUR = 1.0  # pixels, before differences are taken
STRONG = 0.995  # the share of places whose gradient is not white
WIDE = 6.0  # pixels around a line, of which it stands out
FAINTEST = 8.0  # grey levels that still count as a line
HALF = 127.0  # what the middle of all lines is drawn as
PEN = 5  # pixels of a scribble's width
LINE = 0.35  # of white, from which a soft edge is a scribble


def gradient(image: Image.Image) -> Image.Image:
    """Soft edges: the size of the gradient of a slightly blurred picture, in the channel where it is largest."""
    return _grey(255 * _gradient(image))


def _gradient(image: Image.Image) -> np.ndarray:
    """The gradient (H, W), 1 at its largest but for a few places."""
    smooth = np.asarray(image.filter(ImageFilter.GaussianBlur(BLUR)), dtype=np.float32)
    down, across = np.gradient(smooth, axis=(0, 1))
    size = np.sqrt(down**2 + across**2).max(2)
    return (size / max(float(np.quantile(size, STRONG)), 1.0)).clip(0, 1)


def scribble(image: Image.Image) -> Image.Image:
    """Thick white lines on black along the strongest edges, as somebody would sketch them."""
    lines = Image.fromarray((_gradient(image) > LINE).astype(np.uint8) * 255)
    return lines.filter(ImageFilter.MaxFilter(PEN)).filter(ImageFilter.MedianFilter(PEN)).convert("RGB")


def line_art(image: Image.Image) -> Image.Image:
    """White lines on black wherever the picture is darker than its surroundings, as ink is."""
    pixels = np.asarray(image, dtype=np.float32)
    around = np.asarray(image.filter(ImageFilter.GaussianBlur(WIDE)), dtype=np.float32)
    depth = (around - pixels).min(2).clip(0, 255)
    lines = depth[depth > FAINTEST]
    usual = max(16.0, float(np.median(lines))) if len(lines) else 16.0
    return _grey(depth / usual * HALF)


def _grey(levels: np.ndarray) -> Image.Image:
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8)).convert("RGB")


def normals(depth: np.ndarray, strength: float = 6.0) -> Image.Image:
    """Normals of a surface of inverse depth (H, W), 0 far and 1 near: red to the right, green down, blue to the viewer.

    `strength` is how much a slope turns them; as in the hints that ControlNets for normals were trained on.
    """
    down, across = np.gradient(depth.astype(np.float32), axis=(0, 1))
    scale = strength * max(depth.shape)
    vectors = np.stack([across * scale, down * scale, np.full_like(across, 2 * np.pi)], 2)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    return Image.fromarray(((vectors + 1) * 127.5).clip(0, 255).round().astype(np.uint8))
