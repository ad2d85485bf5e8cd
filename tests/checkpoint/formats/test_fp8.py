"""Weights of 8 bits are read with their scales; other formats are refused by name."""

import json

import pytest
import torch
from torch import Tensor

from sfumato.checkpoint.formats.fp8 import EIGHTS, compact
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.loading.load import load_parts

MATRIX = "model.diffusion_model.time_embed.0"


def scaled(tensors: dict[str, Tensor], dtype: torch.dtype, suffix: str, by_row: bool) -> dict[str, Tensor]:
    """Every matrix in 8 bits with a scale, all else as it is, as ComfyUI writes them."""
    result: dict[str, Tensor] = {"model.diffusion_model.scaled_fp8": torch.zeros(2, dtype=dtype)}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and name.endswith(".weight") and name.startswith("model."):
            layer = name.removesuffix(".weight")
            largest = tensor.abs().amax(1, keepdim=True) if by_row else tensor.abs().max()
            scale = largest / torch.finfo(dtype).max
            result |= {f"{layer}.weight": (tensor / scale).to(dtype), f"{layer}.{suffix}": scale}
            result[f"{layer}.{'scale_input' if suffix == 'scale_weight' else 'input_scale'}"] = torch.ones(())
        else:
            result[name] = tensor
    return result


@pytest.mark.parametrize("dtype", EIGHTS, ids=str)
@pytest.mark.parametrize("suffix", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("by_row", [False, True], ids=["one scale", "by row"])
def test_scales_are_applied(dtype, suffix, by_row, tiny, write):
    tensors = scaled(tiny.original(), dtype, suffix, by_row)
    path = write(tensors)
    found = load_parts(path)
    assert found.spec == tiny.spec
    stored = tensors[f"{MATRIX}.weight"].float() * tensors[f"{MATRIX}.{suffix}"]
    assert torch.equal(found.unet.time_embedding.linear_1.weight, stored)
    original = tiny.networks["unet"].time_embedding.linear_1.weight
    assert (stored - original).abs().max() < 0.1 * original.abs().max()
    kind = f"{str(dtype).removeprefix('torch.')} with a scale"
    assert inspect_checkpoint(path).dtypes[kind] == sum(name.endswith(f".{suffix}") for name in tensors)


def described(kind: object) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(kind).encode()), dtype=torch.uint8)


def test_formats_that_are_described(tiny, write):
    tensors = scaled(tiny.original(), torch.float8_e4m3fn, "weight_scale", False)
    mark = f"{MATRIX}.comfy_quant"
    assert load_parts(write(tensors | {mark: described({"format": "float8_e4m3fn"})})).spec == tiny.spec
    for text, kind in (("is quantised as 'nvfp4', which is not read", {"format": "nvfp4"}), ("wrongly", ["nvfp4"])):
        refused(write(tensors | {mark: described(kind)}), text)


def refused(path, text):
    with pytest.raises(SfumatoError, match=text) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "tensor", "text"),
    [
        (
            f"{MATRIX}.scale_weight",
            torch.ones(()),
            "the scale of a float32 tensor, which is not read; give it as float16",
        ),
        (f"{MATRIX}.SCB", torch.zeros(4), "is quantised by bitsandbytes"),
        (f"{MATRIX}.qweight", torch.zeros(4), "is quantised by AWQ or GPTQ"),
    ],
)
def test_what_is_not_read_is_named(name, tensor, text, tiny, write):
    refused(write(tiny.original() | {name: tensor}), text)


def test_a_scale_of_another_shape_is_named(tiny, write):
    tensors = scaled(tiny.original(), torch.float8_e5m2, "scale_weight", False)
    refused(write(tensors | {f"{MATRIX}.scale_weight": torch.ones(1, 7)}), "one scale, or one a row, is expected")


def test_compact_weights_keep_what_they_say() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(64, 64) / 10
    small = compact(matrix)
    assert small.dtype == torch.float8_e4m3fn
    assert (small.float() - matrix).norm() < 0.03 * matrix.norm()
    for weight in (
        matrix[:8],
        matrix.flatten(),
        matrix * 1e-4,
        matrix * 1e4,
    ):  # too few, a vector, too small, too large
        assert compact(weight).dtype == torch.float16
    assert compact(matrix[:8]).float().sub(matrix[:8]).abs().max() < 1e-3
