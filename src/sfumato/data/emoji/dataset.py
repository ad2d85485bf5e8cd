"""Reads the emoji set: memory-mapped pictures, concepts, splits and captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sfumato.data.emoji import captions
from sfumato.data.emoji.build import FORMAT, MANIFEST
from sfumato.data.emoji.captions import Concept
from sfumato.data.protocol import Rgb
from sfumato.errors import SfumatoError

SPLITS = ("train", "unseen_concept", "unseen_picture")


class EmojiData:
    """A set that `sfumato data build emoji` made; the pictures stay on disk and are mapped into memory.

    Pictures are numbered style by style in the order of `captions.STYLES`. Raises SfumatoError if the folder is not a
    complete set.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            raise SfumatoError(
                f"{self.path} is not a complete emoji set (no {MANIFEST}); run `sfumato data build emoji {self.path}`"
            )
        try:
            manifest = self._json(MANIFEST)
            if manifest["format"] != FORMAT:
                raise SfumatoError(
                    f"{self.path} has format {manifest['format']}, expected {FORMAT}; build it again in a new folder"
                )
            self.size: int = manifest["size"]
            self._check_files(manifest["files"])
            self.concepts: tuple[Concept, ...] = tuple(_concept(entry) for entry in self._json("concepts.json"))
            rows = {style: self._json(f"images-{style}.json")["hex"] for style in captions.STYLES}
            held_out = self._json("holdout.json")
            self._concepts_held_out = frozenset(held_out["concepts"])
            self._pictures_held_out = frozenset(held_out["pictures"])
        except (KeyError, TypeError, ValueError) as error:
            raise SfumatoError(f"{self.path} is damaged ({error}); delete the folder and build it again") from error
        by_hex = {concept.hex: i for i, concept in enumerate(self.concepts)}
        unknown = {code for codes in rows.values() for code in codes} - by_hex.keys()
        if unknown:
            raise SfumatoError(f"{self.path}: pictures without a concept, such as {min(unknown)}; build the set again")
        self._pictures = {style: self._map(style, len(codes)) for style, codes in rows.items()}
        self._styles = [style for style, codes in rows.items() for _ in codes]
        self._rows = [row for codes in rows.values() for row in range(len(codes))]
        self._concept_of = [by_hex[code] for codes in rows.values() for code in codes]
        self._where = {(self.concept(i).hex, self.style(i)): i for i in range(len(self))}

    def __len__(self) -> int:
        return len(self._rows)

    def picture(self, i: int) -> np.ndarray:
        """Returns picture i as uint8 RGBA (size, size, 4), straight alpha; a read-only view of the file."""
        return self._pictures[self._styles[i]][self._rows[i]]

    def pictures(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns a copy of several pictures, uint8 (N, size, size, 4)."""
        return np.stack([self.picture(int(i)) for i in indices])

    def concept(self, i: int) -> Concept:
        """Returns the concept that picture i shows."""
        return self.concepts[self._concept_of[i]]

    def concept_index(self, i: int) -> int:
        """Returns the place in `concepts` of the concept that picture i shows."""
        return self._concept_of[i]

    def style(self, i: int) -> str:
        """Returns the style of picture i, one of `captions.STYLES`."""
        return self._styles[i]

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages of names and captions."""
        return captions.LANGUAGES

    @property
    def subjects(self) -> int:
        """The number of concepts."""
        return len(self.concepts)

    @property
    def groups(self) -> Sequence[str]:
        """The styles, in the order of the picture numbers."""
        return captions.STYLES

    @property
    def grounds(self) -> Sequence[tuple[Rgb, Rgb]]:
        """The lowest and highest 8-bit RGB values of each named colour."""
        return [(colour.low, colour.high) for colour in captions.COLOURS]

    @property
    def manifest(self) -> bytes:
        """The content of the manifest, which lists all files of the set with their hashes."""
        return (self.path / MANIFEST).read_bytes()

    def subject(self, i: int) -> int:
        """Returns the place in `concepts` of the concept that picture i shows."""
        return self._concept_of[i]

    def group(self, i: int) -> str:
        """Returns the style of picture i."""
        return self._styles[i]

    def prompt(self, subject: int, group: str, language: str) -> str:
        """Returns the concept's name and the style in a language."""
        return captions.prompt(self.concepts[subject], group, language)

    def find(self, hex: str, style: str) -> int | None:
        """Returns the number of the picture of this concept in this style, or None if there is none."""
        return self._where.get((hex, style))

    def split(self, i: int) -> str:
        """Returns the split of picture i, one of SPLITS: for training, of a held-out concept, or itself held out."""
        code = self.concept(i).hex
        if code in self._concepts_held_out:
            return "unseen_concept"
        return "unseen_picture" if f"{self.style(i)}/{code}" in self._pictures_held_out else "train"

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        """The numbers of the pictures of each split, int64, ascending."""
        names = [self.split(i) for i in range(len(self))]
        return {split: np.array([i for i, name in enumerate(names) if name == split], np.int64) for split in SPLITS}

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except OSError as error:
            raise SfumatoError(f"cannot read {self.path / name}: {error.strerror}; build the set again") from error

    def _check_files(self, files: dict[str, dict]) -> None:
        for name, expected in files.items():
            file = self.path / name
            size = file.stat().st_size if file.is_file() else None
            if size != expected["bytes"]:
                found = "missing" if size is None else f"{size} bytes"
                raise SfumatoError(
                    f"{file} is {found}, expected {expected['bytes']} bytes; delete {MANIFEST} and build again"
                )

    def _map(self, style: str, count: int) -> np.ndarray:
        pictures = np.load(self.path / f"images-{style}.npy", mmap_mode="r", allow_pickle=False)
        expected = (count, self.size, self.size, 4)
        if pictures.shape != expected or pictures.dtype != np.uint8:
            raise SfumatoError(
                f"{self.path}/images-{style}.npy is {pictures.dtype} {pictures.shape}, expected uint8 {expected}; "
                "build the set again"
            )
        return pictures


def _concept(entry: dict) -> Concept:
    keywords = {language: tuple(words) for language, words in entry["keywords"].items()}
    return Concept(entry["hex"], entry["emoji"], entry["group"], entry["subgroup"], entry["names"], keywords)
