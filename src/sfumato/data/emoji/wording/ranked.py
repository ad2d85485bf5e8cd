"""Drawing patterns as often as people say them.

Patterns stand in their lists from the plainest to the rarest. By Zipf's law (1949) the weight of the one at place k is
1 / (k + ZIPF). A share is drawn evenly, so that rare ones are heard as well.
"""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from random import Random

# By whether a request is a plain one.
ZIPF = {False: 4.0, True: 1.0}
EVEN_SHARE = {False: 0.3, True: 0.1}


def plainer(patterns: tuple[str, ...], rng: Random, plain: bool = False) -> str:
    """Returns one of the patterns, those that stand first more often; in a `plain` request more so."""
    if rng.random() < EVEN_SHARE[plain]:
        return rng.choice(patterns)
    ranked, weights = _ranked(patterns, plain)
    return rng.choices(ranked, cum_weights=weights)[0]


@cache
def _ranked(patterns: tuple[str, ...], plain: bool) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The patterns, each once, and the sums of their weights."""
    ranked = tuple(dict.fromkeys(patterns))
    return ranked, tuple(accumulate(1 / (k + ZIPF[plain]) for k in range(len(ranked))))
