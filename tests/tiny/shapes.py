"""A tiny emoji set: shapes of 32 px in all six styles, under the codes of things that scenes are composed of."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from sfumato.data.emoji import captions
from sfumato.data.emoji.build import FORMAT, MANIFEST
from sfumato.data.emoji.captions import Concept
from sfumato.data.emoji.nouns import nouns

SIZE = 32
SHAPES = ("circle", "square", "bar", "pole")
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 80, 230), "gold": (240, 200, 30)}
EXTRAS = ("big", "small")


def picture(shape: str, colour: str, extra: str, style: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    reach = (14 if extra == "big" else 8) - style / 2
    inside = {
        "circle": x**2 + y**2 < reach**2,
        "square": np.maximum(abs(x), abs(y)) < reach,
        "bar": (abs(x) < reach) & (abs(y) < 4),
        "pole": (abs(x) < 4) & (abs(y) < reach),
    }[shape]
    picture = np.zeros((SIZE, SIZE, 4), np.uint8)
    picture[..., :3] = np.array(COLOURS[colour]) - 5 * style
    picture[..., 3] = 255 * inside
    return picture


def build_set(folder: Path) -> None:
    names = [(s, c, e) for s in SHAPES for c in COLOURS for e in EXTRAS]
    concepts = [
        Concept(
            noun.hex,
            noun.emoji,
            "objects",
            "shapes",
            dict.fromkeys(captions.LANGUAGES, f"{extra} {colour} {shape}"),
            dict.fromkeys(captions.LANGUAGES, (shape, colour)),
        )
        for noun, (shape, colour, extra) in zip(nouns(), names, strict=False)
    ]
    codes = [concept.hex for concept in concepts]
    folder.mkdir(parents=True)
    written = {"concepts.json": [dataclasses.asdict(concept) for concept in concepts]}
    written["holdout.json"] = {"concepts": codes[:2], "pictures": [f"3d/{codes[5]}", f"flat/{codes[9]}"]}
    for number, style in enumerate(captions.STYLES):
        written[f"images-{style}.json"] = {"hex": codes}
        np.save(folder / f"images-{style}.npy", np.stack([picture(*name, number) for name in names]))
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content))
    files = {path.name: {"bytes": path.stat().st_size} for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "size": SIZE, "files": files}))
