"""The model families. To add one, write its file and list it here; nothing else names a family."""

from __future__ import annotations

from sfumato.errors import SfumatoError
from sfumato.families import sd1, sd2, sd2_depth, sd2_unclip, sd2_upscaler, sd3, sdxl
from sfumato.families.base import Family
from sfumato.families.unsupported import KNOWN

FAMILIES: tuple[Family, ...] = (
    sd1.FAMILY,
    sd1.INPAINTING_FAMILY,
    sd1.DEPTH_FAMILY,
    sd1.EDITING_FAMILY,
    sd2.FAMILY,
    sd2.INPAINTING_FAMILY,
    sd2_depth.FAMILY,
    sd2_upscaler.FAMILY,
    sd2_unclip.FAMILY,
    sdxl.FAMILY,
    sdxl.INPAINTING_FAMILY,
    sdxl.REFINER_FAMILY,
    sd3.MEDIUM_FAMILY,
    sd3.MEDIUM_35_FAMILY,
    sd3.LARGE_35_FAMILY,
    sd3.ONE_TEXT_FAMILY,
    sd3.PRIOR_FAMILY,
    sd3.PRIOR_DEPTH_FAMILY,
)

__all__ = ["FAMILIES", "KNOWN", "Family", "family"]


def family(name: str) -> Family:
    """The family of this name. Raises SfumatoError when there is none."""
    for candidate in FAMILIES:
        if candidate.name == name:
            return candidate
    known = ", ".join(candidate.name for candidate in FAMILIES)
    raise SfumatoError(f"there is no model family {name!r}; known are {known}")
