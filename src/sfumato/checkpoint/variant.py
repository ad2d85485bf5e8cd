"""A variant of a model: one small file with the differences of its weights from those of the base it was made for.

The header names the base and the SHA-256 of the base's weights, and says what changes in its JSON files. Opened, it is
the whole model: every tensor is the base's with its difference added, so loading, inspecting and converting know no
variants.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato import user_config as settings
from sfumato.checkpoint import embedded_files
from sfumato.checkpoint.checkpoint import Checkpoint, Stored
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.formats.fp8 import compact
from sfumato.checkpoint.hashes import hashed_file, sha256
from sfumato.errors import SfumatoError

KEY = "sfumato.variant"
UP, DOWN, FULL = ".up", ".down", ".full"  # what a file adds to a tensor's name

Changes = Mapping[str, Mapping[str, Any]]


def delta(up: Tensor, down: Tensor, shape: tuple[int, ...]) -> Tensor:
    """B A, up (N, r) times down (r, K), as the difference of a weight (N, ...) with K values in every row."""
    return (up @ down).reshape(shape)


def place(base: str) -> Path:
    """Where the model of that name or path lies."""
    return settings.shipped(base) if Path(base).name == base else Path(base)


@dataclass(frozen=True)
class Header:
    """`base` is the name of what ships with sfumato, or a path; `changes` the new fields of its JSON files.

    `without` are the parts of the base that the variant does not have, by their names in model_index.json.
    """

    base: str
    sha256: str
    changes: Changes
    without: tuple[str, ...] = ()

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Header | None:
        """None for a file that is no variant. Raises SfumatoError for one whose header is broken."""
        if KEY not in checkpoint.metadata:
            return None
        try:
            value = json.loads(checkpoint.metadata[KEY])
            header = cls(value["base"], value["sha256"], value["changes"], tuple(value.get("without", ())))
            texts = isinstance(header.base, str) and isinstance(header.sha256, str)
            texts &= all(isinstance(part, str) for part in header.without)
            if not texts or not all(isinstance(fields, dict) for fields in header.changes.values()):
                raise TypeError
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise SfumatoError(f"{checkpoint.path} is a variant with a broken header; export it again") from error
        return header

    def find(self, where: Path) -> Path:
        """The base. Raises SfumatoError where it is missing, or is no longer what the variant was made for."""
        path = place(self.base)
        if not path.exists():
            raise SfumatoError(f"{where} is a variant of {self.base!r}, which is not there; put it back at that place")
        file = hashed_file(path)
        found = "" if file is None else sha256(file)
        if found != self.sha256:
            raise SfumatoError(
                f"{where} is a variant of {path} with the hash {self.sha256[:10]}, "
                f"which now has {found[:10] or 'none'}; give it that base back, or train the variant again"
            )
        return path


@dataclass(frozen=True)
class Changed(Stored):
    """A tensor of the base with its difference added; new rows and columns of it begin at zero."""

    base: Stored = field(kw_only=True)
    parts: tuple[Stored, ...] = field(kw_only=True, repr=False)

    def read(self) -> Tensor:
        """The sum, in the base's precision: a copy."""
        parts = [part.read().float() for part in self.parts]
        value = delta(parts[0], parts[1], self.shape) if len(parts) == 2 else parts[0].clone()
        value[tuple(map(slice, self.base.shape))] += self.base.read().float()
        return value.to(self.dtype)

    def release(self) -> None:
        for one in (self.base, *self.parts):
            one.release()


def write(path: Path, base: str, changes: Changes, tensors: Mapping[str, Tensor], without: Sequence[str] = ()) -> None:
    """Write a variant of `base`, the name of a shipped model or the path of one in the folder layout.

    Tensors are stored as `fp8.compact` says. The base's folders `without` are left out.

    `tensors` are named as in the folder (`unet/conv_in.weight`), with `.up` and `.down` or `.full` for a difference;
    others are new.
    """
    file = hashed_file(place(base))
    if file is None:
        raise SfumatoError(f"{base} is no model in the folder layout; give the path of one")
    header = {"base": base, "sha256": sha256(file), "changes": changes, "without": list(without)}
    stored = {name: compact(tensor.detach().cpu()) for name, tensor in tensors.items()}
    heads = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in stored.items()}
    safetensors_file.write(path, heads, stored.__getitem__, {"format": "pt", KEY: json.dumps(header)})


def merged(variant: Checkpoint, header: Header, base: Checkpoint) -> Checkpoint:
    """The whole model. Raises SfumatoError for differences that do not fit the base's tensors."""
    left_out = tuple(f"{part}/" for part in header.without)
    tensors = {name: stored for name, stored in base.tensors.items() if not name.startswith(left_out)}
    for name, stored in variant.tensors.items():
        plain = name.removesuffix(UP).removesuffix(FULL)
        if name.endswith(UP):
            tensors[plain] = _low_rank(variant, plain, base.tensors.get(plain))
        elif name.endswith(FULL):
            tensors[plain] = _full(variant, plain, base.tensors.get(plain))
        elif not name.endswith(DOWN):
            tensors[name] = stored
    files = embedded_files.of_folder(base.path, base.configs.get("model_index", {}))
    files = {name: content for name, content in files.items() if not name.startswith(left_out)}
    for name, fields in header.changes.items():
        known = json.loads(files.get(name, b"{}"))
        if name == "model_index.json":
            known = {part: value for part, value in known.items() if part not in header.without}
        files[name] = (json.dumps(known | fields, indent=2, sort_keys=True) + "\n").encode()
    return Checkpoint(
        variant.path,
        "variant",
        tensors,
        [*variant.files, *base.files],
        configs=embedded_files.configs(files, variant.path),
        embedded_files=files,
    )


def _low_rank(variant: Checkpoint, name: str, base: Stored | None) -> Changed:
    up, down = variant.tensors[name + UP], variant.tensors.get(name + DOWN)
    if base is None or down is None or len(down.shape) != 2 or not base.shape:
        raise _misfit(variant, name)
    rank, width = down.shape
    if up.shape != (base.shape[0], rank) or width != math.prod(base.shape[1:]):
        raise _misfit(variant, name)
    return Changed(base.file, base.start, base.shape, base.dtype, base=base, parts=(up, down))


def _full(variant: Checkpoint, name: str, base: Stored | None) -> Changed:
    full = variant.tensors[name + FULL]
    if base is None or len(full.shape) != len(base.shape) or any(map(int.__lt__, full.shape, base.shape)):
        raise _misfit(variant, name)
    return Changed(base.file, base.start, full.shape, base.dtype, base=base, parts=(full,))


def _misfit(variant: Checkpoint, name: str) -> SfumatoError:
    return SfumatoError(f"{variant.path} changes {name} in a way that does not fit its base; train it again")
