"""Checkpoints of processes that each keep a share of the weights: every process writes its own, the main one the rest.

They are folders as in `train.checkpoint`, and as whole or absent as those: one manifest names all files.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from sfumato.files import hidden_folder, writing
from sfumato.train import checkpoint, packing, shard_files


def save(run: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes `state` as `checkpoint.save` does; all processes must call it, with their shares of its tensors."""
    path, main = checkpoint.place_of(run, step), distributed.get_rank() == 0
    tensors: dict[str, Tensor] = {}
    plain = {name: packing.pack(value, tensors, name) for name, value in state.items()}
    with ExitStack() as opened:
        made = ""
        if main and not (path.exists() and checkpoint.damage_of(path) is None):  # else no step was done since
            hidden = opened.enter_context(hidden_folder(path))
            opened.enter_context(writing(path))
            (hidden / path.name).mkdir()
            made = str(hidden / path.name)
        told = [made]
        distributed.broadcast_object_list(told, 0)
        if not told[0]:
            return path
        folder = Path(told[0])
        shard_files.write(folder, tensors)
        distributed.barrier()
        if main:
            files = {}
            for file in sorted(folder.iterdir()):
                with file.open("rb") as written:
                    os.fsync(written.fileno())
                files[file.name] = {"bytes": file.stat().st_size, "sha256": checkpoint.sha256(file)}
            shared = sorted(name for name, value in tensors.items() if isinstance(value, DTensor))
            checkpoint.commit(folder, path, {"step": step, "files": files, "state": plain, "shards": shared})
    if main:
        checkpoint.check_written(run, path)
    return path
