"""The options about guidance, a section of their own in every command that draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.settings.settings import Options

_option = partial(typer.Option, rich_help_panel="Guidance")
_interval = partial(
    _option, metavar="LOW-HIGH", help="Only at these noise levels, such as 0.28-5.4, or steps, such as 20%-80%."
)

Cfg = Annotated[float | None, _option(help="Guidance scale: how closely to follow the prompt; 1 is none and faster.")]
CfgInterval = Annotated[str | None, _interval("--cfg-interval")]
CfgPP = Annotated[
    bool,
    _option("--cfg-pp", help="CFG++, for ddim, ddpm, euler and euler_ancestral: --cfg is then about 0 to 1, else 0.6."),
]
Apg = Annotated[bool, _option("--apg", help="Project guidance, so that strong guidance does not oversaturate.")]
ApgEta = Annotated[float | None, _option(help="How much of what oversaturates is kept, 0 to 1; else 0.")]
ApgNorm = Annotated[float | None, _option(help="The greatest length of the projected step, 0 for any; else 15.")]
ApgMomentum = Annotated[float | None, _option(help="How much of the step before is added, -1 to 1; else -0.5.")]
CfgRescale = Annotated[
    float | None, _option(help="Take back contrast that strong guidance adds, from 0 (not) to 1; 0.7 is usual.")
]
Threshold = Annotated[
    float | None, _option(help="Dynamic thresholding: the percentile beyond which values are cut, such as 99.5.")
]
MimicScale = Annotated[
    float | None, _option(help="Thresholding keeps the spread of this guidance scale; else that of the model's own.")
]
ThresholdLimit = Annotated[float | None, _option(help="Thresholding draws values back into this number instead.")]
Pag = Annotated[float | None, _option(help="Scale of perturbed-attention guidance, for more structure; 3 is usual.")]
PagLayers = Annotated[
    list[str] | None,
    _option(
        "--pag-layer",
        metavar="NAME",
        help="Perturb this module, such as up_blocks.1; else the middle. Repeatable.",
    ),
]
PagInterval = Annotated[str | None, _interval("--pag-interval")]
Slg = Annotated[
    float | None,
    _option(help="Scale of skip-layer guidance, for 3.5 medium: 2.5 is what its authors use, 0 is none."),
]
SlgInterval = Annotated[str | None, _interval("--slg-interval")]
ClipGuidance = Annotated[
    float | None, _option(help="Scale of the gradient of the perceptor's score, for models of its kind; slow.")
]
ClipInterval = Annotated[str | None, _interval("--clip-interval")]


@dataclass(frozen=True)
class Guiding:
    """How strongly a picture is guided, and by what; see `settings.guidance.GuidanceOptions`."""

    cfg: Cfg = None
    cfg_interval: CfgInterval = None
    cfg_pp: CfgPP = False
    apg: Apg = False
    apg_eta: ApgEta = None
    apg_norm: ApgNorm = None
    apg_momentum: ApgMomentum = None
    cfg_rescale: CfgRescale = None
    threshold: Threshold = None
    mimic_scale: MimicScale = None
    threshold_limit: ThresholdLimit = None
    pag: Pag = None
    pag_layers: PagLayers = None
    pag_interval: PagInterval = None
    slg: Slg = None
    slg_interval: SlgInterval = None
    clip_guidance: ClipGuidance = None
    clip_interval: ClipInterval = None

    def guidance_options(self) -> Options:
        return {
            "cfg": self.cfg,
            "cfg_interval": self.cfg_interval,
            "cfg_pp": self.cfg_pp,
            "apg": self.apg,
            "apg_eta": self.apg_eta,
            "apg_norm": self.apg_norm,
            "apg_momentum": self.apg_momentum,
            "cfg_rescale": self.cfg_rescale,
            "threshold": self.threshold,
            "mimic_scale": self.mimic_scale,
            "threshold_limit": self.threshold_limit,
            "pag": self.pag,
            "pag_layers": tuple(self.pag_layers) if self.pag_layers else None,
            "pag_interval": self.pag_interval,
            "slg": self.slg,
            "slg_interval": self.slg_interval,
            "clip_guidance": self.clip_guidance,
            "clip_interval": self.clip_interval,
        }
