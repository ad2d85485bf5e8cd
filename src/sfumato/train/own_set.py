"""One's own pictures where a method learns from a whole set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sfumato.data.pictures.protocol import SampleSource
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.data.pictures.square_set import SquareSet
from sfumato.data.protocol import TrainingSet
from sfumato.errors import SfumatoError


def training_set(
    data: SampleSource, options: Mapping[str, Any], seed: int, side: int, multiple: int = 1
) -> TrainingSet:
    """Returns a set as it is, or one's own pictures as squares of `side` pixels, a multiple of `multiple`.

    `options` are those of the table [data], for one's own pictures alone. Raises SfumatoError as
    `SampleSource.samples`, and for options where the set has none.
    """
    if isinstance(data, OwnPictures):
        asked = {"upscale": True, **options, "buckets": False}
        return cast(TrainingSet, SquareSet(data.samples(asked, seed, side, multiple)))
    if options:
        raise SfumatoError("[data] is read for your own pictures; this set has no such options, leave the table out")
    return cast(TrainingSet, data)
