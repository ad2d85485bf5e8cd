"""The models and other files on this machine, by the names that the web UI gives them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from sfumato.adapters import textual_inversion
from sfumato.errors import SfumatoError, unknown
from sfumato.hub.local_models import EMBEDDED, Found, found

SHORT = 10  # digits of a checkpoint's hash in its title


@dataclass(frozen=True)
class LocalFile:
    """A file or a diffusers folder by its name here; its hash where that is known."""

    name: str
    path: Path
    kind: str
    sha256: str | None

    @classmethod
    def of(cls, one: Found) -> LocalFile:
        return cls(one.release.name if one.release else one.name, one.path, one.kind, one.sha256)


def title(model: LocalFile) -> str:
    """The name of a checkpoint in lists: its file's, and the first digits of its hash where that is known."""
    name = file_name(model)
    return f"{name} [{model.sha256[:SHORT]}]" if model.sha256 else name


def file_name(model: LocalFile) -> str:
    """The name of a model's file, without the folders that it lies in."""
    return model.path.name


class LocalFiles:
    """What is on this machine, read once and again when a client asks to refresh."""

    def __init__(self) -> None:
        self._found: list[LocalFile] | None = None
        self._lock = Lock()

    def refresh(self) -> None:
        """Reads the folders again when something is asked next."""
        self._found = None

    def of_kind(self, kind: str) -> list[LocalFile]:
        """The files of a kind. Walks folders the first time, so not on the event loop."""
        with self._lock:
            if self._found is None:
                self._found = [LocalFile.of(one) for one in found()]
            return [one for one in self._found if one.kind == kind]

    def find(self, name: str, kind: str = "model", what: str = "checkpoint") -> LocalFile:
        """The file that a title, a name, a file's name or a hash means. Raises SfumatoError where there is none."""
        match = self._match(name, kind)
        if match is None:
            self.refresh()
            match = self._match(name, kind)
        if match is None:
            names = [title(one) for one in self.of_kind(kind)]
            raise unknown(what, name, names) if names else SfumatoError(f"there is no {what} on this machine")
        return match

    def _match(self, name: str, kind: str) -> LocalFile | None:
        here = self.of_kind(kind)
        bare, _, rest = name.strip().partition(" [")
        wanted, digest = bare.lower(), rest.rstrip("]").lower()
        for one in here:
            if digest and (one.sha256 or "").startswith(digest):
                return one
        for one in here:
            if wanted in (one.name.lower(), file_name(one).lower(), Path(file_name(one)).stem.lower()):
                return one
        return next((one for one in here if len(wanted) >= 8 and (one.sha256 or "").startswith(wanted)), None)

    def embeddings(self) -> dict[str, dict[str, Any]]:
        """What the web UI tells of each embedding that can be read."""
        known = {}
        for one in self.of_kind("embedding"):
            try:
                read = textual_inversion.read(one.path, one.name)
            except SfumatoError:
                continue
            step = int(read.step) if read.step and read.step.isdigit() else None
            known[one.name] = {
                "step": step, "sd_checkpoint": None, "sd_checkpoint_name": read.trained_on, "shape": read.widths[0],
                "vectors": read.count,
            }  # fmt: skip
        return known

    def default(self, name: str | None) -> LocalFile:
        """The checkpoint that is drawn with where a client names none."""
        return self.find(name or EMBEDDED)
