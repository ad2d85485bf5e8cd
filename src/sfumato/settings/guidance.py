"""The options about guidance: how strongly a picture is guided, and by what; docs/guidance.md says what each is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sfumato.errors import OptionError, SfumatoError
from sfumato.settings.kinds import Names, Number, Span, Switch
from sfumato.settings.option import MODEL, option
from sfumato.settings.sampling import MAX_SCALE
from sfumato.spec import Spec

MAX_CLIP_SCALE = 1e6
CFG_PP_SCALE = 0.6  # the scale of CFG++ that its authors set against a usual one of 7.5
_WHERE = "Only at these noise levels, such as 0.28-5.4, or steps, such as 20%-80%."


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings:
    """How a picture is guided besides the scale of classifier-free guidance; 0 and None are none."""

    PANEL: ClassVar[str] = "Guidance"

    cfg_interval: str | None = option(None, Span(), _WHERE, "CFG Interval", absent="everywhere")
    cfg_pp: bool = option(
        False, Switch(), "CFG++, for ddim, ddpm, euler and euler_ancestral: the guidance scale is then about 0 to 1, "
        f"by default {CFG_PP_SCALE}.",
    )  # fmt: skip
    slg: float = option(
        MODEL, Number(-MAX_SCALE, MAX_SCALE, 2.5), "Scale of skip-layer guidance, for 3.5 medium; its authors use 2.5.",
        "SLG Scale", off=0,
    )  # fmt: skip
    slg_interval: str | None = option(None, Span(), _WHERE, "SLG Interval", needs="slg", absent="where its authors do")
    cfg_rescale: float = option(
        MODEL, Number(0, 1, 0.7), "How much of the contrast that strong guidance adds is taken back; 0.7 is usual.",
        "CFG Rescale", off=0, also=("guidance_rescale",),
    )  # fmt: skip
    apg: bool = option(False, Switch(), "Project guidance, so that strong guidance does not oversaturate.")
    apg_eta: float = option(
        0.0,
        Number(-MAX_SCALE, MAX_SCALE, 0),
        "How much of what oversaturates is kept; 1 is all.",
        "APG Eta",
        needs="apg",
    )
    apg_norm: float = option(
        15.0, Number(0, MAX_SCALE, 15), "The greatest length of the projected step, 0 for any.", "APG Norm Threshold",
        needs="apg",
    )  # fmt: skip
    apg_momentum: float = option(
        -0.5, Number(-1, 1, -0.5), "How much of the step before is added.", "APG Momentum", needs="apg"
    )
    threshold: float = option(
        0.0, Number(0, 100, 99.5), "Dynamic thresholding: the percentile beyond which values are cut, such as 99.5.",
        "Threshold percentile",
    )  # fmt: skip
    mimic_scale: float | None = option(
        None, Number(-MAX_SCALE, MAX_SCALE, 7), "Thresholding keeps the spread of this guidance scale.", "Mimic scale",
        needs="threshold", absent="the model's own scale",
    )  # fmt: skip
    threshold_limit: float | None = option(
        None, Number(1e-3, MAX_SCALE, 1), "Thresholding draws values back into this number instead.", "Threshold limit",
        needs="threshold",
    )  # fmt: skip
    pag: float = option(
        0.0, Number(-MAX_SCALE, MAX_SCALE, 3), "Scale of perturbed-attention guidance, for more structure; 3 is usual.",
        "PAG Scale", also=("pag_scale",),
    )  # fmt: skip
    pag_layers: tuple[str, ...] | None = option(
        None, Names("mid_block"), "Perturb this module, such as up_blocks.1.", "PAG Layers",
        needs="pag", absent="the middle", flags=("--pag-layer",), also=("pag_applied_layers",),
    )  # fmt: skip
    pag_interval: str | None = option(None, Span(), _WHERE, "PAG Interval", needs="pag", absent="everywhere")
    clip_guidance: float = option(
        0.0, Number(-MAX_CLIP_SCALE, MAX_CLIP_SCALE, 100), "Scale of the gradient of the perceptor's score, for models "
        "of its kind; slow.", "CLIP Guidance Scale",
    )  # fmt: skip
    clip_interval: str | None = option(
        None, Span(), _WHERE, "CLIP Guidance Interval", needs="clip_guidance", absent="everywhere"
    )

    def check_guidance(self, spec: Spec) -> None:
        """Raises SfumatoError for what the model does not have, and for options that exclude each other."""
        if self.slg and spec.skip_layers is None:
            raise OptionError(f"{spec.title} has no skip-layer guidance; leave `slg` out")
        if self.mimic_scale is not None and self.threshold_limit is not None:
            raise OptionError("`mimic_scale` and `threshold_limit` exclude each other; give one of them")


def has_no_cfg_pp(label: str, have: list[str]) -> SfumatoError:
    """The error for a sampler without CFG++."""
    return OptionError(f"the sampler {label} has no CFG++; choose one of {', '.join(have)}, or leave `cfg_pp` out")
