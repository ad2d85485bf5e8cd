"""Pictures of one thing that a user gives, cut out, and laid on plain grounds wherever they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.protocol import Rgb
from sfumato.errors import SfumatoError
from sfumato.images.inputs import load_rgba
from sfumato.nets.composer import OUTLINE
from sfumato.nets.cutter import KEY
from sfumato.nets.layout import Spot

ENDINGS = (".png", ".webp", ".jpg", ".jpeg")
NEAR = 24  # by which a pixel may differ from the corner and still be ground
MOST = 64  # pictures
CANONICAL = Spot(0.5, 0.5, OUTLINE)  # where a thing lies in the picture that its code is made of
GREEN: Rgb = (round(255 * KEY[0]), round(255 * KEY[1]), round(255 * KEY[2]))  # the ground there


def load_cutouts(folder: Path) -> dict[str, Image.Image]:
    """Returns the things of all pictures in a folder by their files' names without ending: RGBA, cut to their edges.

    What is transparent is ground; of a picture without transparency, what has the colour of its first corner. Raises
    SfumatoError for a folder without pictures, or with too many, and for a picture that shows nothing.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in ENDINGS) if folder.is_dir() else []
    if not 1 <= len(files) <= MOST:
        raise SfumatoError(f"{folder} holds {len(files)} pictures; give a folder of 1 to {MOST}, of one thing each")
    return {path.stem: cut_out(load_rgba(path), str(path)) for path in files}


def cut_out(image: Image.Image, name: str) -> Image.Image:
    """Returns the thing in a picture as `load_cutouts` does; `name` is the picture's, for the error."""
    if image.mode != "RGBA":
        pixels = np.asarray(image.convert("RGB"), np.int16)
        there = np.abs(pixels - pixels[0, 0]).max(2) > NEAR
        image = image.convert("RGBA")
        image.putalpha(Image.fromarray((255 * there).astype(np.uint8)))
    box = image.getchannel("A").getbbox()
    if box is None:
        raise SfumatoError(f"{name} shows nothing on its ground; give pictures of the thing on a plain or no ground")
    return image.crop(box)


def placed(thing: Image.Image, spot: Spot, ground: Rgb, size: int) -> Tensor:
    """Returns a picture (3, size, size) in [-1, 1] of a cut-out thing at a spot on a plain ground."""
    scale = spot.side * size / max(thing.size)
    sides = [max(1, round(scale * side)) for side in thing.size]
    small = thing.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    if spot.mirrored:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = Image.new("RGB", (size, size), ground)
    place = round(spot.x * size - sides[0] / 2), round(spot.y * size - sides[1] / 2)
    canvas.paste(small, place, small.getchannel("A"))
    return torch.from_numpy(np.asarray(canvas, np.float32)).permute(2, 0, 1) / 127.5 - 1


def spots_of(spots: Sequence[Spot]) -> Tensor:
    """Returns spots as the composer takes them (N, 5), see `nets.composer.Things`."""
    return torch.tensor([[one.x, one.y, one.side, one.angle, float(one.mirrored)] for one in spots])
