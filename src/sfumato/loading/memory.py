"""What memory a model takes, counted without loading it: its networks are built, and run, on the meta device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import FAMILIES, family
from sfumato.loading.budget import LIBRARY, Budget, Part, fit, parse_memory
from sfumato.loading.load import Plan, compare
from sfumato.loading.resolve import NONE, Overrides, opened_model
from sfumato.nets.tiled_vae import decoder_halo
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import ID_WIDTH, Spec

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TOKENS = 77  # of a text encoder


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes; `file` is None without a file.

    `step` and `decode` are what a denoising step of two rows (guidance) and the decoding of one picture take beside the
    weights at `width` x `height`, without the workspace of kernels. `parts` are the networks as `budget` counts them,
    which says how the model is held within a limit; None without one.
    """

    title: str
    dtype: str
    file: int | None
    parameters: dict[str, int]
    weights: dict[str, int]
    largest: int
    width: int
    height: int
    step: int
    decode: int
    parts: dict[str, Part]
    budget: Budget | None

    @property
    def loading(self) -> int:
        """Peak of loading: every weight once, one of them twice, torch and the rest of the program."""
        return sum(self.weights.values()) + self.largest + LIBRARY

    @property
    def drawing(self) -> int:
        """Peak of drawing one picture with all networks in memory."""
        return sum(self.weights.values()) + max(self.step, self.decode) + LIBRARY

    def record(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        record = asdict(replace(self, budget=None)) | {"loading": self.loading, "drawing": self.drawing}
        if self.budget is not None:
            record["budget"] = vars(self.budget) | {"streamed": dict(self.budget.streamed)}
        return record


def memory_plan(
    name_or_path: str | Path,
    dtype: str = "float32",
    vae: str | Path | None = None,
    text_encoders: Sequence[str | Path] = (),
    memory: str | int | None = None,
    overrides: Overrides = NONE,
) -> MemoryPlan:
    """The plan of a model file or folder, with parts given apart as in `load_parts`, or of a family at its full size.

    `memory` is a limit, such as "4G", within which drawing shall stay (`MemoryPlan.budget`). Only headers are read.
    Raises SfumatoError for what could not be loaded, for an unknown dtype, and for a limit that is too small.
    """
    if dtype not in DTYPES:
        raise SfumatoError(f"unknown dtype {dtype!r}; choose {', '.join(DTYPES)}")
    limit = None if memory is None else parse_memory(memory)
    if str(name_or_path) in {one.name for one in FAMILIES}:
        chosen = family(str(name_or_path))
        return _plan(chosen.spec, chosen.build(chosen.spec), dtype, None, {}, limit)
    with opened_model(name_or_path, vae, text_encoders, overrides) as model:
        plan = compare(model)
        stored = {part: _stored(model.checkpoint, plan, part) for part in plan.networks}
        return _plan(model.spec, plan.networks, dtype, model.checkpoint.size, stored, limit)


def _stored(checkpoint: Checkpoint, plan: Plan, part: str) -> int:
    names = {plan.match.names.get(name, name) for rule in plan.keymap.parts[part] for name in rule.theirs}
    return sum(checkpoint.tensors[name].span for name in names if name in checkpoint.tensors)


def _plan(
    spec: Spec, networks: Mapping[str, nn.Module], dtype: str, file: int | None, stored: Mapping[str, int],
    limit: int | None,
) -> MemoryPlan:  # fmt: skip
    kind = DTYPES[dtype]
    sizes = {part: [tensor.numel() for tensor in network.state_dict().values()] for part, network in networks.items()}
    width, height = spec.defaults.width, spec.defaults.height
    drawing = family(spec.family).denoiser
    denoiser, vae = networks[drawing].to(kind), networks["vae"].to(kind)
    weights = {part: sum(counts) * kind.itemsize for part, counts in sizes.items()}
    order = sorted(sizes, key=lambda part: (part != drawing, part != "vae"))  # what is worth keeping first
    # The largest weight is read, perhaps as float32, converted, and put in another order by the kernel that uses it.
    parts = {
        part: Part(weights[part], stored.get(part, weights[part]), max(sizes[part]) * (4 + 2 * kind.itemsize))
        for part in order
    }
    step = _peak(lambda: _step(denoiser, spec, width, height, kind))

    @cache
    def decode(tile: int | None) -> int:
        return _peak(lambda: _decode(vae, spec, width, height, kind, tile))

    return MemoryPlan(
        title=spec.title,
        dtype=dtype,
        file=file,
        parameters={part: sum(counts) for part, counts in sizes.items()},
        weights=weights,
        largest=max(max(counts) for counts in sizes.values()) * kind.itemsize,
        width=width,
        height=height,
        step=step,
        decode=decode(None),
        parts=parts,
        budget=None
        if limit is None
        else fit(parts, step, decode, limit, f"{spec.title} at {width}x{height} in {dtype}"),
    )


def _step(denoiser: nn.Module, spec: Spec, width: int, height: int, dtype: torch.dtype) -> None:
    h, w = height // spec.vae.factor, width // spec.vae.factor
    tokens, pooled, ids = TOKENS, None, None
    if isinstance(denoiser, UNet):
        channels, context = spec.unet.in_channels, spec.unet.context_dim
        if spec.unet.vector_dim is not None:
            count = sum(1 if name == "aesthetic_score" else 2 for name in spec.micro_conditioning)
            ids, pooled = torch.empty(2, count), torch.empty(2, spec.unet.vector_dim - count * ID_WIDTH, dtype=dtype)
        elif spec.unet.classes is not None:
            ids = torch.empty(2, 1)
    elif spec.transformer is not None:
        channels, context = spec.transformer.in_channels, spec.transformer.context_dim
        tokens += TOKENS
        pooled = torch.empty(2, spec.transformer.pooled_dim, dtype=dtype)
    denoiser(
        torch.empty(2, channels, h, w, dtype=dtype),
        torch.empty(2),
        Cond(torch.empty(2, tokens, context, dtype=dtype), pooled, ids),
    )


def _decode(vae: nn.Module, spec: Spec, width: int, height: int, dtype: torch.dtype, tile: int | None) -> None:
    """Decodes a picture, or of one in tiles the largest tile with its margin, which takes nearly all of the memory."""
    if isinstance(vae, VAE):
        side = spec.vae.factor
        h, w = height // side, width // side
        if tile is not None:
            h, w = (min(one, tile // side + 2 * decoder_halo(spec.vae)) for one in (h, w))
        vae.decode(torch.empty(1, spec.vae.latent_channels, h, w, dtype=dtype))


class _FusedAttention(TorchFunctionMode):
    """Attention as the kernels of real devices do it, which never hold its whole matrix."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


class _Live(TorchDispatchMode):
    """Counts the bytes of tensors while they live; views count with what they are views of."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: dict[int, int] = {}
        self.bytes = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._hold(tensor)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self.holders:
            self.bytes += size
            self.peak = max(self.peak, self.bytes)
        self.holders[key] = self.holders.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self.holders[key] -= 1
        if not self.holders[key]:
            del self.holders[key]
            self.bytes -= size


def _peak(run: Callable[[], None]) -> int:
    with torch.no_grad(), torch.device("meta"), _FusedAttention(), _Live() as live:
        run()
    return live.peak
