"""The options about guidance: how they are checked, and how a picture's description names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from sfumato.diffusion.interval import Interval
from sfumato.diffusion.sample import SAMPLERS, Sampler
from sfumato.errors import SfumatoError
from sfumato.settings.checks import check_number
from sfumato.spec import Spec

MAX_SCALE = 1000
MAX_CLIP_SCALE = 1e6
CFG_PP_SCALE = 0.6  # the scale of CFG++ that its authors set against a usual one of 7.5


class GuidanceOptions(TypedDict, total=False):
    """How strongly a picture is guided, and by what; docs/guidance.md says what each is good for.

    `cfg` is the scale of classifier-free guidance. Every `..._interval` says at which noise levels a guidance works,
    "0.28-5.4", or in which share of the steps, "20%-80%"; else everywhere, or for `slg` where the release's authors
    have it. `cfg_pp` makes `cfg` a scale of CFG++, 0.6 unless it is given. `apg` projects guidance, see
    `diffusion.guidance.apg` for its three numbers. `cfg_rescale` from 0 to 1 takes back contrast that guidance added.
    `threshold` is the percentile of dynamic thresholding, 0 none; it draws values back to the spread that they have at
    the guidance of `mimic_scale` (by default what the model advises), or into `threshold_limit`. `pag` is the scale of
    perturbed-attention guidance in the modules `pag_layers` of the network (by default its middle), `slg` that of
    skip-layer guidance (3.5 medium), `clip_guidance` that of the gradient of the perceptor's score (a CLIP); 0
    is none.
    """

    cfg: float | None
    cfg_interval: str | None
    cfg_pp: bool
    apg: bool
    apg_eta: float | None
    apg_norm: float | None
    apg_momentum: float | None
    cfg_rescale: float | None
    threshold: float | None
    mimic_scale: float | None
    threshold_limit: float | None
    pag: float | None
    pag_layers: tuple[str, ...] | None
    pag_interval: str | None
    slg: float | None
    slg_interval: str | None
    clip_guidance: float | None
    clip_interval: str | None


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings:
    """`GuidanceOptions` filled in, but for `cfg`, which is said with the prompts."""

    cfg_interval: str | None = None
    cfg_pp: bool = False
    apg: bool = False
    apg_eta: float = 0.0
    apg_norm: float = 15.0
    apg_momentum: float = -0.5
    cfg_rescale: float = 0.0
    threshold: float = 0.0
    mimic_scale: float | None = None
    threshold_limit: float | None = None
    pag: float = 0.0
    pag_layers: tuple[str, ...] | None = None
    pag_interval: str | None = None
    slg: float = 0.0
    slg_interval: str | None = None
    clip_guidance: float = 0.0
    clip_interval: str | None = None

    def check_guidance(self, spec: Spec, sampler: Sampler) -> None:
        """Raises SfumatoError for the first that cannot be honoured."""
        numbers: tuple[tuple[str, Any, float, float, float], ...] = (
            ("the guidance rescale", self.cfg_rescale, 0, 1, 0.7),
            ("apg_eta", self.apg_eta, -MAX_SCALE, MAX_SCALE, 0),
            ("apg_norm", self.apg_norm, 0, MAX_SCALE, 15),
            ("apg_momentum", self.apg_momentum, -1, 1, -0.5),
            ("the percentile of thresholding", self.threshold, 0, 100, 99.5),
            ("the scale of perturbed-attention guidance", self.pag, -MAX_SCALE, MAX_SCALE, 3),
            ("the scale of skip-layer guidance", self.slg, -MAX_SCALE, MAX_SCALE, 2.5),
            ("the scale of CLIP guidance", self.clip_guidance, -MAX_CLIP_SCALE, MAX_CLIP_SCALE, 100),
        )
        for name, value, low, high, example in numbers:
            check_number(name, value, low, high, example)
        if self.mimic_scale is not None:
            check_number("mimic_scale", self.mimic_scale, -MAX_SCALE, MAX_SCALE, 7)
        if self.threshold_limit is not None:
            check_number("threshold_limit", self.threshold_limit, 1e-3, MAX_SCALE, 1)
        for name, switch in (("cfg_pp", self.cfg_pp), ("apg", self.apg)):
            if not isinstance(switch, bool):
                raise SfumatoError(f"{name} is {switch!r}; choose True or False")
        for name in ("cfg_interval", "pag_interval", "slg_interval", "clip_interval"):
            value = getattr(self, name)
            if value is not None:
                Interval.parse(value)
        layers = self.pag_layers
        if layers is not None and not (isinstance(layers, tuple) and all(isinstance(one, str) for one in layers)):
            raise SfumatoError(f"pag_layers is {layers!r}; give names of modules, such as ('mid_block',)")
        if self.slg and spec.skip_layers is None:
            raise SfumatoError(f"{spec.title} has no skip-layer guidance; leave its scale out")
        if self.cfg_pp and not sampler.cfg_pp:
            have = ", ".join(one.name for one in SAMPLERS.values() if one.cfg_pp)
            raise SfumatoError(f"the sampler {sampler.label} has no CFG++; choose one of {have}, or leave CFG++ out")

    def guidance_facts(self) -> Mapping[str, object]:
        """As the community's tools name them, where they do; None for what has no part in the picture."""
        return {
            "CFG Interval": self.cfg_interval,
            "SLG Scale": self.slg or None,
            "SLG Interval": self.slg_interval if self.slg else None,
            "CFG Rescale": self.cfg_rescale or None,
            "APG Eta": self.apg_eta if self.apg else None,
            "APG Norm Threshold": self.apg_norm if self.apg else None,
            "APG Momentum": self.apg_momentum if self.apg else None,
            "Threshold percentile": self.threshold or None,
            "Mimic scale": self.mimic_scale if self.threshold and self.threshold_limit is None else None,
            "Threshold limit": self.threshold_limit if self.threshold else None,
            "PAG Scale": self.pag or None,
            "PAG Layers": " ".join(self.pag_layers or ()) or None if self.pag else None,
            "PAG Interval": self.pag_interval if self.pag else None,
            "CLIP Guidance Scale": self.clip_guidance or None,
            "CLIP Guidance Interval": self.clip_interval if self.clip_guidance else None,
        }
