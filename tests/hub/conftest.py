"""A home of the test's own, and models to put into it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from sfumato.families import sd1
from sfumato.weights import safetensors_file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """sfumato's one folder, and an empty Hugging Face cache beside it."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


@pytest.fixture
def put() -> Callable[[Path], Path]:
    """Write a file with the names of a 1.x model's first tensors: enough to be known by."""

    def put(path: Path) -> Path:
        tensors = {
            "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4, 3, 3),
            "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(4, 768),
            f"{sd1.TEXT}text_model.final_layer_norm.weight": torch.zeros(768),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        safetensors_file.write(path, {k: (tuple(v.shape), v.dtype) for k, v in tensors.items()}, tensors.__getitem__)
        return path

    return put
