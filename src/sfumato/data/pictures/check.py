"""What a set of one's own pictures holds, and what looks wrong with it, before hours of training show it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfumato.data.pictures.captions import names_trigger, plain_caption
from sfumato.data.pictures.entry import Entry, decoded, named
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.picture_set import RATIO, PictureSet
from sfumato.data.pictures.protocol import Pair
from sfumato.data.pictures.readers.caption_files import may_be_missing
from sfumato.data.pictures.readers.find import OwnPictures, all_entries
from sfumato.data.pictures.readers.folder import left_over
from sfumato.errors import SfumatoError
from sfumato.typed import build

CUT = 0.2  # share of a picture that cropping takes away, from which it is noted
ENLARGED = 1.25  # from which an enlargement is noted
ALIKE = 3  # bits of 64 by which the hashes of pictures that look equal differ
MOST_COMPARED = 4000  # pictures that are compared with each other


@dataclass(frozen=True)
class BucketReport:
    """A bucket: the size of its batches, its pictures, and its samples in an epoch."""

    size: Pair
    pictures: int
    samples: int


@dataclass
class Report:
    """What a set holds. `errors` would stop training; `notes` only look wrong.

    `captions` are the pictures' plain captions; `epoch` counts samples.
    """

    pictures: int = 0
    regularisation: int = 0
    masks: int = 0
    held_out: int = 0
    epoch: int = 0
    resolution: int = 0
    buckets: list[BucketReport] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Seen:
    """An entry whose picture could be decoded, the hash of its bytes and that of its looks."""

    entry: Entry
    content: str
    looks: np.ndarray


class CheckedPictures:
    """Pictures at a path, which are all looked at when a method asks for them: a `protocol.SampleSource`.

    `reports` are what was found; `each` may show progress. Raises SfumatoError for the first error there is.
    """

    def __init__(self, path: Path, batch: int, each: Callable[[Sequence[Entry]], Iterable[Entry]] = iter) -> None:
        self.path, self.batch, self._each = path, batch, each
        self.reports: list[Report] = []

    def samples(self, options: Mapping[str, Any], seed: int, resolution: int, multiple: int) -> PictureSet:
        """See `protocol.SampleSource`."""
        chosen = build(PictureOptions, dict(options), "[data]")
        self.reports.append(check(self.path, chosen, resolution, multiple, self.batch, self._each))
        if errors := self.reports[-1].errors:
            raise SfumatoError(f"the pictures at {self.path} are not ready ({len(errors)} errors): {errors[0]}")
        return OwnPictures(self.path).samples(options, seed, resolution, multiple)


def check(
    path: Path,
    options: PictureOptions,
    resolution: int,
    multiple: int,
    batch: int,
    each: Callable[[Sequence[Entry]], Iterable[Entry]] = iter,
) -> Report:
    """Looks at every picture and caption at a path, and returns what is there and what looks wrong.

    `resolution` and `multiple` are as for `SampleSource.samples`, `batch` is the number of samples in a batch. `each`
    may show progress. Raises SfumatoError only where the set cannot be read at all.
    """
    entries, options = all_entries(path, options)
    report = Report(pictures=len(entries))
    report.captions = [plain_caption(entry.captions, entry.options) for entry in entries]
    report.masks = sum(entry.mask is not None for entry in entries)
    report.regularisation = sum(entry.options.regularisation for entry in entries)
    seen = [one for entry in each(entries) if (one := _looked_at(entry, report)) is not None]
    _note_captions(entries, report)
    _note_copies(seen, report)
    if path.is_dir():
        report.notes += left_over(path, options)
    placed = _placed([one.entry for one in seen], options, resolution, multiple, report)
    if placed:
        _note_buckets(placed, batch, report)
    return report


def _looked_at(entry: Entry, report: Report) -> Seen | None:
    """Decodes a picture and its mask; what fails becomes an error of the report."""
    try:
        image = decoded(entry.source)
        if entry.mask is not None:
            _check_mask(entry, image, report)
        elif entry.options.masks == "alpha" and image.mode != "RGBA":
            report.notes.append(f"{entry.source.name} has nothing transparent, so that all of it counts")
        return Seen(entry, hashlib.sha256(entry.source.read()).hexdigest(), _looks(image))
    except SfumatoError as error:
        report.errors.append(str(error))
        return None


def _check_mask(entry: Entry, image: Image.Image, report: Report) -> None:
    assert entry.mask is not None
    mask = decoded(entry.mask).convert("L")
    if abs(mask.width * image.height / (mask.height * image.width) - 1) > RATIO:
        sizes = f"{mask.width}x{mask.height}, its picture {image.width}x{image.height}"
        report.errors.append(f"{entry.mask.name} is {sizes}; give a mask as large")
    if mask.getextrema()[1] == 0:
        report.notes.append(f"{entry.mask.name} is black, so that nothing of its picture is learnt")


def _looks(image: Image.Image) -> np.ndarray:
    """64 bits of how a picture looks, uint8 (8,): where on a grid it grows darker from left to right (dHash)."""
    grid = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return np.packbits(grid[:, 1:] < grid[:, :-1])


def _note_captions(entries: Sequence[Entry], report: Report) -> None:
    without = [one for one in entries if not one.captions]
    missing = [one.source.name for one in without if not may_be_missing(one.options)]
    empty = [one.source.name for one in without if may_be_missing(one.options)]
    lacking = [
        one.source.name
        for one in entries
        if one.options.trigger and not any(names_trigger(text, one.options.trigger) for text in one.captions)
    ]
    report.errors += _listed("pictures without a caption", missing)
    report.notes += _listed("pictures with an empty caption", empty)
    report.notes += _listed("captions without the trigger, which is put in front of them", lacking)
    own = [text for one, text in zip(entries, report.captions, strict=True) if not one.options.regularisation]
    if len(own) > 1 and len(set(own)) == 1:
        report.notes.append(f"all captions are the same: {own[0]!r}")


def _note_copies(seen: Sequence[Seen], report: Report) -> None:
    """Notes pictures that are there more than once, bit by bit or nearly."""
    by_content: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_content[one.content].append(one)
    for copies in by_content.values():
        if len(copies) > 1:
            report.notes += _listed("the same picture several times", _names(copies))
    different = [copies[0] for copies in by_content.values()][:MOST_COMPARED]
    for alike in _alike(different):
        report.notes += _listed("pictures that look alike", _names(alike))


def _alike(seen: Sequence[Seen]) -> list[list[Seen]]:
    """Groups of pictures whose looks differ in few bits; each group by its first picture."""
    looks = np.array([one.looks for one in seen]).reshape(-1, 8)
    groups, taken = [], np.zeros(len(seen), bool)
    for place in range(len(seen)):
        near = np.unpackbits(looks[place:] ^ looks[place], axis=1).sum(1) <= ALIKE
        near &= ~taken[place:]
        if not taken[place] and near.sum() > 1:
            groups.append([seen[place + int(step)] for step in np.flatnonzero(near)])
            taken[place:] |= near
    return groups


def _names(seen: Iterable[Seen]) -> list[str]:
    return [one.entry.source.name for one in seen]


def _listed(what: str, names: Sequence[str]) -> list[str]:
    """A line about some files, if there are any."""
    return [f"{what} ({len(names)}): {named(names)}"] if names else []


def _placed(
    entries: Sequence[Entry], options: PictureOptions, resolution: int, multiple: int, report: Report
) -> PictureSet | None:
    """The set of those pictures that a bucket takes; the others become errors of the report."""
    found = list(entries)
    while found:
        try:
            return PictureSet(found, options, 0, resolution, multiple)
        except SfumatoError as error:
            report.errors.append(str(error))
            small = [one for one in found if str(error).startswith(f"{one.source.name} has ")]
            if not small:
                return None
            found.remove(small[0])
    return None


def _note_buckets(data: PictureSet, batch: int, report: Report) -> None:
    sizes = Counter(data.placements[k].size for k in range(len(data)) if k not in data.held_out)
    report.buckets = [BucketReport(size, sizes[size], samples) for size, samples in data.sizes.items()]
    report.epoch, report.held_out, report.resolution = data.epoch, len(data.held_out), data.buckets.resolution
    for bucket in report.buckets:
        if bucket.pictures == 1 and batch > 1 and len(data) > 1:
            size = "x".join(map(str, bucket.size))
            report.notes.append(f"bucket {size} has a single picture, which fills a batch of {batch} alone")
    cut, enlarged, unused = [], [], []
    used = {int(number) for numbers in data.numbers for number in numbers}
    for number, (entry, placement) in enumerate(zip(data.entries, data.placements, strict=True)):
        (width, height), (w, h) = placement.scaled, placement.size
        if 1 - w * h / (width * height) > CUT:
            cut.append(entry.source.name)
        if width > ENLARGED * data.originals[number][0]:
            enlarged.append(entry.source.name)
        if number not in used and number not in data.held_out:
            unused.append(entry.source.name)
    report.notes += _listed(f"pictures of which the crop takes more than {CUT:.0%}", cut)
    report.notes += _listed(f"pictures that are enlarged more than {ENLARGED:g} times", enlarged)
    report.notes += _listed("unused pictures of regularisation, raise the repeats of the others", unused)
