"""Blanks pictures that a safety checker takes for unsafe, where the user asks for that."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from sfumato.errors import SfumatoError, warn
from sfumato.loading.safety import FOLDER, SafetyCheck, load_safety_checker
from sfumato.pipeline.model import Model
from sfumato.settings.picture import OWN_CHECKER
from sfumato.settings.settings import Settings


def safety_check(model: Model, settings: Settings) -> SafetyCheck | None:
    """The checker that settings ask for, else that of the model (`Model.safety_checker`), else None.

    Raises SfumatoError for one that cannot be loaded.
    """
    if settings.safety is None:
        return model.safety_checker
    path = Path(settings.safety).expanduser()
    if settings.safety == OWN_CHECKER:
        path = model.path / FOLDER
        if not path.is_dir():
            raise SfumatoError(
                f"{model.name} comes without a safety checker; give the file or the folder of one, as 1.x had it"
            )
    states = (
        [(one.stat().st_mtime_ns, one.stat().st_size) for one in (path, *path.glob("*.*"))] if path.exists() else []
    )
    return _kept(path, model.device, model.dtype, tuple(states))


@lru_cache(maxsize=1)
def _kept(path: Path, device: torch.device, dtype: torch.dtype, states: tuple[tuple[int, int], ...]) -> SafetyCheck:
    """The checker of a file or folder in these `states`; the last one is kept."""
    return load_safety_checker(path, device, dtype)


def blanked(check: SafetyCheck, image: Image.Image, seed: int) -> Image.Image | None:
    """A black picture in place of an unsafe one, with an SfumatoWarning; None for a picture that may be shown."""
    if not check(image):
        return None
    warn(f"the picture of seed {seed} was blanked: the safety checker {check.name} finds it unsafe; try another seed")
    return Image.new("RGB", image.size)
