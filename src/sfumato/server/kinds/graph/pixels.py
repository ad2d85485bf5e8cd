"""Between pictures of Pillow, masks and tensors, as nodes need them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.images.files import MAX_PIXELS, check_size
from sfumato.images.tensors import to_pixels
from sfumato.server.kinds.graph.values import Frame, Images, Mask

FILTERS = {
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def check_batch(count: int, width: int, height: int, what: str) -> None:
    """Raises SfumatoError for more pictures of a size than are worked on at once."""
    check_size(width, height, what)
    if count * width * height > MAX_PIXELS:
        many = f"{count} pictures of {width}x{height} are {count * width * height:,} pixels"
        raise SfumatoError(f"{what}: {many}; the limit is {MAX_PIXELS:,}; take fewer or smaller ones")


def pixels_of(images: Images, multiple: int = 1) -> Tensor:
    """Pictures as (B, 3, H, W) in [-1, 1], cut about their middle to a multiple.

    Raises SfumatoError for several sizes, and for one that is too small.
    """
    width, height = same_size(images)
    pixels = torch.cat([to_pixels(frame.image) for frame in images])
    cut = [side // multiple * multiple for side in (height, width)]
    if not all(cut):
        raise SfumatoError(f"the picture is {width}x{height}, too small for this model; give one of {multiple} or more")
    top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
    return pixels[..., top : top + cut[0], left : left + cut[1]]


def same_size(images: Images) -> tuple[int, int]:
    """Width and height of all. Raises SfumatoError for several sizes, and for none."""
    sizes = {frame.image.size for frame in images}
    if len(sizes) != 1:
        listed = ", ".join(f"{width}x{height}" for width, height in sorted(sizes)) or "no picture"
        raise SfumatoError(f"the pictures of a batch are {listed}; bring them to one size by ImageScale")
    return sizes.pop()


def latent_mask(mask: Mask, size: tuple[int, int]) -> Tensor:
    """A mask as (B, 1, H, W) at a size in pixels."""
    width, height = size
    shares = mask.shares[:, None].float()
    return shares if shares.shape[2:] == (height, width) else F.interpolate(shares, (height, width), mode="bilinear")


def scaled(frame: Frame, width: int, height: int, method: str, crop: str = "disabled") -> Frame:
    """A picture at a size; with the crop "center" its middle, of the same shape. A side of 0 follows from the other."""
    ours = frame.image.size
    if width == 0 and height == 0:
        return frame
    width = width or max(1, round(height * ours[0] / ours[1]))
    height = height or max(1, round(width * ours[1] / ours[0]))
    check_size(width, height, "the picture that is scaled")
    box = None
    if crop == "center":
        share = min(ours[0] / width, ours[1] / height)
        inner = share * width, share * height
        left, top = (ours[0] - inner[0]) / 2, (ours[1] - inner[1]) / 2
        box = (left, top, left + inner[0], top + inner[1])
    return frame.but(frame.image.resize((width, height), FILTERS[method], box))


def greys(mask: Mask) -> Sequence[Image.Image]:
    """The pictures (L) of masks."""
    levels = (mask.shares.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(level) for level in levels]


def cycled(index: int, images: Images) -> Frame:
    """The picture of an index, from the first again where there are fewer."""
    return images[index % len(images)]
