"""Loads an aesthetic predictor with the image encoder whose vectors it reads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from sfumato.errors import SfumatoError
from sfumato.loading.aesthetic import AestheticScorer, load_predictor
from sfumato.loading.image_encoders import load_image_encoder
from sfumato.pipeline.image_encoders import fitting_encoder, named_encoder
from sfumato.runtime.device import choose_device


def load_aesthetic(
    path: str | Path, encoder: str | Path | None = None, device: str | torch.device | None = None
) -> AestheticScorer:
    """Load one of LAION's aesthetic predictors, which says how much people would like a picture.

    `encoder` is the image encoder (CLIP ViT-L/14 for most): a file, a folder, or a name in the model folders; None
    takes the first in the folder clip_vision that fits. Called with an RGB picture, the result returns its score, from
    about 1 to 10. Raises SfumatoError for a file that is broken or of another kind, and where no encoder fits.
    """
    where, path = choose_device(device), Path(path).expanduser()
    predictor = load_predictor(path, where)
    reads = predictor.reads
    found = fitting_encoder(lambda cfg: cfg.projection_dim == reads) if encoder is None else None
    if encoder is None and found is None:
        raise SfumatoError(
            f"{path} needs an image encoder with vectors of {reads} numbers, and the folder clip_vision of the model "
            "folders has none; give one (CLIP ViT-L/14 for 768 numbers, ViT-B/32 or B/16 for 512)"
        )
    tower = load_image_encoder(found or named_encoder(str(encoder)), where)
    gives = tower.network.cfg.projection_dim
    if gives != reads:
        raise SfumatoError(f"{path} reads vectors of {reads} numbers, and {encoder} gives {gives}; give another")
    return AestheticScorer(path.stem, predictor, tower)


def kept_aesthetic(path: str, encoder: str | None, device: torch.device) -> AestheticScorer:
    """As `load_aesthetic`; the last one is kept until its file changes."""
    file = Path(path).expanduser()
    status = file.stat() if file.is_file() else None
    return _kept(file, encoder, device, status and (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=1)
def _kept(path: Path, encoder: str | None, device: torch.device, state: tuple[int, int] | None) -> AestheticScorer:
    return load_aesthetic(path, encoder, device)
