"""Tensors that several processes hold in shares, as safetensors files of one folder: a file a process.

They are written and read by PyTorch's distributed checkpoints, in the kind of file that can hold nothing executable.
Another number of processes may read them, or one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

Share = Callable[[tuple[int, ...], torch.dtype], Tensor]
"""Makes what a process takes of a tensor of this shape, to be filled."""


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes this process's shares of tensors to a folder that is there; all processes must write."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    save(dict(tensors), storage_writer=writer)


def read(folder: Path, shared: Collection[str], device: torch.device, share: Share | None) -> dict[str, Tensor]:
    """Returns the tensors of a folder by name, those in `shared` as `share` makes them, all others whole.

    Without `share` everything is read whole, by this process alone.
    """
    reader = HuggingFaceStorageReader(str(folder))
    found: dict[str, Tensor] = {}
    for name, said in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(said, TensorStorageMetadata), "only tensors are written"
        shape, dtype = tuple(said.size), said.properties.dtype
        taken = share is not None and name in shared
        found[name] = share(shape, dtype) if taken and share else torch.empty(shape, dtype=dtype, device=device)
    load(found, storage_reader=reader, no_dist=share is None)
    return found
