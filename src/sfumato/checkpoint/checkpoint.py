"""A checkpoint as a lazily read mapping from name to tensor, whatever kind of file it came from."""

from __future__ import annotations

import math
import mmap
import os
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from sfumato.errors import SfumatoError

MAX_TENSORS = 50_000  # a full XL checkpoint with EMA has 5,000
MAX_RANK = 8
MAX_NAME = 512
BLOCK = 1 << 16  # bytes that are read at once


class WeightFile:
    """A regular file: tensors may be views of a private map of it, and writing to them never reaches the disk.

    It is mapped when the first tensor is viewed; headers are read without, so that a file of any size can be described.
    """

    def __init__(self, path: Path):
        self.path = path
        # O_NONBLOCK: opening a named pipe must not wait for a writer.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        try:
            handle = os.open(path, flags)
        except OSError as error:
            raise SfumatoError(f"cannot open {path}: {error.strerror}; give the path of a model file") from error
        self.raw = os.fdopen(handle, "rb", buffering=0)
        status = os.fstat(handle)
        try:
            if not stat.S_ISREG(status.st_mode):
                raise self.error("is not a regular file; give the path of a model file")
            if status.st_size == 0:
                raise self.error("is empty; download it again")
            self.size = status.st_size
            self._identity = _identity(status)
            self._place = status.st_dev, status.st_ino
            self._mapped: mmap.mmap | None = None
            self._block = 0, b""  # where the last read began, and what it gave
        except BaseException:
            self.raw.close()
            raise

    def error(self, text: str) -> SfumatoError:
        """An exception that names this file."""
        return SfumatoError(f"{self.path} {text}")

    def read(self, start: int, size: int) -> bytes:
        """A copy of `size` bytes, fewer at the end of the file. Raises SfumatoError where the disk fails."""
        if not 0 <= start < self.size:
            return b""
        first, block = self._block
        if not first <= start <= start + size <= first + len(block):  # a header's fields are read one by one
            first, block = self._block = start, self._read(start, max(size, BLOCK))
        return block[start - first : start - first + size]

    def _read(self, start: int, size: int) -> bytes:
        try:
            before = self.raw.tell()
            self.raw.seek(start)
            parts = []
            while size > 0 and (part := self.raw.read(size)):
                parts.append(part)
                size -= len(part)
            self.raw.seek(before)
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}; check the disk") from error
        return b"".join(parts)

    @property
    def _map(self) -> mmap.mmap:
        if self._mapped is None:
            self._mapped = _map_privately(self.raw.fileno(), self)
        return self._mapped

    def hold(self) -> None:
        """Map the file now, so that it can be read after it is closed."""
        assert self._map is not None

    def view(self, start: int, count: int, dtype: torch.dtype) -> Tensor:
        """`count` elements from byte `start`: a view of the map, or a copy where the file does not align them."""
        if not self.raw.closed:
            self.check_unchanged()
        if count == 0:
            return torch.empty(0, dtype=dtype)
        if start % dtype.itemsize:
            size = count * dtype.itemsize
            copy = torch.frombuffer(self._map, dtype=torch.uint8, count=size, offset=start).clone()
            self.release(start, size)
            return copy.view(dtype)
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start)

    def release(self, start: int, size: int) -> None:
        """Let go of the memory of these bytes; no live tensor may be a changed view of them."""
        if self._mapped is None:
            return
        page = mmap.PAGESIZE
        first, end = -(-start // page) * page, (start + size) // page * page
        if end > first and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, end - first)

    def check_unchanged(self) -> None:
        """Raise SfumatoError when the file was written to since it was opened."""
        if _identity(os.fstat(self.raw.fileno())) != self._identity:
            raise self.error("was changed while it was being read; wait until it is written and load it again")

    def check_in_place(self) -> None:
        """Raise SfumatoError when the file, which may be closed, was written into; one that was replaced is safe."""
        try:
            status = os.stat(self.path)
        except OSError:
            return  # it has no name any more, and lives on in its map
        found = _identity(status)
        if found != self._identity and (status.st_dev, status.st_ino) == self._place:
            raise self.error("was written into since it was loaded, and with it the model; load it again")

    def close(self) -> None:
        """Close the file; the map lives on as long as a tensor views it."""
        self.raw.close()


