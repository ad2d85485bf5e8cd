"""What this machine is: processor, memory, devices, disk, versions."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sfumato import __version__
from sfumato.runtime.device import choose_device, choose_dtype, free_memory
from sfumato.runtime.threads import LIMITS, PASSIVE

# Features of processors that kernels make use of: as /proc/cpuinfo spells them, and as people do.
FEATURES = {
    "avx2": "AVX2", "fma": "FMA", "avx512f": "AVX-512", "avx512_vnni": "AVX512-VNNI", "avx512_bf16": "AVX512-BF16",
    "avx512_fp16": "AVX512-FP16", "amx_tile": "AMX", "amx_bf16": "AMX-BF16", "asimd": "NEON", "sve": "SVE",
    "bf16": "BF16", "i8mm": "I8MM",
}  # fmt: skip
PACKAGES = (
    "torch", "numpy", "Pillow", "safetensors", "tokenizers", "huggingface-hub", "fastapi", "uvicorn", "pydantic",
    "typer",
)  # fmt: skip
VARIABLES = (*LIMITS, *PASSIVE, "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Device:
    """A device to draw on; `memory` and `free` in bytes, None where that is not known. `dtype` is what is drawn in."""

    name: str
    title: str
    memory: int | None
    free: int | None
    dtype: str


@dataclass(frozen=True)
class Machine:
    """A machine as it is now. Sizes in bytes, None where they are not known.

    `cores` are those that this process may use; `memory` is the limit of the container where there is one. `threads` is
    how many torch computes with. The first of `devices` is the one that is taken if nobody says. `variables` are those
    of the environment that change how fast it computes.
    """

    system: str
    python: str
    processor: str
    features: tuple[str, ...]
    kernels: str
    cores: int
    threads: int
    memory: int | None
    free: int | None
    devices: tuple[Device, ...]
    container: bool
    versions: Mapping[str, str]
    variables: Mapping[str, str]


def measure() -> Machine:
    """Looks at this machine. Takes a moment, since torch is imported."""
    import torch

    name, flags = _processor()
    limit, memory = _limit(), _memory()
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        processor=name,
        features=tuple(title for flag, title in FEATURES.items() if flag in flags),
        kernels=torch.backends.cpu.get_cpu_capability(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory=min((size for size in (limit, memory) if size is not None), default=None),
        free=_free(),
        devices=tuple(_devices()),
        container=Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
        versions=versions(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
    )


def versions() -> dict[str, str]:
    """The versions of this package and of those that it needs most, "missing" for one that is not installed."""
    found = {"sfumato": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def free_disk(folder: Path) -> int | None:
    """Bytes that are free where a folder is, or would be made; None where that cannot be told."""
    there = next((path for path in (folder, *folder.parents) if path.is_dir()), None)
    try:
        return None if there is None else shutil.disk_usage(there).free
    except OSError:
        return None


def _devices() -> list[Device]:
    import torch

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about, name = torch.cuda.get_device_properties(index), f"cuda:{index}"
        title = f"{about.name} (compute {about.major}.{about.minor})"
        free, total = torch.cuda.mem_get_info(index)
        found.append(Device(name, title, total, free, _dtype(name)))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", _memory(), None, _dtype("mps")))
    return [*found, Device("cpu", _processor()[0], _memory(), _free(), _dtype("cpu"))]


def _dtype(device: str) -> str:
    import torch

    return str(choose_dtype(None, torch.device(device))).removeprefix("torch.")


def _processor() -> tuple[str, frozenset[str]]:
    """The processor's name and the features that the system states; no features where it states none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    stated: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        stated.setdefault(name.strip().lower(), value.strip())
    flags = stated.get("flags") or stated.get("features") or ""
    return stated.get("model name") or platform.processor() or platform.machine(), frozenset(flags.split())


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _limit() -> int | None:
    """How much memory the container may take; None where there is no limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            size = int((CGROUP / name).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        return size if size < 1 << 60 else None
    return None


def _free() -> int | None:
    """Bytes that a process may still take: those of the machine, or what is left of the container's limit."""
    free, limit = free_memory(choose_device("cpu")), _limit()
    if limit is None:
        return free
    try:
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    left = max(0, limit - used)
    return left if free is None else min(free, left)


def via_ssh() -> bool:
    """Whether whoever sits before this machine's screen, if it has one, is not who started this process."""
    return any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"))


def has_screen() -> bool:
    """Whether a window can be opened that the user sees."""
    if via_ssh():
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
