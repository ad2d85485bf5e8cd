"""An adapter's file: what it is by its content, what it says of itself, and the hashes by which others know it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from sfumato.adapters import components, hypernetwork, textual_inversion
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.hashes import sha256, sha256_of_tensors
from sfumato.checkpoint.keymap import Shapes
from sfumato.checkpoint.open import open_file
from sfumato.errors import SfumatoError

Kind = Literal["lora", "hypernetwork", "embedding"]
RECOGNISED: tuple[tuple[Kind, Callable[[Shapes], bool]], ...] = (
    ("lora", components.holds_differences),
    ("hypernetwork", hypernetwork.is_hypernetwork),
    ("embedding", textual_inversion.is_textual_inversion),
)
NAMED: Mapping[Kind, str] = {
    "lora": "a LoRA or one of its kin", "hypernetwork": "a hypernetwork", "embedding": "an embedding",
}  # fmt: skip


@dataclass(frozen=True)
class AdapterFile:
    """An adapter's file. Two are equal when their bytes are.

    `name` is what prompts and pictures' settings call it. `metadata` is what the file says of itself.
    """

    sha256: str
    path: Path = field(compare=False)
    name: str = field(compare=False)
    kind: Kind = field(compare=False)
    metadata: Mapping[str, str] = field(compare=False, repr=False, default_factory=dict)

    @classmethod
    def open(cls, path: Path, name: str | None = None) -> AdapterFile:
        """Tell by its content what a file is. Raises SfumatoError for what is no adapter, or cannot be read."""
        if path.suffix.lower() in textual_inversion.PICTURES:
            found = textual_inversion.read(path, name)
            return cls(found.sha256, path, found.name, "embedding")
        with open_file(path) as checkpoint:
            kind = kind_of(checkpoint.shapes)
            if kind is None:
                known = " or ".join(NAMED.values())
                raise SfumatoError(f"{path} is no adapter that is known here; give the file of {known}")
            metadata = checkpoint.metadata
        own = textual_inversion.read(path).name if kind == "embedding" else plain_name(path)
        return cls(sha256(path), path, own if name is None else name, kind, metadata)

    def checkpoint(self) -> Checkpoint:
        """Open the file again. Raises SfumatoError when it holds something else by now."""
        if sha256(self.path) != self.sha256:
            raise SfumatoError(f"{self.path} was changed since it was added; remove the adapter and add it again")
        return open_file(self.path)


def kind_of(shapes: Shapes) -> Kind | None:
    """The kind of adapter whose tensors these are; None for what is none."""
    return next((kind for kind, recognises in RECOGNISED if recognises(shapes)), None)


def plain_name(path: Path) -> str:
    """A name that prompts can have: the file's, without its ending and without the marks of `<lora:name:1>`."""
    return re.sub(r"[<>:]", "_", path.stem)


@lru_cache(maxsize=256)
def tensors_sha256(file: AdapterFile) -> str:
    """The SHA-256 by which web UIs know a LoRA: of what follows the header, whatever that says by now.

    A trainer may have written it into the header (`sshs_model_hash`). Of a file of another kind that of the whole file.
    """
    said = file.metadata.get("sshs_model_hash", "").lower()
    if re.fullmatch("[0-9a-f]{64}", said):
        return said
    return sha256_of_tensors(file.path) or file.sha256
