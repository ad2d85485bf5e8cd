"""Nested state with tensors in it, such as an optimizer's, as one safetensors file: nothing in it can be executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from sfumato.checkpoint.formats import safetensors_file

STRUCTURE = "structure"  # the key of a file's metadata


def pack(state: Any, tensors: dict[str, Tensor], path: str = "") -> Any:
    """Returns `state` as JSON can hold it, and adds its tensors to `tensors` by their paths, such as "state.0.exp_avg".

    `state` consists of dicts, lists, tuples, tensors, numbers, strings and None. Raises TypeError for anything else.
    """
    if isinstance(state, Tensor):
        tensors[path] = state
        return {"tensor": path}
    if isinstance(state, dict):
        return {"dict": [[key, pack(value, tensors, _join(path, key))] for key, value in state.items()]}
    if isinstance(state, (list, tuple)):
        entries = [pack(value, tensors, _join(path, place)) for place, value in enumerate(state)]
        return {"tuple": entries} if isinstance(state, tuple) else entries
    if state is None or isinstance(state, (bool, int, float, str)):
        return state
    raise TypeError(f"{path} is {type(state).__name__}; a checkpoint holds tensors, numbers and text")


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Returns the state that `pack` took apart."""
    if isinstance(packed, list):
        return [unpack(entry, tensors) for entry in packed]
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(unpack(entry, tensors) for entry in content)
    return {key: unpack(value, tensors) for key, value in content}


def write(file: safetensors_file.Writable, state: Any) -> None:
    """Writes `state` to an open file; equal states give equal bytes."""
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(pack(state, tensors), separators=(",", ":"))
    heads = {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}
    safetensors_file.write_to(file, heads, tensors.__getitem__, {STRUCTURE: structure})


def read(path: Path, device: str) -> Any:
    """Returns the state in a file that `write` wrote, its tensors on `device`."""
    with safe_open(path, "pt", device=device) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
        return unpack(json.loads(file.metadata()[STRUCTURE]), tensors)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
