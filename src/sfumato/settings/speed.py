"""The options that draw faster and a little differently; docs/performance.md says what each costs and saves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from sfumato.diffusion.cache_rules import parse_rule
from sfumato.errors import SfumatoError
from sfumato.settings.kinds import Choice, Kind, Number
from sfumato.settings.option import option

MAX_MERGED = 0.75  # one place of four stays


@dataclass(frozen=True)
class StepCache(Kind):
    """A rule of `diffusion.cache_rules`."""

    metavar = "RULE:NUMBER"
    choices: ClassVar[tuple[str, ...]] = ("first-block:0.1", "teacache:0.2", "deepcache:3")  # that do well, for menus

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
        None, StepCache(), "Use the network's inner blocks again where they change little: "
        f"{', '.join(StepCache.choices[:-1])} or {StepCache.choices[-1]}.", "Step Cache", absent="none",
    )  # fmt: skip
    token_merging: float = option(
        0.0, Number(0, MAX_MERGED, 0.5), "The share of places that attention merges with others like them.",
        "Token merging ratio", also=("token_merging_ratio",),
    )  # fmt: skip
    decoder: str = option(
        "full", Choice(("full", "tiny")), "What makes the picture of latents: the model's own decoder, or the tiny one "
        "that it was loaded with.", "VAE Decoder", words={"tiny": "TAESD"}, also=("sd_vae_decode_method",),
    )  # fmt: skip
