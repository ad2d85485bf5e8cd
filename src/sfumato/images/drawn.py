"""A drawn picture: one of Pillow's that keeps its settings wherever it is saved."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.images.files import FORMATS, text_options


class DrawnImage(Image.Image):
    """A picture with the settings that drew it. `save` writes them into PNG, JPEG and WebP files, as web UIs do.

    They stay with copies, and with what notebooks show; what is cropped or resized is another picture, without them.
    Two pictures are equal if their pixels are.

    >>> from sfumato.images.drawn import DrawnImage
    >>> image = DrawnImage.of(Image.new("RGB", (8, 8)), "a cat")
    >>> image.infotext, image.copy().infotext, image.resize((4, 4)) == image
    ('a cat', 'a cat', False)
    """

    infotext: str  # the settings as text, as `Result.infotexts` has them
    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def of(cls, image: Image.Image, infotext: str) -> DrawnImage:
        """The picture with a text; the pixels are shared."""
        drawn = cls()
        drawn._im, drawn._mode, drawn._size = image.im, image.mode, image.size  # as Pillow's own `_new`
        drawn.info = dict(image.info)
        drawn.infotext = infotext
        return drawn

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """As Pillow's, with the settings; whoever gives `pnginfo` or `exif` decides alone."""
        named = Path(os.fsdecode(fp)).suffix.lower() if isinstance(fp, str | bytes | os.PathLike) else ""
        kind = (format or FORMATS.get(named, "")).upper().replace("JPG", "JPEG")
        if kind in FORMATS.values() and not {"pnginfo", "exif"} & params.keys():
            params |= text_options(kind, self.infotext)
        super().save(fp, format, **params)

    def copy(self) -> DrawnImage:
        return DrawnImage.of(super().copy(), self.infotext)

    def __getstate__(self) -> list[Any]:
        return [*super().__getstate__(), self.infotext]

    def __setstate__(self, state: list[Any]) -> None:
        super().__setstate__(state[:-1])
        self.infotext = state[-1]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Image.Image):
            return NotImplemented
        return (self.mode, self.size) == (other.mode, other.size) and self.tobytes() == other.tobytes()
