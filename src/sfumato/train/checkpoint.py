"""Checkpoints of a run: all of its state in one file, of which the newest two are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write

FORMAT = 1
KEPT = 2


def find(run: Path) -> Path | None:
    """Returns the newest checkpoint of a run folder, or None."""
    return max(run.glob("checkpoints/step-*.pt"), default=None)


def save(run: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes `state` to a new checkpoint, deletes all but the newest ones, and returns its path."""
    path = run / "checkpoints" / f"step-{step:08d}.pt"
    with atomic_write(path) as file:
        torch.save({"format": FORMAT, "step": step} | state, file)
    for old in sorted(path.parent.glob("step-*.pt"))[:-KEPT]:
        old.unlink()
    return path


def load(path: Path, device: torch.device) -> dict[str, Any]:
    """Returns the state in a checkpoint; nothing in it is executed. Raises SfumatoError for a file that is none."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if state["format"] != FORMAT:
            raise SfumatoError(f"{path} has format {state['format']}, expected {FORMAT}; start with --fresh")
    except SfumatoError:
        raise
    except Exception as error:  # torch.load raises many kinds
        raise SfumatoError(f"{path} is no readable checkpoint ({type(error).__name__}); delete it to go on") from error
    return state
