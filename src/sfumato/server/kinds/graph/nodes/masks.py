"""Nodes about masks."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from sfumato.server.kinds.graph.pixels import check_batch, greys
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.table import Choice, Number, Sent, Switch, node
from sfumato.server.kinds.graph.values import Frame, Images, Mask

Side = Annotated[int, Number(0, 16384)]
Length = Annotated[int, Number(1, 16384)]
Share = Annotated[float, Number(0.0, 1.0, 0.01)]
CHANNELS = ("alpha", "red", "green", "blue")
OPERATIONS = ("multiply", "add", "subtract", "and", "or", "xor")


@node("LoadImageMask", "mask")
def load(run: Run, image: Annotated[str, Sent(mask=True)], channel: Annotated[str, Choice(CHANNELS)] = "alpha") -> Mask:
    """A channel of a picture that was sent; of transparency what is transparent."""
    found = run.bench.inputs.open(image).convert("RGBA")
    level = found.getchannel(channel[0].upper())
    return Mask.of(ImageOps.invert(level) if channel == "alpha" else level)


@node("SolidMask", "mask")
def solid(value: Share = 1.0, width: Length = 512, height: Length = 512) -> Mask:
    """The same share everywhere."""
    check_batch(1, width, height, "the mask")
    return Mask(torch.full((1, height, width), value))


@node("InvertMask", "mask")
def invert(mask: Mask) -> Mask:
    """What the mask leaves out."""
    return Mask(1 - mask.shares)


@node("ImageToMask", "mask")
def of_image(image: Images, channel: Annotated[str, Choice(("red", "green", "blue", "alpha"))] = "red") -> Mask:
    """A channel of pictures as a mask."""
    if channel == "alpha":
        return Mask(torch.ones(len(image), *image[0].image.size[::-1]))
    return Mask(torch.cat([Mask.of(frame.image.getchannel(channel[0].upper())).shares for frame in image]))


@node("MaskToImage", "mask")
def to_image(mask: Mask) -> Images:
    """Masks as grey pictures."""
    return tuple(Frame(grey.convert("RGB")) for grey in greys(mask))


@node("ImageColorToMask", "mask")
def of_colour(image: Images, color: Annotated[int, Number(0, 0xFFFFFF)] = 0) -> Mask:
    """Where pictures have a colour."""
    rgb = bytes((color >> 16 & 255, color >> 8 & 255, color & 255))
    found = []
    for frame in image:
        pixels = torch.frombuffer(bytearray(frame.image.tobytes()), dtype=torch.uint8)
        found.append((pixels.reshape(*frame.image.size[::-1], 3) == torch.tensor(list(rgb))).all(-1).float())
    return Mask(torch.stack(found))


@node("CropMask", "mask")
def crop(mask: Mask, x: Side = 0, y: Side = 0, width: Length = 512, height: Length = 512) -> Mask:
    """A part of masks."""
    top, left = min(y, mask.shares.shape[1] - 1), min(x, mask.shares.shape[2] - 1)
    return Mask(mask.shares[:, top : top + height, left : left + width])


@node("MaskComposite", "mask")
def composite(
    destination: Mask,
    source: Mask,
    x: Side = 0,
    y: Side = 0,
    operation: Annotated[str, Choice(OPERATIONS)] = "multiply",
) -> Mask:
    """Puts a mask into another at a place."""
    result = destination.shares.clone()
    rows, columns = result.shape[1:]
    part = result[:, min(y, rows) :, min(x, columns) :]
    over = source.shares[:, : part.shape[1], : part.shape[2]]
    part = part[:, : over.shape[1], : over.shape[2]]
    place = (slice(None), slice(y, y + part.shape[1]), slice(x, x + part.shape[2]))
    result[place] = _combined(part, over[:1] if len(over) != len(part) else over, operation).clamp(0, 1)
    return Mask(result)


def _combined(ours: Tensor, theirs: Tensor, operation: str) -> Tensor:
    match operation:
        case "multiply":
            return ours * theirs
        case "add":
            return ours + theirs
        case "subtract":
            return ours - theirs
    a, b = ours.round().bool(), theirs.round().bool()
    return {"and": a & b, "or": a | b, "xor": a ^ b}[operation].float()


@node("FeatherMask", "mask")
def feather(mask: Mask, left: Side = 0, top: Side = 0, right: Side = 0, bottom: Side = 0) -> Mask:
    """Masks that fade towards the edges of the picture."""
    shares = mask.shares.clone()
    for axis, begin, end in ((2, left, right), (1, top, bottom)):
        length = shares.shape[axis]
        for k in range(min(begin, length)):
            shares.narrow(axis, k, 1).mul_((k + 1) / min(begin, length))
        for k in range(min(end, length)):
            shares.narrow(axis, length - 1 - k, 1).mul_((k + 1) / min(end, length))
    return Mask(shares)


@node("GrowMask", "mask")
def grow(
    mask: Mask, expand: Annotated[int, Number(-1024, 1024)] = 0, tapered_corners: Annotated[bool, Switch()] = True
) -> Mask:
    """Masks spread by so many pixels, or for less than 0 drawn back."""
    shares = mask.shares[:, None] if expand >= 0 else 1 - mask.shares[:, None]
    for _ in range(min(abs(expand), max(shares.shape[2:]))):
        if tapered_corners:
            shares = F.max_pool2d(shares, (3, 1), 1, (1, 0)).maximum(F.max_pool2d(shares, (1, 3), 1, (0, 1)))
        else:
            shares = F.max_pool2d(shares, 3, 1, 1)
    return Mask((shares if expand >= 0 else 1 - shares)[:, 0])


@node("ThresholdMask", "mask")
def threshold(mask: Mask, value: Share = 0.5) -> Mask:
    """Wholly masked above a share, and not at all below."""
    return Mask((mask.shares > value).float())


@node("JoinImageWithAlpha", "mask/compositing")
def join(image: Images, alpha: Mask) -> Images:
    """Pictures that are transparent where a mask is, on white, since pictures have no transparency between nodes."""
    shares = greys(alpha)
    result = []
    for k, frame in enumerate(image):
        share = shares[k % len(shares)].resize(frame.image.size, Image.Resampling.BILINEAR)
        white = Image.new("RGB", frame.image.size, "white")
        result.append(frame.but(Image.composite(white, frame.image, share)))
    return tuple(result)
