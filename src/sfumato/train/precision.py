"""Where a run computes, and how precisely."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from sfumato.runtime.device import choose_device
from sfumato.train.config import LoopConfig


def pick_device(name: str) -> torch.device:
    """Returns the device of this name; "auto" takes a GPU if there is one.

    Processes that `torchrun` started take one GPU each. Raises SfumatoError if there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return choose_device(name)


def bf16_pays(device: torch.device) -> bool:
    """Returns whether the device multiplies bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    # The function is younger than the oldest torch that we allow.
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def compute_dtype(cfg: LoopConfig, device: torch.device) -> torch.dtype:
    """Returns the type that products are computed in."""
    if cfg.precision == "fp16":
        return torch.float16
    bf16 = bf16_pays(device) if cfg.precision == "auto" else cfg.precision == "bf16"
    return torch.bfloat16 if bf16 else torch.float32


def plain_attention(device: torch.device) -> AbstractContextManager[None]:
    """Opens, on the CPU, a context of plain attention.

    At the few tokens of our networks, torch's CPU flash attention takes four times as long backwards as plain
    attention.
    """
    return nullcontext() if device.type == "cuda" else sdpa_kernel(SDPBackend.MATH)


@contextmanager
def arithmetic(cfg: LoopConfig, device: torch.device) -> Iterator[None]:
    """Opens the context in which forward passes run: the precision, and on the CPU plain attention."""
    dtype = compute_dtype(cfg, device)
    # The type is only named where it is used: autocast warns of float32.
    with plain_attention(device), torch.autocast(device.type, *([dtype] if dtype != torch.float32 else [None, False])):
        yield
