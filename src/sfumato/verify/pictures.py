"""Pictures of the model that ships: drawn again and compared, made small, with those of the reference."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sfumato.api import StableDiffusion, load
from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED
from sfumato.verify.cases import Case, Result, close, failed, files, listed, read_json, strangers

SIDE = 16  # pixels of a reference's side
TOLERANCE = 4 / 255  # other kernels and half precision change a pixel of the small picture by less
NAME = "pictures.json"


def find(folder: Path) -> Iterator[Case]:
    for path in files(folder):
        if path.name == NAME:
            yield from listed(path, "pictures", _pictures)
    yield from strangers(folder, (NAME,))


def _pictures(path: Path) -> Iterator[Case]:
    content = read_json(path)
    model = cache(lambda: load(EMBEDDED))
    for name, entry in content["pictures"].items():

        def check(entry: dict[str, Any] = entry) -> Result:
            if model().hash != content["model"]:
                return failed(f"the model here is {model().hash}, the reference is of {content['model']}")
            return close([(small(draw(model(), entry)), stored(entry["pixels"]))], TOLERANCE)

        yield Case(f"pictures/{name}", check)


def draw(model: StableDiffusion, entry: dict[str, Any]) -> Image.Image:
    """The picture that an entry describes by `prompt` and `options`."""
    return model.txt2img(entry["prompt"], **entry["options"]).images[0]


def small(image: Image.Image) -> Tensor:
    """A picture as SIDE x SIDE x 3 numbers from 0 to 1, each the mean of the pixels that it stands for."""
    pixels = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.tensor(list(pixels.tobytes()), dtype=torch.float64).reshape(SIDE, SIDE, 3) / 255


def stored(text: str) -> Tensor:
    """What `small` gave, from the text that `text_of` made of it. Raises SfumatoError for any other text."""
    content = base64.b64decode(text)
    if len(content) != SIDE * SIDE * 3:
        raise SfumatoError(f"a reference picture has {len(content)} bytes, expected {SIDE * SIDE * 3}")
    return torch.tensor(list(content), dtype=torch.float64).reshape(SIDE, SIDE, 3) / 255


def text_of(pixels: Tensor) -> str:
    """The text that a file of references holds of a small picture."""
    return base64.b64encode(bytes((pixels * 255).round().to(torch.uint8).flatten().tolist())).decode()
