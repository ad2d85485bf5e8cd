"""Weights that stay in their file, as they are stored there, and are read whenever they are used.

A network of such weights takes the memory of its activations and of one layer. What is stored in fewer bits is unpacked
layer by layer, so it takes no more than its file even where all of it is kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sfumato.checkpoint.checkpoint import Stored
from sfumato.checkpoint.formats.fp8 import EIGHTS
from sfumato.checkpoint.keymap import Rule

LARGE = 1 << 16  # numbers from which a weight is streamed; smaller ones are loaded at once
Check = Callable[[Stored, str], Tensor]

_GETTERS = ("shape", "dtype", "device", "layout", "ndim", "requires_grad", "is_leaf", "is_cuda", "is_cpu", "is_meta",
            "is_mps", "is_sparse", "is_quantized", "grad", "grad_fn", "nbytes", "itemsize")  # fmt: skip
_METHODS = ("size", "dim", "numel", "nelement", "element_size", "is_floating_point", "is_complex")
# What is known without reading: torch asks such functions of a tensor's class as well.
_KNOWN = frozenset(
    [getattr(Tensor, name).__get__ for name in _GETTERS]
    + [getattr(Tensor, name) for name in _METHODS]
    + [torch.numel, torch.is_floating_point, torch.is_complex]
)
_ITSELF = frozenset([Tensor.detach, Tensor.requires_grad_])  # an inference weight already is what these return


class Source:
    """Where the parameters of one rule lie: tensors of a file, and how ours are made of them.

    `kept` says whether the file's pages stay in memory after they were read.
    """

    def __init__(self, rule: Rule, stored: Sequence[Stored], names: Sequence[str], check: Check, kept: bool):
        self.rule, self.names, self.check = rule, names, check
        self.stored = [replace(one, kept=kept) for one in stored]
        self.checked = False
        for one in stored:
            one.file.hold()

    def weights(self, likes: Sequence[Tensor], dtype: torch.dtype | None, device: torch.device) -> dict[str, Tensor]:
        """Our parameters by name, of shapes as `likes`; `dtype` None is the file's, of 8 bits float16."""
        stated = self.stored[0].dtype
        kind = dtype or (torch.float16 if stated in EIGHTS else stated)
        return {
            name: StreamedWeight.of(self, place, like, kind, device)
            for place, (name, like) in enumerate(zip(self.rule.ours, likes, strict=True))
        }

    def read(self, place: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Our parameter number `place`. Raises SfumatoError for values that are not finite, the first time."""
        if self.checked:
            raw = [one.read() for one in self.stored]
        else:
            raw = [self.check(one, name) for one, name in zip(self.stored, self.names, strict=True)]
            self.stored, self.checked = [replace(one, check=None) for one in self.stored], True
        return self.rule.transform.to_ours(raw)[place].to(device, dtype)

    def release(self) -> None:
        for one in self.stored:
            one.release()


class StreamedWeight(Tensor):
    """A weight that is read when a function of torch uses it, and let go of when that has returned.

    Its shape, precision and device are known without reading. It cannot be changed in place; a deep copy of it is an
    ordinary parameter.
    """

    source: Source
    place: int  # among the parameters of the source

    @staticmethod
    def of(source: Source, place: int, like: Tensor, dtype: torch.dtype, device: torch.device) -> StreamedWeight:
        """The weight of a source with the shape of `like`, which may be on the meta device."""
        result = Tensor._make_wrapper_subclass(
            StreamedWeight, like.shape, dtype=dtype, device=device, requires_grad=False
        )
        result.source, result.place = source, place
        return result

    def whole(self) -> Tensor:
        """The weight as an ordinary tensor, which may be a view of the file."""
        with torch._C.DisableTorchFunctionSubclass():
            dtype, device = self.dtype, self.device
        return self.source.read(self.place, dtype, device)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _KNOWN:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in _ITSELF:
            return args[0]
        if func is Tensor.__deepcopy__:
            return nn.Parameter(args[0].whole().clone(), requires_grad=False)
        name = getattr(func, "__name__", "")
        changes = name in ("__set__", "__setitem__") or (name.endswith("_") and not name.endswith("__"))
        if changes and isinstance(args[0], StreamedWeight):
            raise RuntimeError(f"a weight that is streamed from its file cannot be changed ({name})")
        used: list[StreamedWeight] = []

        def read(one: Any) -> Any:
            if not isinstance(one, StreamedWeight):
                return one
            used.append(one)
            return one.whole()

        result = func(*tree_map(read, args), **tree_map(read, kwargs))
        for one in used:
            one.source.release()
        return result

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{func} reached a weight that is streamed from its file before it was read")


def streams(likes: Sequence[Tensor]) -> bool:
    """Whether parameters of these shapes are large enough to be streamed."""
    return any(one.numel() >= LARGE for one in likes)


def is_streamed(network: nn.Module) -> bool:
    """Whether some of a network's weights stay in their file."""
    return any(isinstance(one, StreamedWeight) for one in network.parameters())
