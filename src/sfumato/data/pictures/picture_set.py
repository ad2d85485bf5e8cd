"""Pictures with captions, ready for training: buckets, batches, views and their keys."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sfumato.data.pictures.batches import BucketBatches
from sfumato.data.pictures.buckets import Buckets, Placement
from sfumato.data.pictures.captions import drawn_caption, plain_caption
from sfumato.data.pictures.entry import Entry, decoded, named, size_of
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.protocol import Pair, Sample
from sfumato.errors import SfumatoError
from sfumato.images.tensors import to_pixels
from sfumato.seeding import stream

CROPS = 8  # places of random crops; few, so that encoded ones are used again
SEEN = 8  # pictures to measure on where none is held out
RATIO = 0.02  # by which the aspect ratios of a picture and its mask may differ
VERSION = 1  # of the transform, which keys name


class PictureSet:
    """Entries of any reader as `protocol.CaptionedPictures`.

    `numbers` are those of the pictures of each bucket, each as often as it comes in an epoch. `placements` say how each
    picture is brought to its bucket, `originals` are their sizes.

    Raises SfumatoError for a set without pictures, and for pictures that no bucket takes or whose size cannot be read.
    """

    name = "pictures"

    def __init__(
        self, entries: Sequence[Entry], options: PictureOptions, seed: int, resolution: int, multiple: int
    ) -> None:
        self.entries, self.options, self._seed = list(entries), options, seed
        self.buckets = Buckets(options, resolution, multiple)
        self.originals = [size_of(entry.source) for entry in self.entries]
        self.placements = [
            self.buckets.place(*size, entry.source.name)
            for size, entry in zip(self.originals, self.entries, strict=True)
        ]
        learnt = [k for k, entry in enumerate(self.entries) if not entry.options.regularisation]
        self.held_out = _held_out(learnt, options.held_out)
        repeats = self._repeats([k for k in learnt if k not in self.held_out])
        by_size: dict[Pair, list[int]] = {}
        for number, count in repeats.items():
            by_size.setdefault(self.placements[number].size, []).extend([number] * count)
        self.numbers = [np.array(by_size[size]) for size in sorted(by_size)]
        self.sizes = {size: len(by_size[size]) for size in sorted(by_size)}
        self.epoch = sum(self.sizes.values())
        self._batches = BucketBatches(list(self.sizes.values()), seed)
        self._hash = lru_cache(maxsize=None)(self._hashed)

    def __len__(self) -> int:
        return len(self.entries)

    def batch(self, step: int, count: int) -> list[Sample]:
        """See `protocol.CaptionedPictures`."""
        bucket, places = self._batches.at(step, count)
        rng = Random(int(stream(self._seed, "pictures", step).integers(2**63)))
        return [self._drawn(int(number), rng) for number in self.numbers[bucket][places]]

    def validation(self) -> list[Sample]:
        """See `protocol.CaptionedPictures`."""
        seen = np.unique(np.concatenate(self.numbers)).tolist()
        numbers = self.held_out or [k for k in seen if not self.entries[k].options.regularisation][:SEEN]
        return [self._plain(number) for number in numbers]

    def views(self) -> Iterator[Sample]:
        """See `protocol.CaptionedPictures`."""
        for number, entry in enumerate(self.entries):
            plain = self._plain(number)
            yield plain
            if number in self.held_out:
                continue
            corners = dict.fromkeys(self._corner(number, place) for place in range(CROPS))
            for flip in (False, True) if entry.options.flip else (False,):
                for corner in corners:
                    view = dataclasses.replace(plain, corner=corner, flip=flip)
                    if view != plain:
                        yield view

    def pixels(self, sample: Sample) -> Tensor:
        """See `protocol.CaptionedPictures`. Raises SfumatoError for a picture of another size than its file said."""
        entry = self.entries[sample.picture]
        image = decoded(entry.source)
        if image.size != sample.original:
            now, before = (f"{width}x{height}" for width, height in (image.size, sample.original))
            name = entry.source.name
            raise SfumatoError(
                f"{name} is {now}, and was {before} when it was first looked at; save it anew, start again"
            )
        if image.mode == "RGBA":
            ground = Image.new("RGBA", image.size, (*entry.options.rgb, 255))
            image = Image.alpha_composite(ground, image).convert("RGB")
        return to_pixels(_view(image, sample))[0]

    def mask(self, sample: Sample) -> Tensor:
        """See `protocol.CaptionedPictures`. Raises SfumatoError for a mask of another aspect ratio."""
        if not sample.masked:
            return torch.ones(1, *sample.size[::-1])
        entry = self.entries[sample.picture]
        image = decoded(entry.mask or entry.source)
        if entry.mask is None:
            grey = image.getchannel("A") if image.mode == "RGBA" else Image.new("L", image.size, 255)
        else:
            grey = image.convert("L")
            width, height = sample.original
            if abs(grey.width * height / (grey.height * width) - 1) > RATIO:
                size = f"{grey.width}x{grey.height}"
                raise SfumatoError(f"{entry.mask.name} is {size}, its picture {width}x{height}; give a mask as large")
        return torch.from_numpy(np.array(_view(grey, sample), np.float32))[None] / 255

    def key(self, sample: Sample) -> str:
        """See `protocol.CaptionedPictures`."""
        transform = (VERSION, sample.scaled, sample.corner, sample.size, sample.flip)
        ground = self.entries[sample.picture].options.rgb
        return hashlib.sha256(f"{self._hash(sample.picture)} {transform} {ground}".encode()).hexdigest()[:32]

    def content_hash(self, number: int) -> str:
        """Returns the SHA-256 of a picture's file."""
        return self._hash(number)

    def _hashed(self, number: int) -> str:
        return hashlib.sha256(self.entries[number].source.read()).hexdigest()

    def _drawn(self, number: int, rng: Random) -> Sample:
        """A sample as chance has it."""
        entry = self.entries[number]
        return dataclasses.replace(
            self._plain(number),
            caption=drawn_caption(entry.captions, entry.options, rng),
            corner=self._corner(number, rng.randrange(CROPS)),
            flip=entry.options.flip and rng.random() < 0.5,
        )

    def _plain(self, number: int) -> Sample:
        entry, placement = self.entries[number], self.placements[number]
        return Sample(
            picture=number,
            caption=plain_caption(entry.captions, entry.options),
            original=self.originals[number],
            scaled=placement.scaled,
            corner=_middle(placement),
            size=placement.size,
            weight=entry.options.weight,
            masked=entry.mask is not None or entry.options.masks == "alpha",
            regularisation=entry.options.regularisation,
        )

    def _corner(self, number: int, place: int) -> Pair:
        """Where a picture is cut: in the middle, or at one of its places of random crops."""
        placement = self.placements[number]
        if self.entries[number].options.crop == "center":
            return _middle(placement)
        rng = Random(f"crop {self._seed}/{number}/{place}")
        (width, height), (w, h) = placement.scaled, placement.size
        return rng.randint(0, width - w), rng.randint(0, height - h)

    def _repeats(self, learnt: Sequence[int]) -> dict[int, int]:
        """How often each picture comes in an epoch.

        Those of regularisation come together as often as all others, as in kohya's scripts: their own repeats say only
        how they share that among them. If there are more of them than that, the rest is left out.
        """
        if not learnt:
            kind = "all are held out or for regularisation" if self.entries else "there are none"
            raise SfumatoError(f"there is no picture to learn from: {kind}; give more pictures")
        counts = Counter({number: self.entries[number].options.repeats for number in learnt})
        total = sum(counts.values())
        kept = [k for k, entry in enumerate(self.entries) if entry.options.regularisation]
        shares = np.repeat(kept, [self.entries[k].options.repeats for k in kept])
        if len(shares):
            counts.update(shares[np.arange(total) * max(len(shares), total) // total % len(shares)].tolist())
        return dict(counts)


def _view(image: Image.Image, sample: Sample) -> Image.Image:
    """A picture scaled, cut and mirrored."""
    scaled = image if image.size == sample.scaled else image.resize(sample.scaled, Image.Resampling.LANCZOS)
    left, top = sample.corner
    cut = scaled.crop((left, top, left + sample.size[0], top + sample.size[1]))
    return ImageOps.mirror(cut) if sample.flip else cut


def _middle(placement: Placement) -> Pair:
    (width, height), (w, h) = placement.scaled, placement.size
    return (width - w) // 2, (height - h) // 2


def _held_out(numbers: Sequence[int], count: int) -> list[int]:
    """Returns so many of the numbers, evenly spread. Raises SfumatoError if none would be left."""
    if count and count >= len(numbers):
        raise SfumatoError(f"held_out is {count} of {len(numbers)} pictures; leave some to learn from")
    return [numbers[k] for k in np.linspace(0, len(numbers) - 1, count).astype(int)] if count else []


def check_captions(entries: Sequence[Entry]) -> None:
    """Raises SfumatoError if pictures have no caption and their options do not allow that."""
    missing = [
        entry.source.name for entry in entries if not entry.captions and entry.options.caption_missing == "error"
    ]
    if missing:
        raise SfumatoError(
            f"{len(missing)} of {len(entries)} pictures have no caption: {named(missing)}; give each a caption, or all "
            'a default_caption, or say caption_missing = "allow"'
        )
