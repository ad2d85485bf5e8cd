"""Pictures that say what to draw: which files their IP-Adapters and image encoders are, and those that are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sfumato.adapters import ip_adapter
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.hub.local_adapters import IMAGE_KIND, find_adapter
from sfumato.loading.image_encoders import ImageEncoder, load_image_encoder
from sfumato.nets.ip_adapter import IPAdapter
from sfumato.pipeline.image_encoders import fitting_encoder, named_encoder
from sfumato.settings.image_prompt import ImagePrompt

MAX_LOADED = 4  # adapters that are kept beside those in use


@dataclass(frozen=True)
class ImagePromptFile:
    """Names an IP-Adapter and its image encoder (None: one that fits) by their files, and the `state` of the first."""

    path: Path
    encoder: Path | None
    state: tuple[int, int]

    @classmethod
    def find(cls, prompt: ImagePrompt) -> ImagePromptFile:
        """The files of an image prompt. Raises SfumatoError for what is not here."""
        path = find_adapter(prompt.model, (IMAGE_KIND,))
        encoder = None if prompt.encoder is None else named_encoder(prompt.encoder)
        status = path.stat()
        return cls(path, encoder, (status.st_mtime_ns, status.st_size))


@dataclass(frozen=True, eq=False)
class Loaded:
    """An IP-Adapter with its image encoder, and how many tokens it makes of a picture."""

    adapter: IPAdapter
    encoder: ImageEncoder
    count: int


class LoadedImagePrompts:
    """The IP-Adapters for one model's network, the latest few."""

    def __init__(self) -> None:
        self._loaded: dict[ImagePromptFile, Loaded] = {}

    def get(self, file: ImagePromptFile, base: nn.Module, title: str) -> Loaded:
        """The adapter of a file for the network `base`, in its precision and place. Raises SfumatoError."""
        if file not in self._loaded:
            weight = next(base.parameters())
            with open_checkpoint(file.path) as checkpoint:
                adapter = ip_adapter.read(checkpoint, base, title).to(weight.device, weight.dtype)
            path = _fitting(adapter, file.path) if file.encoder is None else file.encoder
            encoder = load_image_encoder(path, weight.device, weight.dtype)
            if not _fits(adapter, encoder.network.cfg.hidden_size, encoder.network.cfg.projection_dim):
                raise SfumatoError(
                    f"{path} is an image encoder of other sizes than {file.path} was made for; give its own"
                )
            side = encoder.network.cfg.size // encoder.network.cfg.patch
            while len(self._loaded) >= MAX_LOADED:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[file] = Loaded(adapter, encoder, adapter.count(side * side + 1))
        return self._loaded[file]

    def clear(self) -> None:
        self._loaded.clear()


def _fits(adapter: IPAdapter, hidden: int, projected: int | None) -> bool:
    """Whether an adapter reads what an image encoder of these sizes says."""
    return adapter.seen == (hidden if adapter.image_proj.of_states else (hidden if projected is None else projected))


def _fitting(adapter: IPAdapter, path: Path) -> Path:
    """The first image encoder of the model folders that an adapter can read. Raises SfumatoError where none is."""
    found = fitting_encoder(lambda cfg: _fits(adapter, cfg.hidden_size, cfg.projection_dim))
    if found is None:
        raise SfumatoError(
            f"{path} needs an image encoder {adapter.seen} wide, and the folder clip_vision of the model folders has "
            "none; give it with encoder=FILE (CLIP ViT-H for most adapters, ViT-bigG for some of XL)"
        )
    return found
