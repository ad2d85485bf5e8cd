"""Weights of 4 bits in bitsandbytes' layout, packed here value by value: what is read is what was meant."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sfumato.checkpoint.open import open_file
from sfumato.errors import SfumatoError

NAME, BLOCK, OUTER = "unet.to_q.weight", 64, 256
LEVELS = torch.linspace(-1, 1, 16)  # the file says which 16 numbers there are
SHAPES = ((32, 48), (7, 11), (600, 64))


def packed(shape: tuple[int, int], nested: bool) -> tuple[dict[str, Tensor], Tensor]:
    """The tensors of a file, and the values that they stand for."""
    generator = torch.Generator().manual_seed(0)
    digits = torch.randint(16, (shape[0] * shape[1],), generator=generator).tolist()
    blocks = -(-len(digits) // BLOCK)
    state: dict[str, object] = {"quant_type": "nf4", "blocksize": BLOCK, "dtype": "float16", "shape": list(shape)}
    tensors = {f"{NAME}.quant_map": LEVELS}
    if nested:
        numbers, outer = torch.linspace(-1, 1, 256), torch.rand(-(-blocks // OUTER), generator=generator)
        kept = torch.randint(256, (blocks,), generator=generator, dtype=torch.uint8)
        scales = [float(numbers[k] * outer[i // OUTER]) + 0.25 for i, k in enumerate(kept.tolist())]
        state |= {"nested_blocksize": OUTER, "nested_dtype": "float32", "nested_offset": 0.25}
        tensors |= {f"{NAME}.nested_absmax": outer, f"{NAME}.nested_quant_map": numbers, f"{NAME}.absmax": kept}
    else:
        tensors[f"{NAME}.absmax"] = torch.rand(blocks, generator=generator)
        scales = tensors[f"{NAME}.absmax"].tolist()
    even = [*digits, 0] if len(digits) % 2 else digits
    pairs = [16 * first + second for first, second in zip(even[::2], even[1::2], strict=True)]
    tensors[NAME] = torch.tensor(pairs, dtype=torch.uint8)[:, None]
    tensors[f"{NAME}.quant_state.bitsandbytes__nf4"] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    values = [float(LEVELS[digit]) * scales[i // BLOCK] for i, digit in enumerate(digits)]
    return tensors, torch.tensor(values).reshape(shape)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_weight_of_4_bits_is_read_as_its_values(tmp_path: Path, shape: tuple[int, int], nested: bool) -> None:
    tensors, values = packed(shape, nested)
    save_file(tensors | {"unet.to_q.bias": torch.ones(3)}, tmp_path / "a.safetensors")
    with open_file(tmp_path / "a.safetensors") as checkpoint:
        assert checkpoint.shapes == {NAME: shape, "unet.to_q.bias": (3,)}
        assert torch.allclose(checkpoint.read(NAME), values, atol=1e-6)
        assert checkpoint.tensors[NAME].kind == "nf4 of 4 bits"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{NAME}.absmax": None}, r"lacks .*absmax.*; download it again"),
        ({f"{NAME}.absmax": torch.ones(2)}, r"of another size than it says; download it again"),
        ({NAME: torch.zeros(5, 1, dtype=torch.uint8)}, r"of another size than it says; download it again"),
        (
            {f"{NAME}.quant_state.bitsandbytes__nf4": torch.zeros(9, dtype=torch.uint8)},
            r"describes its quantisation wrongly in .*; download it again",
        ),
    ],
)
def test_what_is_not_whole_is_refused(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    tensors: dict[str, Tensor | None] = {**packed(SHAPES[0], False)[0], **change}
    save_file({name: one for name, one in tensors.items() if one is not None}, tmp_path / "a.safetensors")
    with pytest.raises(SfumatoError, match=message):
        open_file(tmp_path / "a.safetensors")
