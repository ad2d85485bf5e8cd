"""The rules that say when inner blocks are left out (see `step_cache`), and how a text names them; without torch."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from torch import Tensor


class Past(Protocol):
    """What a rule sees of the questions before; see `step_cache.Memory`."""

    change: Tensor | None
    latest: Tensor | None
    drift: float
    reused: int


_FORM = re.compile(r"\s*([a-z-]+)\s*[:=]\s*(\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class Rule(ABC):
    """Says when the inner blocks of a network are left out. `measures` says whether it looks at the first block."""

    measures = False

    @abstractmethod
    def reuses(self, past: Past, change: Tensor | None) -> bool:
        """Whether the row may use again what `past` has of its inner blocks.

        `change` is what the first block adds to its input, where the rule measures.
        """


@dataclass(frozen=True)
class FirstBlock(Rule):
    """First-block caching: while the first block's change differs by less than `threshold` from that at the last run.

    The difference is the mean of the absolute differences, as a share of the mean absolute value before.
    """

    threshold: float
    measures = True

    def reuses(self, past: Past, change: Tensor | None) -> bool:
        return difference(change, past.change) < self.threshold


@dataclass(frozen=True)
class Accumulated(Rule):
    """TeaCache (Liu et al. 2024): while the differences of all steps since the last run sum to less than `threshold`.

    Measured, as for `FirstBlock`, by what the first block adds, and without a polynomial that is fitted to one model.
    """

    threshold: float
    measures = True

    def reuses(self, past: Past, change: Tensor | None) -> bool:
        return past.drift + difference(change, past.latest) < self.threshold


@dataclass(frozen=True)
class EveryNth(Rule):
    """DeepCache (Ma et al. 2023): the inner blocks run at one of `n` questions."""

    n: int

    def reuses(self, past: Past, change: Tensor | None) -> bool:
        return past.reused < self.n - 1


def parse_rule(text: str) -> Rule:
    """The rule that a text says: "first-block:0.1", "teacache:0.2" or "deepcache:3". Raises SfumatoError."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    name, number = (match[1], float(match[2])) if match else ("", 0.0)
    if name == "deepcache" and number in range(2, 1001):
        return EveryNth(int(number))
    if name in (kinds := {"first-block": FirstBlock, "teacache": Accumulated}) and 0 < number <= 10:
        return kinds[name](number)
    raise SfumatoError(
        f"the step cache is {text!r}; give deepcache with a whole number from 2, such as deepcache:3, or first-block "
        "or teacache with a number up to 10, such as first-block:0.1 or teacache:0.2"
    )


def difference(now: Tensor | None, before: Tensor | None) -> float:
    """The mean absolute difference as a share of the mean absolute value before; infinite with nothing before."""
    if now is None or before is None:
        return float("inf")
    return float((now.float() - before.float()).abs().mean() / before.float().abs().mean())
