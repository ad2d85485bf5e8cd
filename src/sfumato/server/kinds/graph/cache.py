"""What nodes gave, kept by what it was made of, so that a changed graph begins where it changed."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields, is_dataclass
from typing import Any

from PIL import Image
from torch import Tensor

LIMIT = 256 << 20  # bytes
LEAST = 256  # bytes that anything counts for


class Cache:
    """Results by the keys of their steps; what was used longest ago leaves first. `limit` is in bytes."""

    def __init__(self, limit: int = LIMIT):
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[str, tuple[tuple[Any, ...], int]] = OrderedDict()

    def get(self, key: str) -> tuple[Any, ...] | None:
        """The outputs of a step; None where they are not here."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def put(self, key: str, outputs: tuple[Any, ...]) -> None:
        """Keeps the outputs of a step, unless they alone are more than the limit."""
        size = size_of(outputs)
        if key in self._kept or size > self.limit:
            return
        self._kept[key] = outputs, size
        self.bytes += size
        while self.bytes > self.limit:
            _, (_, gone) = self._kept.popitem(last=False)
            self.bytes -= gone

    def clear(self) -> None:
        """Forgets everything."""
        self._kept.clear()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)


def size_of(value: Any) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, Tensor):
        return LEAST + value.nbytes
    if isinstance(value, Image.Image):
        return LEAST + value.width * value.height * len(value.getbands())
    if isinstance(value, tuple | list):
        return LEAST + sum(map(size_of, value))
    if is_dataclass(value):
        return LEAST + sum(size_of(getattr(value, one.name)) for one in fields(value))
    return LEAST + (len(value) if isinstance(value, str) else 0)
