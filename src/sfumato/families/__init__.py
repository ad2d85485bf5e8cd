"""The model families. To add one, write its file and list it here; nothing else names a family."""

from __future__ import annotations

from dataclasses import replace

from sfumato.errors import SfumatoError
from sfumato.families import sd1, sd2, sd2_depth, sd2_unclip, sd2_upscaler, sd3, sdxl
from sfumato.families.base import Family
from sfumato.families.unsupported import KNOWN
from sfumato.spec import Spec

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

__all__ = ["FAMILIES", "KNOWN", "Family", "family", "relative"]


def family(name: str) -> Family:
    """The family of this name. Raises SfumatoError when there is none."""
    for candidate in FAMILIES:
        if candidate.name == name:
            return candidate
    known = ", ".join(candidate.name for candidate in FAMILIES)
    raise SfumatoError(f"there is no model family {name!r}; known are {known}")


def relative(spec: Spec, beside: int) -> Spec | None:
    """The release that is as a model's, but whose U-Net sees so many channels beside its latents; None without one."""
    own = family(spec.family).spec
    for candidate in (one.spec for one in FAMILIES):
        alike = replace(candidate.unet, in_channels=own.unet.in_channels) == own.unet
        alike &= (candidate.text, candidate.text_2) == (own.text, own.text_2)
        other_work = candidate.transformer or candidate.image or candidate.low_res
        if alike and not other_work and candidate.beside_latents == beside:
            return candidate
    return None
