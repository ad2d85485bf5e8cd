"""Pictures as tensors, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

STRIP = 256  # rows


def to_pixels(image: Image.Image) -> Tensor:
    """A picture as float32 (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float().div_(127.5).sub_(1)


def to_images(pixels: Tensor) -> list[Image.Image]:
    """Pictures (B, 3, H, W) in [-1, 1] as 8-bit RGB; what lies outside is clipped."""
    strips = pixels.split(STRIP, 2)  # of large pictures, so that none is there twice as float32
    levels = torch.cat([one.float().clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8) for one in strips], 2)
    return [Image.fromarray(level.permute(1, 2, 0).cpu().numpy()) for level in levels]


def compose(rgba: Tensor | np.ndarray, rgb: Tensor | np.ndarray | Sequence[int]) -> Tensor:
    """Lay uint8 RGBA (..., H, W, 4) over plain 8-bit RGB (..., 3): float32 (..., 3, H, W) in [-1, 1].

    The leading dimensions broadcast; everything runs on the device of `rgba`.
    """
    picture = torch.as_tensor(rgba).to(torch.float32)
    colour = torch.as_tensor(rgb, device=picture.device).to(torch.float32)[..., None, None, :]
    alpha = picture[..., 3:] / 255
    mixed = colour + (picture[..., :3] - colour) * alpha
    return (mixed / 127.5 - 1).movedim(-1, -3).contiguous()
