"""The safetensors format: eight bytes of header length, a JSON header, the raw tensors.

Read here rather than by the library, because a model file from a stranger needs tighter bounds than the format has.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import MAX_TENSORS, Stored, WeightFile, check_names, check_shape, quote
from sfumato.files import atomic_write

MAX_HEADER = 8 << 20

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Writable(Protocol):
    """What bytes can be written to."""

    def write(self, content: Any, /) -> object:
        """Takes bytes, or a buffer of them."""


def looks_like(start: bytes) -> bool:
    """Whether a file that begins with these bytes is meant as safetensors, with a header of less than 4 GB."""
    return start[4:9] == b"\0\0\0\0{"


def parse(file: WeightFile) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and metadata of a safetensors file; nothing but the header is read.

    Raises SfumatoError when the header is too big, not valid, has duplicate or odd names, or does not account for
    exactly the bytes of the file.
    """
    length = struct.unpack("<Q", file.read(0, 8))[0] if file.size >= 8 else file.size
    if length > MAX_HEADER:
        raise file.error(f"has a header of {length} bytes, at most {MAX_HEADER} are read; it is broken or no model")
    if 8 + length > file.size:
        raise file.error("is cut short within its header; download it again")
    header = _header(file, file.read(8, length))

    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise file.error("has metadata that is not text; it is broken, download it again")
    if len(header) > MAX_TENSORS:
        raise file.error(f"holds {len(header)} tensors, at most {MAX_TENSORS} are read; this is no model")
    check_names(file, header)
    tensors = {name: _stored(file, name, entry, 8 + length) for name, entry in header.items()}

    end = 8 + length
    for stored in sorted(tensors.values(), key=lambda stored: (stored.start, stored.nbytes)):
        if stored.start != end:
            raise file.error("has tensors that overlap or leave gaps; it is broken, download it again")
        end += stored.nbytes
    if end != file.size:
        amount = f"{abs(end - file.size)} bytes {'missing' if end > file.size else 'too many'}"
        raise file.error(f"is not whole ({amount}); download it again")
    return tensors, metadata


def _header(file: WeightFile, text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise file.error(f"names {quote(twice)} twice in its header; it is broken, do not use it")
        return result

    try:
        header = json.loads(text.decode(), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise file.error("has a header that is not valid JSON; it is broken, download it again") from error
    if not isinstance(header, dict):
        raise file.error("has a header that is not a JSON object; it is broken, download it again")
    return header


def _stored(file: WeightFile, name: str, entry: Any, base: int) -> Stored:
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise file.error(f"describes the tensor {quote(name)} wrongly; it is broken, download it again") from error
    if not isinstance(kind, str) or kind not in DTYPES:
        raise file.error(f"holds the tensor {quote(name)} of the unknown type {quote(str(kind))}; convert it first")
    check_shape(file, name, shape)
    if not all(type(n) is int and 0 <= n <= file.size for n in (start, end)) or not all(
        type(n) is int and 0 <= n < 2**48 for n in shape
    ):
        raise file.error(f"is cut short, or describes the tensor {quote(name)} wrongly; download it again")
    if end - start != math.prod(shape) * DTYPES[kind].itemsize:
        raise file.error(
            f"gives the tensor {quote(name)} a size that is not its shape's; it is broken, download it again"
        )
    return Stored(file, base + start, shape, DTYPES[kind])


def write(
    path: str | Path,
    tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a safetensors file, one tensor in memory at a time; `read(name)` gives it in its declared shape."""
    with atomic_write(path) as file:
        write_to(file, tensors, read, metadata)


def write_to(
    file: Writable,
    tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write what `write` writes to an open file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (shape, dtype) in tensors.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors begin aligned
    file.write(struct.pack("<Q", len(text)) + text)
    for name, (shape, dtype) in tensors.items():
        tensor = read(name).detach().to("cpu", dtype).contiguous()
        if tensor.shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, {shape} was declared")
        file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
