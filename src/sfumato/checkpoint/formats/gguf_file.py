"""The GGUF format of llama.cpp, as ComfyUI-GGUF and stable-diffusion.cpp write diffusion models in it.

A header of typed metadata and of tensors (name, dimensions with the fastest first, type, place), then the tensors. It
is read here, with bounds for files of strangers; the package `gguf` is needed for what is quantised, and only for that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import (
    MAX_TENSORS,
    Packed,
    Stored,
    WeightFile,
    check_names,
    check_shape,
    quote,
)

MAGIC = b"GGUF"
MAX_HEADER = 64 << 20  # a language model's vocabulary takes 10 MB
MAX_ITEMS = 1 << 20  # values in all of the metadata; those of long lists of numbers are passed over
MAX_KEPT = 64  # numbers of a list that are kept
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # of tensors that were reshaped to rows of whole blocks

PLAIN = {
    0: torch.float32,
    1: torch.float16,
    24: torch.int8,
    25: torch.int16,
    26: torch.int32,
    27: torch.int64,
    28: torch.float64,
    30: torch.bfloat16,
}
# type: (name, values in a block, bytes of a block)
QUANTISED = {
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
}
# Of metadata: struct's letter of each type of number.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class _Header:
    """A place in the header that moves on as it is read; whatever goes beyond its bounds raises SfumatoError."""

    def __init__(self, file: WeightFile, place: int = 0):
        self.file, self.place, self.values = file, place, 0

    def skip(self, size: int) -> int:
        """Move on; the place before."""
        if self.place + size > min(self.file.size, MAX_HEADER):
            raise self.file.error("is cut short within its header, or is no model; download it again")
        self.place += size
        return self.place - size

    def take(self, size: int) -> bytes:
        return self.file.read(self.skip(size), size)

    def number(self, letter: str) -> int | float:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]

    def count(self, letter: str, limit: int, what: str) -> int:
        value = int(self.number(letter))
        if value > limit:
            raise self.file.error(f"states {value} {what}, at most {limit} are read; it is broken or no model")
        return value

    def text(self) -> str:
        try:
            return self.take(self.count("Q", MAX_HEADER, "letters")).decode()
        except UnicodeDecodeError as error:
            raise self.file.error(
                "has a header with text that is not UTF-8; it is broken, download it again"
            ) from error

    def value(self) -> str | int | float | list[str | int | float]:
        kind = self.number("I")
        if kind != ARRAY:
            return self._scalar(int(kind))
        kind = int(self.number("I"))
        count = self.count("Q", MAX_ITEMS, "values in a list")
        if kind in NUMBERS and count > MAX_KEPT:
            self.skip(count * struct.calcsize(f"<{NUMBERS[kind]}"))
            return []
        return [self._scalar(kind) for _ in range(count)]

    def _scalar(self, kind: int) -> str | int | float:
        self.values += 1
        if self.values > MAX_ITEMS:
            raise self.file.error(f"has more than {MAX_ITEMS} values in its metadata; it is broken or no model")
        if kind == STRING:
            return self.text()
        if kind not in NUMBERS:
            raise self.file.error(f"has metadata of the unknown type {kind}; it is broken, download it again")
        return self.number(NUMBERS[kind])


def parse(file: WeightFile) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and textual metadata of a GGUF file; nothing but the header is read.

    Raises SfumatoError when the header is not valid, too big, or points beyond the file.
    """
    header = _Header(file, len(MAGIC))
    version = header.number("I")
    if version not in (2, 3):
        raise file.error(f"is a GGUF file of version {version}; versions 2 and 3 are read")
    tensors = header.count("Q", MAX_TENSORS, "tensors")
    values = {header.text(): header.value() for _ in range(header.count("Q", MAX_ITEMS, "entries of metadata"))}
    entries = [_entry(header) for _ in range(tensors)]
    check_names(file, [name for name, *_ in entries])
    if len({name for name, *_ in entries}) != len(entries):
        raise file.error("names a tensor twice in its header; it is broken, do not use it")
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16:
        raise file.error(f"states an alignment of {alignment!r}; it is broken, download it again")
    base = -(-header.place // alignment) * alignment
    result = {}
    for name, shape, kind, offset in entries:
        original = values.get(ORIGINAL_SHAPE + name, list(shape))
        if not isinstance(original, list) or not all(isinstance(n, int) and n > 0 for n in original):
            raise file.error(f"gives the tensor {quote(name)} a wrong original shape; it is broken, download it again")
        result[name] = _stored(file, name, shape, tuple(int(n) for n in original), kind, base + offset)
    end = base
    for stored in sorted(result.values(), key=lambda stored: stored.start):
        if not end <= stored.start <= end + alignment:
            raise file.error("has tensors that overlap or leave gaps; it is broken, do not use it")
        end = stored.start + stored.span
    if result and file.size > end + alignment:
        raise file.error(f"goes on for {file.size - end} bytes after its tensors; it is broken, do not use it")
    return result, {key: value for key, value in values.items() if isinstance(value, str) and len(value) <= 4096}


def _entry(header: _Header) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape with the slowest dimension first, type and offset of a tensor."""
    name = header.text()
    rank = header.count("I", 8, "dimensions")
    dimensions = [header.count("Q", 1 << 48, "values along a dimension") for _ in range(rank)]
    return name, tuple(reversed(dimensions)), int(header.number("I")), int(header.number("Q"))


def _stored(
    file: WeightFile, name: str, shape: tuple[int, ...], original: tuple[int, ...], kind: int, start: int
) -> Stored:
    check_shape(file, name, original)
    label, block, size = QUANTISED.get(kind, ("", 1, 0))
    if kind not in PLAIN and not label:
        raise file.error(f"holds the tensor {quote(name)} of the unknown type {kind}; convert it first")
    if prod(original) != prod(shape) or (shape and shape[-1] % block):
        raise file.error(f"gives the tensor {quote(name)} a shape that its type cannot have; it is broken")
    if not label:
        stored = Stored(file, start, original, PLAIN[kind])
    else:
        packed = prod(shape) // block * size
        rows = prod(shape[:-1])
        stored = Packed(
            file, start, original, torch.float32, packed=packed, format=label,
            unpack=_unpacker(file, kind, rows),
        )  # fmt: skip
    if start + stored.span > file.size:
        raise file.error(f"is cut short: the tensor {quote(name)} lies beyond its end; download it again")
    return stored


def _unpacker(file: WeightFile, kind: int, rows: int) -> Callable[[Tensor], Tensor]:
    def unpack(raw: Tensor) -> Tensor:
        try:
            from gguf import GGMLQuantizationType
            from gguf.quants import dequantize
        except ImportError as error:
            what = f"is quantised ({QUANTISED[kind][0]}), which takes a further package"
            raise file.error(f"{what}: pip install 'sfumato[gguf]'") from error
        return torch.from_numpy(dequantize(raw.view(rows, -1).numpy(), GGMLQuantizationType(kind)))

    return unpack