def _map_privately(handle: int, file: WeightFile) -> mmap.mmap:
    """A private writable map of a whole file. Raises SfumatoError where there is no room for one."""
    try:
        if hasattr(mmap, "MAP_PRIVATE"):
            # Without MAP_NORESERVE Linux counts every page as if written to, and refuses files beyond the memory.
            flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
            return mmap.mmap(handle, 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise file.error(
            f"takes {file.size / 1e9:.1f} GB, which cannot be mapped into memory ({error.strerror}); "
            "close other programs, or give a smaller file"
        ) from error


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies: `start` in bytes, `stride` in elements (None: contiguous).

    `check` raises SfumatoError where the file says that its data are damaged. What is `kept` is not released.
    """

    file: WeightFile
    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    stride: tuple[int, ...] | None = None
    check: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    kept: bool = field(default=False, compare=False, repr=False)

    @property
    def kind(self) -> str:
        """What its values are stored as, in a word."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def span(self) -> int:
        """Bytes of the file from the first to the last element."""
        if self.stride is None or 0 in self.shape:
            return self.nbytes
        return (1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))) * self.dtype.itemsize

    def read(self) -> Tensor:
        """The tensor, contiguous: a view of the file where that is possible."""
        if self.check is not None:
            self.check()
        flat = self.file.view(self.start, self.span // self.dtype.itemsize, self.dtype)
        if self.stride is None or 0 in self.shape:
            return flat.reshape(self.shape)
        copy = flat.as_strided(self.shape, self.stride).contiguous()
        self.release()
        return copy

    def release(self) -> None:
        """Let go of the memory that reading took, unless it is to be kept."""
        if not self.kept:
            self.file.release(self.start, self.span)


@dataclass(frozen=True)
class Packed(Stored):
    """A tensor of `packed` bytes that are not its values: `unpack` makes values of type `dtype` of them."""

    packed: int = 0
    format: str = ""
    unpack: Callable[[Tensor], Tensor] = field(default=lambda raw: raw, repr=False)

    @property
    def kind(self) -> str:
        return self.format

    @property
    def span(self) -> int:
        return self.packed

    def read(self) -> Tensor:
        """The values, a copy."""
        values = self.unpack(self.file.view(self.start, self.packed, torch.uint8)).reshape(self.shape)
        self.release()
        return values


@dataclass
class Checkpoint:
    """An opened checkpoint: names, shapes and types are known, values are read when asked for. Use it in a `with`.

    Of a folder, tensor names begin with their subfolder (`unet/conv_in.weight`) and `configs` holds the JSON files by
    the same names (`unet/config`, `model_index`). A single file written by sfumato carries them in its header, and in
    `embedded_files` all files of the folder that hold no weights. `remainder` are tensors that such a folder keeps of
    the single file that it was made from, because the layout has no place for them.
    """

    path: Path
    container: str
    tensors: dict[str, Stored]
    files: list[WeightFile]
    metadata: dict[str, str] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    embedded_files: dict[str, bytes] = field(default_factory=dict)
    remainder: dict[str, Stored] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: stored.shape for name, stored in self.tensors.items()}

    @property
    def known_shapes(self) -> dict[str, tuple[int, ...]]:
        """With those of the remainder."""
        return self.shapes | {name: stored.shape for name, stored in self.remainder.items()}

    def embedded_files_in(self, folder: str) -> dict[str, bytes]:
        """The embedded files of one folder, by their names in it."""
        inner = f"{folder}/"
        return {name.removeprefix(inner): one for name, one in self.embedded_files.items() if name.startswith(inner)}

    @property
    def size(self) -> int:
        """Bytes on disk of the weight files."""
        return sum(file.size for file in self.files)

    def read(self, name: str) -> Tensor:
        """The tensor of this name; see `Stored.read`. Raises KeyError when there is none."""
        return self.tensors[name].read()

    def check_unchanged(self) -> None:
        """Raise SfumatoError when a file was written to since it was opened."""
        for file in self.files:
            file.check_unchanged()

    def close(self) -> None:
        for file in self.files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def quote(text: str) -> str:
    """Text out of an untrusted file, fit for one line of an error message."""
    return repr(text if len(text) <= 120 else text[:117] + "...")


def check_names(file: WeightFile, names: Iterable[str]) -> None:
    """Refuse names that could not come from a network: control characters, paths that climb, absurd length."""
    for name in names:
        if not name or len(name) > MAX_NAME or not name.isprintable() or ".." in name or name.startswith("/"):
            raise file.error(f"holds a tensor named {quote(name)}; this is no ordinary checkpoint, do not use it")


def check_shape(file: WeightFile, name: str, shape: tuple[int, ...]) -> None:
    """Refuse shapes that no network has."""
    if len(shape) > MAX_RANK:
        raise file.error(f"holds the tensor {quote(name)} of rank {len(shape)}, at most {MAX_RANK} is read")
