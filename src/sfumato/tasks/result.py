"""What a task drew, and how a program keeps or shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import torch
from PIL import Image
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.files import short_path
from sfumato.images.files import FORMATS, save
from sfumato.images.sheets import contact_sheet
from sfumato.pipeline.events import Picture

COLUMNS = 4  # of the sheet that a notebook shows


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a task drew: pictures by rising seed, the seeds that draw them again, and their settings as text.

    With `best_of` the best is first, and there are `scores`. `latents` (n, C, h, w) are what the pictures were decoded
    from, where all of them were decoded from latents of one shape; else None.

    A result is also a sequence of its pictures: `result[0]` is the first, `len(result)` counts them, `for` goes through
    them, and a slice is a result with some of them. Notebooks show them.

    >>> import sfumato
    >>> result = sfumato.load().txt2img("a red heart", n=2, seed=5, steps=2, width=128, height=128)
    >>> result
    <Result: 2 pictures of 128x128, seeds 5, 6>
    >>> len(result), result[0] is result.images[0], result[1:].seeds
    (2, True, [6])
    """

    images: list[Image.Image]
    seeds: list[int]
    infotexts: list[str]
    scores: list[float | None] = field(default_factory=list)
    latents: Tensor | None = None

    @classmethod
    def of(cls, pictures: Iterable[Picture]) -> Result:
        """The result of a task that finished these pictures, in any order."""
        ordered = sorted(pictures, key=lambda picture: picture.index)
        rows = [picture.latents for picture in ordered if picture.latents is not None]
        stacked = len(rows) == len(ordered) > 0 and len({row.shape for row in rows}) == 1
        return cls(
            [picture.image for picture in ordered],
            [picture.seed for picture in ordered],
            [picture.infotext for picture in ordered],
            [picture.score for picture in ordered],
            torch.cat(rows) if stacked else None,
        )

    @classmethod
    def joined(cls, results: Iterable[Result]) -> Result:
        """One result of several, in their order."""
        each = list(results)
        rows = [one.latents for one in each if one.latents is not None]
        stacked = len(rows) == len(each) > 0 and len({row.shape[1:] for row in rows}) == 1
        return cls(
            [image for one in each for image in one.images],
            [seed for one in each for seed in one.seeds],
            [text for one in each for text in one.infotexts],
            [score for one in each for score in one.scores],
            torch.cat(rows) if stacked else None,
        )

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write all pictures with their settings inside; returns the files.

        `path` is the name of a file (.png .jpg .webp) in which `{seed}` and `{index}` stand for those of a picture;
        where there are several pictures and neither is there, the seed is put before the suffix. A name without a
        suffix is a folder, in which files are named after seeds. Files that are there stay, unless `overwrite` is True.
        Raises SfumatoError for such files, before any is written, and for what cannot be written.

        >>> import sfumato, tempfile
        >>> result = sfumato.load().txt2img("a red heart", n=2, seed=5, steps=1, width=128, height=128)
        >>> [file.name for file in result.save(tempfile.mkdtemp() + "/heart.png")]
        ['heart-5.png', 'heart-6.png']
        """
        files = list(self._names(str(path)))
        try:
            there = next((file for file in files if file.exists()), None)
        except OSError as error:  # a name that is too long for any file
            raise SfumatoError(f"cannot write {short_path(path)}: {error.strerror}; choose another name") from None
        if there is not None and not overwrite:
            raise SfumatoError(f"{there} is there already; choose another name, or say overwrite=True")
        for file, image, text in zip(files, self.images, self.infotexts, strict=True):
            try:
                save(image, file, text, replace=overwrite)
            except FileExistsError:  # it came meanwhile
                raise SfumatoError(f"{file} is there already; choose another name, or say overwrite=True") from None
        return files

    def _names(self, path: str) -> Iterator[Path]:
        folder = not Path(path).suffix or path.endswith("/")
        if not folder and Path(path).suffix.lower() not in FORMATS:
            raise SfumatoError(f"cannot write pictures as {path}; use {', '.join(FORMATS)}, or a folder")
        if folder:
            path = str(Path(path) / "{seed}.png")
        elif len(self) > 1 and not any(mark in path for mark in ("{seed}", "{index}")):
            path = str(Path(path).with_stem(Path(path).stem + "-{seed}"))
        if "{index}" not in path and len(set(self.seeds)) < len(self):  # variations share their seed
            path = path.replace("{seed}", "{seed}-{index}")
        for index, seed in enumerate(self.seeds):
            yield Path(path.replace("{seed}", str(seed)).replace("{index}", str(index)))

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.images)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> Result: ...
    def __getitem__(self, index: int | slice) -> Image.Image | Result:
        if not isinstance(index, slice):
            return self.images[index]
        latents = None if self.latents is None else self.latents[index]
        return Result(self.images[index], self.seeds[index], self.infotexts[index], self.scores[index], latents)

    def __repr__(self) -> str:
        sizes = {f"{image.width}x{image.height}" for image in self.images}
        many = f"{len(self)} picture{'' if len(self) == 1 else 's'}"
        of = f" of {sizes.pop()}" if len(sizes) == 1 else ""
        seeds = ", ".join(map(str, self.seeds[:COLUMNS])) + (", ..." if len(self) > COLUMNS else "")
        return f"<Result: {many}{of}, seed{'' if len(self) == 1 else 's'} {seeds}>"

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the picture, or all of them on a sheet."""
        if not self.images:
            return None
        shown = self.images[0] if len(self) == 1 else contact_sheet(self.images, columns=min(COLUMNS, len(self)))
        return shown._repr_png_()
