"""Part of a list of noise levels, as users say it: by noise level, or by share of the steps."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from torch import Tensor

_NUMBER = r"\s*([0-9]*\.?[0-9]+)\s*"
_SIGMAS = re.compile(rf"{_NUMBER}(?:-|\.\.|,){_NUMBER}")
_SHARES = re.compile(rf"{_NUMBER}%\s*(?:-|\.\.|,){_NUMBER}%\s*")
NOWHERE = (0.0, -1.0)  # a lowest level above the highest


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, both included: noise levels; or with `shares`, shares of the steps from 0 to 1."""

    low: float
    high: float
    shares: bool = False

    @classmethod
    def parse(cls, text: object) -> Interval:
        """'0.28-5.4' are noise levels, '20%-80%' is from a fifth of the steps to four fifths. Raises SfumatoError."""
        said = f"the interval is {text!r}"
        form = SfumatoError(f"{said}; give noise levels such as 0.28-5.4, or shares of the steps such as 20%-80%")
        if not isinstance(text, str):
            raise form
        if match := _SHARES.fullmatch(text):
            low, high = (float(part) / 100 for part in match.groups())
            if not low < high <= 1:
                raise SfumatoError(f"{said}; give two shares of the steps from 0% to 100%, the smaller first")
            return cls(low, high, shares=True)
        if match := _SIGMAS.fullmatch(text):
            low, high = map(float, match.groups())
            if not low < high < math.inf:
                raise SfumatoError(f"{said}; give the lower noise level first")
            return cls(low, high)
        raise form

    def levels(self, sigmas: Tensor) -> tuple[float, float]:
        """The lowest and the highest noise level, given those of all steps and of the end; `NOWHERE` if it has none.

        Of n steps, step i is within shares from a to b where a n <= i < b n.
        """
        if not self.shares:
            return self.low, self.high
        steps = len(sigmas) - 1
        within = [s for i, s in enumerate(sigmas[:-1].tolist()) if self.low * steps <= i < self.high * steps]
        return (within[-1], within[0]) if within else NOWHERE

    def __str__(self) -> str:
        return f"{100 * self.low:g}%-{100 * self.high:g}%" if self.shares else f"{self.low:g}-{self.high:g}"
