"""A batch in equal shares: for gradients that are accumulated, and for processes that work side by side."""

from __future__ import annotations

from sfumato.errors import SfumatoError
from sfumato.train.task import Batch


def share(batch: Batch, place: int, count: int) -> Batch:
    """Returns share number `place`, from 0, of `count` equal ones: of every tensor (B, ...) its part, others whole.

    Raises SfumatoError if a tensor's length is no multiple of `count`.
    """
    if count == 1:
        return batch
    found: Batch = {}
    for name, value in batch.items():
        if not value.dim():
            found[name] = value
            continue
        if len(value) % count:
            raise SfumatoError(
                f"{name} of a batch has {len(value)} rows; expected a multiple of {count} (accumulate times processes)"
            )
        size = len(value) // count
        found[name] = value[place * size : (place + 1) * size]
    return found
