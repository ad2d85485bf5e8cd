"""Guides that users make: what is done with an estimate before a sampler steps with it."""

from __future__ import annotations

from collections.abc import Callable

from sfumato.diffusion.guidance import Guide
from sfumato.diffusion.plugins import brought, checked_name
from sfumato.errors import SfumatoError

Wrap = Callable[[Guide, Guide, Guide], Guide]
"""(guide, positive, negative) -> guide: one that is outside the given one, and may ask the estimates under the prompt
and under the negative prompt as well. See `diffusion.guidance` for what a guide is, and for many."""

GUIDES: dict[str, Wrap] = {}


def add_guide(name: str, wrap: Wrap) -> None:
    """Offer a guide under a new name to this process. Raises ValueError for a name that is taken or no plain word."""
    if not callable(wrap):
        raise ValueError(f"the guide {name} is {wrap!r}; give a function of three guides that returns one")
    GUIDES[checked_name("guide", name, name in GUIDES)] = wrap


def find_guide(guide: str | Wrap) -> tuple[str, Wrap]:
    """A guide by its name, also of another package's, or itself, with its name. Raises SfumatoError."""
    if callable(guide):
        return getattr(guide, "__name__", "a guide"), guide
    if guide not in GUIDES:
        for name, wrap in brought("sfumato.guides"):
            add_guide(name, wrap)  # type: ignore[arg-type]
    if guide not in GUIDES:
        raise SfumatoError(
            f"unknown guide {guide!r}; choose one of {', '.join(GUIDES) or 'none, as there are none yet'}"
        )
    return guide, GUIDES[guide]
