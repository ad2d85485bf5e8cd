"""The invisible watermark: pictures and bits as the original library makes and reads them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.images.files import open_image
from sfumato.provenance.watermark import decode, embed
from sfumato.verify.cases import UNKNOWN, Case, Result, counted, failed, failing, indexed, read_json, stem

LEVELS = 1  # by which a pixel may differ: the conversions between colour spaces round


def find(folder: Path) -> Iterator[Case]:
    return indexed(folder, "watermark", _pictures)


def _pictures(folder: Path, index: Path, known: set[str]) -> Iterator[Case]:
    for entry in read_json(index)["cases"]:
        known |= {entry["input"], entry["output"]}
        name = f"watermark/{stem(Path(entry['output']))}"
        if entry["method"] != "dwtDct":
            yield failing(name, UNKNOWN)
        else:
            yield Case(name, partial(_compare, folder, entry))


def _compare(folder: Path, entry: dict[str, Any]) -> Result:
    """Our marked picture against theirs, and the bits we read from their two pictures against those they read."""
    plain, marked = (np.asarray(open_image(folder / entry[which])) for which in ("input", "output"))
    if plain.shape != marked.shape:
        return failed(f"pictures of shape {plain.shape} and {marked.shape}")
    bits = [int(bit) for bit in entry["message_bits"]]
    ours = embed(plain, np.packbits(bits).tobytes())
    pixels = int((np.abs(ours.astype(int) - marked.astype(int)) > LEVELS).sum())
    wrong = 0
    for picture, field in ((marked, "decoded_bits_from_output"), (plain, "decoded_bits_from_unmarked_input")):
        theirs = np.array([int(bit) for bit in entry[field]], dtype=bool)
        wrong += int((decode(picture, len(bits)) != theirs).sum())
    return counted(pixels + wrong, marked.size + 2 * len(bits))
