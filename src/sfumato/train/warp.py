"""Pictures that are bent, moved and scaled a little, as drafts lie beside what a ControlNet is to make of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GRID = 4  # places along a side that are moved each by itself
BEND, SHIFT, SCALE = 0.08, 0.05, 0.12  # the most, in shares of the side


def warped(picture: Tensor, seed: int) -> Tensor:
    """Returns a picture (3, H, W), moved smoothly by amounts that the seed decides; its edges go on outside."""
    generator = torch.Generator().manual_seed(seed)
    height, width = picture.shape[1:]
    most = torch.rand((), generator=generator)  # some are hardly moved
    places = torch.randn(1, 2, GRID, GRID, generator=generator)
    bend = F.interpolate(places, (height, width), mode="bicubic", align_corners=True)[0].permute(1, 2, 0)
    shift, scale = torch.randn(2, generator=generator), torch.randn(2, generator=generator)
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)[0]
    grid = grid * (1 + most * SCALE * scale) + most * (2 * SHIFT * shift + BEND * bend)
    moved = F.grid_sample(picture[None], grid[None].to(picture), padding_mode="border", align_corners=False)
    return moved[0].clamp(-1, 1)
