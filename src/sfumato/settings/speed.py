"""The options that draw faster and a little differently; docs/performance.md says what each costs and saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sfumato.diffusion.step_cache import parse_rule
from sfumato.errors import SfumatoError
from sfumato.settings.kinds import Kind, Number
from sfumato.settings.option import option


@dataclass(frozen=True)
class StepCache(Kind):
    """A rule of `diffusion.step_cache`."""

    metavar = "RULE:NUMBER"

    def checked(self, value: Any, spec: Any) -> str:
        try:
            parse_rule(value)
        except SfumatoError as error:
            raise ValueError(str(error).replace("the step cache", "{name}", 1)) from None
        return value


@dataclass(frozen=True, kw_only=True)
class SpeedSettings:
    """What makes a network work less for a picture, which then differs a little from the one without."""

    PANEL: ClassVar[str] = "Speed"

    step_cache: str | None = option(
        None, StepCache(), "Use the network's inner blocks again where they change little: first-block:0.1, "
        "teacache:0.2 or deepcache:3.", "Step Cache", absent="none",
    )  # fmt: skip
    token_merging: float = option(
        0.0, Number(0, 0.75, 0.5), "The share of places that attention merges with others like them; 0.5 is usual.",
        "Token merging ratio", also=("token_merging_ratio",),
    )  # fmt: skip
