"""Which image encoder of the model folders is meant, or fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families.layouts import clip_vision
from sfumato.hub.local_adapters import find_adapter
from sfumato.hub.local_models import in_model_folders, in_rooms
from sfumato.spec import CLIPVisionConfig
from sfumato.user_config import confined

ENCODER = "image encoder"  # of files in the model folders


def named_encoder(name: str) -> Path:
    """The image encoder that a file, a folder or a name in the model folders means. Raises SfumatoError."""
    given = Path(name).expanduser()
    inside = not confined() or in_model_folders(given)
    return given if inside and given.is_dir() else find_adapter(name, (ENCODER,))


def fitting_encoder(fits: Callable[[CLIPVisionConfig], bool]) -> Path | None:
    """The first image encoder of the model folders whose sizes fit, None where there is none."""
    for candidate in in_rooms(ENCODER).values():
        try:
            with open_checkpoint(candidate) as checkpoint:
                found = clip_vision.found_in(checkpoint.shapes)
                cfg = None if found is None else clip_vision.sizes(checkpoint.shapes, *found, {})
        except (SfumatoError, LookupError, ValueError):
            continue
        if cfg is not None and fits(cfg):
            return candidate
    return None
