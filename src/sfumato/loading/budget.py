"""How a model is held within so much memory: what of it is loaded, what stays in its file, what is decoded in tiles."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sfumato.errors import SfumatoError

LIBRARY = 400 * 10**6  # bytes of the interpreter with torch and this package
WORKSPACE = 1.5  # what kernels take beside the tensors that they work on, as a factor of these
TILES = (None, 768, 512, 384, 256)  # sides in pixels of the autoencoder's tiles; None: the picture as a whole
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Part:
    """Bytes of a network: its weights once loaded, the same in the file, and what reading its largest one takes."""

    loaded: int
    stored: int
    layer: int


@dataclass(frozen=True)
class Budget:
    """How a model is held within `memory` bytes.

    Of the parts in `streamed` the weights stay in the file and are read when they are used; so many bytes of each are
    kept in memory. All other parts are loaded. `tile` is the side of the autoencoder's tiles in pixels, None without
    tiles. `peak` is what drawing one picture is expected to take, the program itself included.
    """

    memory: int
    streamed: Mapping[str, int]
    tile: int | None
    peak: int

    def manner(self, name: str, part: Part) -> str:
        """Says in words how a part is held."""
        if name not in self.streamed:
            return "loaded"
        kept = self.streamed[name]
        if kept >= part.stored:
            return "kept as stored, unpacked layer by layer"
        if not kept:
            return "streamed from the file"
        return f"{kept / 1e9:.2f} GB kept as stored, {(part.stored - kept) / 1e9:.2f} GB streamed from the file"


def fit(parts: Mapping[str, Part], step: int, decode: Callable[[int | None], int], memory: int, title: str) -> Budget:
    """Hold a model within `memory` bytes; `parts` in the order in which they are worth keeping, first what draws.

    `step` and `decode(tile)` are the bytes that a step and the decoding of a picture take beside the weights. Tiles
    cost more time than streaming, so they are taken only where nothing else helps. Raises SfumatoError where not even
    that is enough.
    """
    names = list(parts)
    for tile in TILES:
        decoding = decode(tile)
        needed = LIBRARY + max(
            int(WORKSPACE * step) + parts[names[0]].layer,
            int(WORKSPACE * decoding) + parts["vae"].layer,
            *(parts[name].layer for name in names),
        )
        if needed <= memory:
            break
    else:
        raise SfumatoError(
            f"{title} takes at least {needed / 1e9:.2f} GB, and {memory / 1e9:.2f} are allowed; give it more memory"
        )
    room, streamed = memory - needed, dict[str, int]()
    for name, part in parts.items():
        if part.loaded <= room:
            room -= part.loaded
            continue
        streamed[name] = min(part.stored, room)
        room -= streamed[name]
    return Budget(memory, MappingProxyType(streamed), tile, memory - room)


def parse_memory(value: str | int) -> int:
    """Bytes of "4G", "4.5 GB", "800M" or "3GiB", or a number of bytes. Raises SfumatoError."""
    match = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kmgtKMGT]?)(i?)[bB]?\s*", str(value))
    if match is None or isinstance(value, bool) or (match[3] and not match[2]):
        raise SfumatoError(f"memory is {value!r}; give a size such as 4G or 800M")
    unit = UNITS[match[2].upper()]
    if match[3]:
        unit = 1 << (10 * list(UNITS).index(match[2].upper()))
    return int(float(match[1]) * unit)
