"""Makes depth maps of pictures, for networks that are conditioned on depth (Stability AI's depth2img)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.families.layouts.depth_net import DepthNetwork
from sfumato.images.tensors import to_images, to_pixels
from sfumato.pipeline.model import Model


def seen_size(width: int, height: int, side: int, multiple: int) -> tuple[int, int]:
    """Width and height at which a picture is looked at: one side near `side`, both multiples of `multiple`.

    Fits the side that has to change less, and keeps the shape but for the rounding (MiDaS' `minimal` resizing).
    """
    scale = min(side / height, side / width, key=lambda scale: abs(1 - scale))
    return _rounded(scale * width, multiple), _rounded(scale * height, multiple)


def _rounded(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def prepared(image: Image.Image, side: int, multiple: int) -> Tensor:
    """Returns the picture for depth networks, (1, 3, H, W) in [-1, 1], resized bicubically without smoothing."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    width, height = seen_size(image.width, image.height, side, multiple)
    return F.interpolate(pixels, (height, width), mode="bicubic", align_corners=False) * 2 - 1


@torch.no_grad()
def depth_of(network: DepthNetwork, image: Image.Image, height: int, width: int) -> Tensor:
    """Inverse depth for latents of these sides (1, 1, h, w), from -1 at the farthest to 1 at the nearest place.

    A picture without any depth gives 0 everywhere.
    """
    weight = next(network.parameters())
    seen = prepared(image, network.side, network.multiple)
    depth = network(seen.to(weight.device, weight.dtype)).float()[:, None]
    return normalised(F.interpolate(depth, (height, width), mode="bicubic", align_corners=False))


def normalised(depth: Tensor) -> Tensor:
    """Each map (B, 1, h, w) stretched to [-1, 1]; a flat one becomes 0."""
    low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, 2 * (depth - low) / (high - low).clamp(min=1e-20) - 1, 0.0)


def depth_map(model: Model, image: Image.Image | None, depth: Image.Image | None, shape: tuple[int, int]) -> Tensor:
    """Returns the depth map (1, 1, h, w) in [-1, 1] that the model is given: a picture of depth, or its network's."""
    if depth is not None:
        grey = to_pixels(depth).mean(1, keepdim=True)
        return normalised(F.interpolate(grey, shape, mode="area"))
    if model.depth is None or image is None:
        raise SfumatoError(f"{model.name} brings no depth network; give a picture of depth")
    return depth_of(model.depth, image, *shape)


def shown(depth: Tensor, width: int, height: int) -> Image.Image:
    """Returns a depth map (1, 1, h, w) in [-1, 1] as a picture in which near is bright."""
    large = F.interpolate(depth, (height, width), mode="bilinear", align_corners=False)
    return to_images(torch.cat([large] * 3, 1))[0]
