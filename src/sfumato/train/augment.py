"""Changes of pictures that leave what they show as it is, for networks that are to recognise it whatever happens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

JPEG_BLOCK = 8
JPEG_SLOPE = 1.5  # how much coarser each next frequency is quantised


@dataclass(frozen=True)
class Augment:
    """How far pictures are changed. `scale` is the least and the largest size, `shift` how far they move (shares of the
    side), `turn` degrees. The others are shares of the pictures that are changed so."""

    scale: tuple[float, float] = (0.7, 1.1)
    shift: float = 0.08
    turn: float = 12.0
    mirror: float = 0.5
    hue: float = 0.2
    grey: float = 0.03
    light: float = 0.4
    blur: float = 0.25
    noise: float = 0.15
    jpeg: float = 0.06
    erase: float = 0.1


def placed(rgba: Tensor, cfg: Augment, size: int, movable: Tensor, whole: Tensor) -> Tensor:
    """Premultiplied RGBA (B, 4, S, S) scaled, moved, turned and mirrored: (B, 4, size, size).

    What is not `movable` (B,) is neither mirrored nor turned; what is `whole` (B,) fills the frame.
    """
    n, device = len(rgba), rgba.device
    low, high = cfg.scale
    scale = torch.where(whole, 1 + 0.08 * _rand(n, device), low + (high - low) * _rand(n, device))
    reach = torch.where(whole, 1 - 1 / scale, torch.full_like(scale, 2 * cfg.shift))  # of half the side
    x, y = (reach * (2 * _rand(n, device) - 1) for _ in range(2))
    angle = math.radians(cfg.turn) * (2 * _rand(n, device) - 1) * movable
    flip = 1 - 2.0 * ((_rand(n, device) < cfg.mirror) & movable)
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([torch.stack([cos * flip, -sin * flip, x], 1), torch.stack([sin, cos, y], 1)], 1)
    if rgba.shape[-1] >= 2 * size:  # means of what a pixel covers; the grid alone would take single points
        rgba = F.interpolate(rgba, (size, size), mode="bilinear", antialias=True)
    grid = F.affine_grid(theta, [n, 4, size, size], align_corners=False)
    return F.grid_sample(rgba, grid, align_corners=False)


def recoloured(rgba: Tensor, cfg: Augment, tintable: Tensor) -> Tensor:
    """Premultiplied RGBA (B, 4, H, W) with the hue turned, or without colour: by a turn in the plane of chroma."""
    n, device = len(rgba), rgba.device
    turned = (_rand(n, device) < cfg.hue) & tintable
    far = torch.where(_rand(n, device) < 0.5, math.pi, 0.35)
    angle = far * (2 * _rand(n, device) - 1) * turned
    chroma = torch.where(turned, 0.6 + 0.8 * _rand(n, device), 1.0)
    chroma = torch.where((_rand(n, device) < cfg.grey) & tintable, 0.0, chroma)
    to_yiq = rgba.new_tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    cos, sin, zero = angle.cos() * chroma, angle.sin() * chroma, torch.zeros_like(angle)
    turn = torch.stack([zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(n, 3, 3)
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    rgb = torch.einsum("bij,bjhw->bihw", matrix, rgba[:, :3])
    return torch.cat([torch.minimum(rgb.clamp(min=0), rgba[:, 3:]), rgba[:, 3:]], 1)


def worn(x: Tensor, cfg: Augment) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] as drawing and storing may leave them, changed in place: lighter, softer, noisy,
    in blocks, with a box over a part."""
    n, device = len(x), x.device

    def some(share: float) -> Tensor:
        return (_rand(n, device) < share).nonzero()[:, 0]

    def amount(most: float, rows: Tensor) -> Tensor:
        return most * _rand(len(rows), device)[:, None, None, None]

    rows = some(cfg.light)
    x[rows] = x[rows] * (0.75 + amount(0.5, rows)) + amount(0.4, rows) - 0.2
    rows = some(cfg.blur)
    soft = _softened(x[rows])
    x[rows] = torch.where(amount(1, rows) < 0.5, soft, _softened(soft))
    rows = some(cfg.noise)
    clouds = F.interpolate(torch.randn(len(rows), 3, 8, 8, device=device), x.shape[2:], mode="bilinear")
    x[rows] += torch.randn_like(x[rows]) * amount(0.12, rows) + clouds * amount(0.1, rows)
    rows = some(cfg.jpeg)
    x[rows] = jpeg(x[rows].clamp(-1, 1), 0.02 + 0.1 * _rand(len(rows), device))
    rows = some(cfg.erase)
    x[rows] = torch.where(_boxes(x[rows]), torch.randn(len(rows), 3, 1, 1, device=device), x[rows])
    return x.clamp_(-1, 1)


def _softened(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def jpeg(x: Tensor, coarse: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), sides a multiple of 8, whose cosine transform is rounded in blocks as JPEG does it.

    `coarse` (B,) is the step that the lowest frequencies are rounded to.
    """
    transform, steps = _cosines(x.device)
    size = x.shape[2:]
    blocks = x.unflatten(3, (-1, JPEG_BLOCK)).unflatten(2, (-1, JPEG_BLOCK)).transpose(3, 4)  # (B, 3, h, w, 8, 8)
    steps = steps * coarse[:, None, None, None, None, None]
    waves = ((transform @ blocks @ transform.T) / steps).round() * steps
    return (transform.T @ waves @ transform).transpose(3, 4).reshape(*x.shape[:2], *size)


@cache
def _cosines(device: torch.device) -> tuple[Tensor, Tensor]:
    k = torch.arange(JPEG_BLOCK, device=device, dtype=torch.float32)
    rows = torch.cos(math.pi / JPEG_BLOCK * (k + 0.5) * k[:, None]) * (2 / JPEG_BLOCK) ** 0.5
    rows[0] /= 2**0.5
    return rows, 1 + JPEG_SLOPE * (k + k[:, None])


def _boxes(x: Tensor) -> Tensor:
    """Boxes of up to a third of the sides, bool (B, 1, H, W)."""
    n, height, width = len(x), x.shape[2], x.shape[3]
    inside = []
    for axis in (height, width):
        side, start = (0.12 + 0.22 * _rand(n, x.device)) * axis, _rand(n, x.device) * axis
        place = torch.arange(axis, device=x.device)
        inside.append((place >= start[:, None]) & (place < (start + side)[:, None]))
    return (inside[0][:, :, None] & inside[1][:, None])[:, None]


def _rand(n: int, device: torch.device) -> Tensor:
    return torch.rand(n, device=device)
