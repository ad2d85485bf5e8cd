"""The settings of one picture as the text that its file carries."""

from __future__ import annotations

from collections.abc import Mapping

from sfumato import __version__
from sfumato.diffusion.options import field_of
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES
from sfumato.pipeline.model import Model
from sfumato.provenance import infotext
from sfumato.settings.settings import Pair, Settings


def describe(model: Model, one: Settings, metadata: Mapping[str, object]) -> str:
    """The settings of one picture in the community's syntax, with the `metadata` of a task."""
    sampler = find_sampler(one.sampler)
    fields = {
        "Steps": one.steps,
        "Sampler": f"{sampler.label} CFG++" if one.cfg_pp else sampler.label,
        "Schedule type": SIGMA_SCHEDULES[one.schedule].label if one.sigmas is None else "Custom",
        "Sigmas": one.sigmas and ", ".join(map(str, one.sigmas)),
        **{field_of(sampler.name, option): value for option, value in one.sampler_options.items()},
        "CFG scale": one.cfg,
        "Seed": one.seed,
        "Size": f"{one.width}x{one.height}",
        "Model hash": model.hash,
        "Model": model.name,
        "Clip skip": one.clip_skip,
        **one.guidance_facts(),
        **one.word_facts(),
        "RNG": one.rng.upper(),
        "Watermark": None if one.watermark else False,
        "Tiling": {None: None, "both": True}.get(one.tiling, one.tiling),
        "Variation seed": one.variation_seed,
        "Variation seed strength": None if one.variation_seed is None else one.variation_strength,
        "Original size": _by(one.original_size),
        "Crop": _by(one.crop),
        "Target size": _by(one.target_size),
        "Aesthetic score": one.aesthetic_score,
        **metadata,
        "Version": f"sfumato {__version__}",
    }
    return infotext.write(one.prompt, one.negative, fields)


def _by(pair: Pair | None) -> str | None:
    return pair and f"{pair[0]}x{pair[1]}"
