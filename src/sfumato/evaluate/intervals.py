"""Means with the interval in which the truth lies at 95% confidence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sfumato.seeding import stream

Z = 1.959964  # of the normal distribution, at 95%
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """The mean of `n` values, between `low` and `high` at 95% confidence."""

    n: int
    mean: float
    low: float
    high: float

    @classmethod
    def share(cls, values: Iterable[float]) -> Estimate | None:
        """Of values that are true or false, or chances from 0 to 1: Wilson's interval (Wilson 1927). None of nothing.

        >>> found = Estimate.share([True] * 9 + [False])
        >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
        (0.9, 0.6, 0.98)
        """
        found = [float(value) for value in values]
        n = len(found)
        if not n:
            return None
        p = sum(found) / n
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        reach = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
        return cls(n, p, max(0.0, middle - reach), min(1.0, middle + reach))

    @classmethod
    def mean_of(cls, values: Iterable[float]) -> Estimate | None:
        """Of any values: the percentile bootstrap (Efron 1979), the same for the same values. None of nothing."""
        found = np.array([float(value) for value in values])
        if not len(found):
            return None
        means = found[stream(0, "bootstrap", 0).integers(len(found), size=(RESAMPLES, len(found)))].mean(1)
        low, high = np.quantile(means, (0.025, 0.975)).tolist()
        return cls(len(found), found.mean().item(), low, high)
