"""Files of textual inversion, and hypernetworks: what is read of the first, and what the others make of an input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sfumato.adapters import hypernetwork, textual_inversion
from sfumato.adapters.textual_inversion import TextualInversion
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.nets.hypernetwork import Preceded
from sfumato.verify.cases import Case, Result, close, failed, indexed, read_json, read_tensors, stem


def find(folder: Path) -> Iterator[Case]:
    return indexed(folder, "embeddings", _cases)


def _cases(folder: Path, index: Path, known: set[str]) -> Iterator[Case]:
    content = read_json(index)
    for name, entry in content["hypernetwork"]["cases"].items():
        known |= {entry["file"], entry["io"]}
        yield Case(f"embeddings/{name}", partial(_hypernetwork, folder, entry))
    files = {name: said for name, said in content["textual_inversion"]["files"].items() if (folder / name).suffix}
    known.update(files)
    for name, said in files.items():
        yield Case(f"embeddings/{stem(Path(name))}", partial(_vectors, folder, name, str(said), list(files)))


def _hypernetwork(folder: Path, entry: dict[str, Any]) -> Result:
    """Keys and values for every width that the reference has an input of."""
    with open_checkpoint(folder / entry["file"]) as checkpoint:
        ours = hypernetwork.read(checkpoint)
    tensors, strength = read_tensors(folder / entry["io"]), float(entry["strength"])
    pairs: list[tuple[Tensor, Tensor]] = []
    for name in (name for name in tensors if name.startswith("in.")):
        width = name.removeprefix("in.")
        for side, layers in (("out_k", ours.keys), ("out_v", ours.values)):
            if width not in layers:
                return failed(f"the file has no layers for the width {width}")
            changed = Preceded(nn.Identity(), [(layers[width], strength)])(tensors[name])
            pairs.append((changed, tensors[f"{side}.{width}"]))
    if not pairs:
        return failed("the reference holds no input")
    return close(pairs, float(entry["tolerance"]))


def _vectors(folder: Path, name: str, said: str, names: list[str]) -> Result:
    """The vectors of a file beside those of the first that has as many; a single one is the first row of the others."""
    ours = textual_inversion.read(folder / name)
    shape = re.search(r"\[(\d+)(?:, ?(\d+))?\]", said)
    count = 1 if shape is None or shape[2] is None else int(shape[1])
    if shape is not None and ours.count != count:
        return failed(f"{ours.count} vectors, expected {count}")
    mine = _first(ours)
    others = (textual_inversion.read(folder / other) for other in names if other != name)
    whole = next((other for other in others if other.count >= ours.count), None)
    if whole is None:
        raise SfumatoError("no other file holds these vectors")
    return close([(mine, _first(whole)[: len(mine)])], 1e-6)


def _first(found: TextualInversion) -> Tensor:
    """The vectors for the only text tower, or for the first."""
    return found.vectors["clip" if "clip" in found.vectors else "clip_l"]
