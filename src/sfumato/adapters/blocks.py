"""Weights for the blocks of a U-Net: "IN04", "MID", "OUT03" ..., and "BASE" for all else and the text encoders.

The lists and their names are those of the web UI's extension "LoRA Block Weight". A transformer has no such blocks; its
modules, and those of a U-Net, can also be named as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

Factors = tuple[tuple[str, float], ...]
"""Blocks or modules with what their strength is multiplied by."""


def _numbered(side: str, numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{side}{number:02}" for number in numbers)


# What the numbers of a list mean, by how many there are: blocks with attention, or all; of 1.x and 2.x, or of XL.
LISTS: dict[int, tuple[str, ...]] = {
    17: ("BASE", *_numbered("IN", (1, 2, 4, 5, 7, 8)), "MID", *_numbered("OUT", range(3, 12))),
    26: ("BASE", *_numbered("IN", range(12)), "MID", *_numbered("OUT", range(12))),
    12: ("BASE", *_numbered("IN", (4, 5, 7, 8)), "MID", *_numbered("OUT", range(6))),
    20: ("BASE", *_numbered("IN", range(9)), "MID", *_numbered("OUT", range(9))),
}
# Which of the blocks of 17 a name leaves as they are; all others are 0.
NAMES: dict[str, tuple[str, ...]] = {
    "NONE": (),
    "ALL": LISTS[26],
    "INS": ("BASE", "IN01", "IN02"),
    "IND": ("BASE", "IN05", "IN07", "IN08"),
    "INALL": ("BASE", *_numbered("IN", range(12))),
    "MIDD": ("BASE", "IN05", "IN07", "IN08", "MID", *_numbered("OUT", range(3, 7))),
    "OUTD": ("BASE", *_numbered("OUT", range(3, 7))),
    "OUTS": ("BASE", *_numbered("OUT", range(7, 12))),
    "OUTALL": ("BASE", *_numbered("OUT", range(12))),
}
FORM = "give 12, 17, 20 or 26 numbers, a name such as OUTALL, or blocks such as IN04=0.5,MID=0"


def read(text: str) -> Factors:
    """What a text such as "OUTALL", "1,0,0 ..." or "IN04=0.5,MID=0" says. Raises ValueError.

    Blocks that a list or a name leaves out are 0, those that single blocks leave out stay.
    """
    parts = [part.strip() for part in text.split(",")]
    if parts[0].upper() in NAMES and len(parts) == 1:
        kept = NAMES[parts[0].upper()]
        return tuple((block, float(block in kept)) for block in LISTS[26])
    try:
        if all("=" in part for part in parts):
            pairs = (part.rsplit("=", 1) for part in parts)
            return tuple((_block(name.strip()), float(value)) for name, value in pairs)
        numbers = [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"the weights of blocks are {text!r}; {FORM}") from None
    if len(numbers) not in LISTS:
        raise ValueError(f"there are {len(numbers)} weights of blocks; {FORM}")
    given = dict(zip(LISTS[len(numbers)], numbers, strict=True))
    return tuple((block, given.get(block, 0.0)) for block in LISTS[26])


def _block(name: str) -> str:
    return name.upper() if name.upper() in LISTS[26] else name


def factor(factors: Factors, block: str, module: str) -> float:
    """What the strength of a layer is multiplied by, given its block and the name of its module."""
    for name, value in factors:
        if name == block or f"{module}.".startswith(f"{name}."):
            return value
    return 1.0
