"""A loaded model written to files, as it is in memory."""

from __future__ import annotations

from pathlib import Path

import torch

from sfumato.errors import SfumatoError
from sfumato.files import check_writable, hidden_folder
from sfumato.loading.convert import convert
from sfumato.loading.save import save_folder
from sfumato.pipeline.model import Model


def save_model(model: Model, path: Path, dtype: torch.dtype) -> Path:
    """Write a folder of diffusers' layout, or a file in the original layout if `path` ends in .safetensors.

    Returns the path. Raises SfumatoError for a path that is there already or has another suffix, and for a file of a
    model with T5, whose tokenizer only a folder has room for.
    """
    if path.exists():
        raise SfumatoError(f"{path} is there already; choose another name")
    if path.suffix not in ("", ".safetensors"):
        raise SfumatoError(f"cannot write a model as {path.name}; give a folder, or a name that ends in .safetensors")
    t5 = None if model.encode.t5 is None else model.encode.t5.tokenizer
    if t5 is not None and path.suffix:
        raise SfumatoError(f"{model.name} has T5, whose tokenizer a single file has no room for; give a folder")
    check_writable(path.parent, path.name)
    with hidden_folder(path) as draft:
        folder = draft / "model"
        save_folder(
            folder, model.spec, model.networks, model.encode.tokenizer, dtype,
            t5_tokenizer=None if t5 is None else t5.file,
        )  # fmt: skip
        if path.suffix:
            convert(folder, path, "original")
        else:
            folder.rename(path)
    return path
