"""Which file a control of the settings means, and the networks of controls that a model has loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sfumato.errors import SfumatoError
from sfumato.hub.local_adapters import find_adapter
from sfumato.loading.controls import ControlModel, load_control
from sfumato.settings.control import Control

MAX_CONTROLS = 4  # networks that are kept beside those in use
KIND = "controlnet"  # of files in the model folders


@dataclass(frozen=True)
class ControlFile:
    """Names a network by its file or folder, and the `state` that this was in."""

    path: Path
    state: tuple[int, ...]

    @classmethod
    def find(cls, control: Control) -> ControlFile:
        """The file of a control. Raises SfumatoError for one that is not here."""
        name, digest = control.name_and_hash
        path = Path(name).expanduser()
        if not path.is_dir():
            try:
                path = find_adapter(name, KIND)
            except SfumatoError:
                if digest is None:
                    raise
                path = find_adapter(digest, KIND)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        status = [one.stat() for one in files]
        return cls(path, tuple(number for one in status for number in (one.st_mtime_ns, one.st_size)))


class LoadedControls:
    """The networks of controls for one model's network, the latest few."""

    def __init__(self) -> None:
        self._loaded: dict[ControlFile, ControlModel] = {}

    def get(self, file: ControlFile, base: nn.Module) -> ControlModel:
        """The network of a file, loaded for `base` and in its precision and place. Raises as `load_control`."""
        if file not in self._loaded:
            weight = next(base.parameters())
            loaded = load_control(file.path, base, weight.device, weight.dtype)
            while len(self._loaded) >= MAX_CONTROLS:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[file] = loaded
        return self._loaded[file]

    def clear(self) -> None:
        self._loaded.clear()


def require_pictures(controls: Iterable[Control]) -> None:
    """Raise SfumatoError for a control that nothing gives a picture to."""
    for one in controls:
        if one.image is None:
            raise SfumatoError(f"the control {one.model} has no picture; give one, such as {one.model}=photo.png")
