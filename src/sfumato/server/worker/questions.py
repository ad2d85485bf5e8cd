"""Questions that a worker answers between two steps of its jobs: they need a loaded model, but draw nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.api import StableDiffusion
from sfumato.images.files import on_white
from sfumato.images.inputs import load_rgba
from sfumato.images.tensors import to_pixels
from sfumato.settings.settings import Settings
from sfumato.tasks import tokens as task

Said = Mapping[str, Any]


def tokens(model: StableDiffusion, said: Said) -> dict[str, Any]:
    """Returns how the model reads `prompt` with `options`, as `sfumato tokens --json` prints it."""
    return task.tokens(model, Settings.of(model.spec, said["prompt"], **said["options"])).record()


@torch.no_grad()
def likeness(model: StableDiffusion, said: Said) -> dict[str, Any]:
    """Unit vectors of pictures, given as `files`, and of a `text`, in the space of the CLIP that ships: base64 of
    float32. A file that is gone has none.
    """
    vectors: list[str | None] = []
    for file in said.get("files", ()):
        try:
            image = on_white(load_rgba(file))
        except Exception:  # a file that is gone or broken is like nothing
            vectors.append(None)
            continue
        vectors.append(_packed(model.perceptor.encode_image(to_pixels(image))[0]))
    text = said.get("text")
    return {"vectors": vectors, "text": _packed(model.perceptor.encode_text([text])[0]) if text else None}


def _packed(vector: Tensor) -> str:
    return base64.b64encode(vector.float().cpu().numpy().tobytes()).decode()


QUESTIONS: dict[str, Callable[[StableDiffusion, Said], dict[str, Any]]] = {"tokens": tokens, "likeness": likeness}
