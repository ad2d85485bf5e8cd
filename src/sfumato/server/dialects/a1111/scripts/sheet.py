"""The sheet on which a script lays the pictures of its jobs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from PIL import Image

from sfumato.images.files import open_image
from sfumato.images.sheets import Place, labelled_sheet
from sfumato.server.dialects.a1111.pictures import png, sent
from sfumato.server.dialects.a1111.replies import Drawn
from sfumato.server.dialects.a1111.scripts.base import Finished


def sheets(
    labels: Sequence[Sequence[str]], parts: bool = False, lone: bool = False, legend: bool = True
) -> Callable[[Sequence[Finished]], list[Drawn]]:
    """What makes a sheet of one picture a job; the first axis of `labels` runs fastest through the jobs.

    With `parts` a sheet for each value of a third axis follows, with `lone` the pictures themselves.
    """
    shown = labels if legend else [[""] * len(axis) for axis in labels]

    def made(jobs: Sequence[Finished]) -> list[Drawn]:
        order = [place[::-1] for place in product(*(range(len(axis)) for axis in reversed(labels)))]
        drawn = {place: job[0] for place, job in zip(order, jobs, strict=True) if job}
        if not drawn:
            return []
        pictures = {place: open_image(path) for place, (path, _) in drawn.items()}
        text = next(iter(drawn.values()))[1]
        found = [_drawn(shown, pictures, text)]
        if parts and len(labels) > 2 and len(labels[2]) > 1:
            for third in range(len(labels[2])):
                part = {place[:2]: image for place, image in pictures.items() if place[2] == third}
                found += [_drawn(shown[:2], part, text)] if part else []
        return found + ([Drawn(sent(path, one, "png"), one) for path, one in drawn.values()] if lone else [])

    return made


def _drawn(labels: Sequence[Sequence[str]], pictures: dict[Place, Image.Image], text: str) -> Drawn:
    return Drawn(png(labelled_sheet(labels, pictures), text), text)
