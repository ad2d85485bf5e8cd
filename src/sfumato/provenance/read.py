"""Which dialect a picture's file speaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.images.files import read_infotext, read_texts
from sfumato.provenance.readers import a1111, comfyui, invokeai
from sfumato.provenance.recipe import Recipe


def read(path: str | Path) -> Recipe:
    """The recipe in a picture, or in a text or JSON file of settings (infotext, workflow in ComfyUI's API format).

    Raises SfumatoError for a file that cannot be read, and for one that says nothing of how it was drawn.
    """
    path = Path(path)
    if path.suffix.lower() in (".txt", ".json"):
        return _of_text(path)
    texts = read_texts(path)
    for key in ("invokeai_metadata", "sd-metadata"):
        if key in texts:
            return invokeai.read(_json(path, texts[key]))
    if (text := read_infotext(path)) is not None:
        return a1111.read(text)
    if "prompt" in texts:
        return comfyui.read(_json(path, texts["prompt"]))
    raise _silent(path)


def _silent(path: Path) -> SfumatoError:
    return SfumatoError(
        f"{path} says nothing of how it was drawn; programs that pass pictures on often remove it. "
        "Give the file as it was saved, or its settings as a .txt file"
    )


def _of_text(path: Path) -> Recipe:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SfumatoError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    if not text.strip():
        raise _silent(path)
    if path.suffix.lower() == ".txt":
        return a1111.read(text)
    data = _json(path, text)
    if any(isinstance(node, dict) and "class_type" in node for node in data.values()):
        return comfyui.read(data)
    if "nodes" in data:
        raise SfumatoError(f"{path} is a workflow for ComfyUI's editor; save it in the API format, or give a picture")
    return invokeai.read(data)


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SfumatoError(f"the settings in {path} are damaged: {error}") from None
    if not isinstance(data, dict):
        raise SfumatoError(f"the settings in {path} are no JSON object; expected those of ComfyUI or InvokeAI")
    return data
