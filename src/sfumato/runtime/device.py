"""Where networks run, in which precision, and what to say when memory runs out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from sfumato.errors import SfumatoError, unknown

DTYPES = {
    "float32": torch.float32, "fp32": torch.float32,
    "float16": torch.float16, "fp16": torch.float16,
    "bfloat16": torch.bfloat16, "bf16": torch.bfloat16,
}  # fmt: skip
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # options of glibc's mallopt
LARGE_BLOCK = 1 << 20  # bytes
AUTO = "auto"  # the precision that a model is fastest in
INT8 = "int8"  # the network that draws multiplies in 8 bits: see `nets.int8`


def choose_device(name: str | torch.device | None) -> torch.device:
    """The named device, or the best there is. Raises SfumatoError for one that this machine lacks."""
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # refused by a device that keeps no numbers, such as meta
    except (RuntimeError, AssertionError, TypeError) as error:
        raise SfumatoError(f"device '{name}' cannot be used here; choose cpu, or cuda or mps if you have it") from error
    return device


def choose_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The named precision; by default, and for "auto", float16 on a CUDA device and float32 elsewhere."""
    if name is None or name == AUTO:
        return torch.float16 if device.type == "cuda" else torch.float32
    if isinstance(name, torch.dtype):
        if name in DTYPES.values():
            return name
    elif isinstance(name, str) and name.lower() in DTYPES:
        return DTYPES[name.lower()]
    raise unknown("dtype", name, ("float32", "float16", "bfloat16", AUTO))


def pictures_at_once(width: int, height: int, device: torch.device) -> int:
    """Returns how many pictures to draw side by side: as many as fill the device, no more than its memory holds."""
    budget = 512 * 512 if device.type == "cpu" else 4 * 512 * 512
    return max(1, min(8, budget // (width * height)))


def free_memory(device: torch.device) -> int | None:
    """Bytes that may still be taken on a device; None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines() if device.type == "cpu" else []
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def give_back_at_once() -> None:
    """Make the C library return large blocks to the system when they are freed, where it is glibc.

    By itself it keeps blocks of up to 32 MB for later, which adds up to a hundred megabytes and more.
    """
    with suppress(AttributeError, OSError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(M_MMAP_THRESHOLD, LARGE_BLOCK)
        set_option(M_TRIM_THRESHOLD, LARGE_BLOCK)


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Turn running out of memory, on whatever device, into one line: "not enough memory `what`"."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of error for CUDA only.
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
            raise SfumatoError(f"not enough memory {what}") from error
        raise
