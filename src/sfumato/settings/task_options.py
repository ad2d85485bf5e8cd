"""The options of single tasks, a group a task. Those of every task are in `table`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from sfumato.settings.kinds import Choice, Number, Switch, Text, Whole
from sfumato.settings.option import Option, option, options_in
from sfumato.spec import MAX_SIDE

Resize = Literal["crop", "stretch", "pad"]
Start = Literal["fill", "original", "noise", "nothing"]
MAX_PIXELS_AROUND = 1024  # of padding, growth and soft edges
MAX_SCALE = 16.0
ON_A_PICTURE = "On a picture"
_SHARE = Number(0, 1, 0.75)
_ALSO = ("denoising_strength", "image_strength")
_RESIZE = (
    "crop", Choice(get_args(Resize)), "How the picture comes to another size: what is too much is cropped, it is "
    "stretched, or padded with its edges.",
)  # fmt: skip


@dataclass(frozen=True)
class TaskOptions:
    """A group of options of one task, each checked. Raises OptionError for the first that cannot be honoured."""

    PANEL: ClassVar[str] = ON_A_PICTURE

    def __post_init__(self) -> None:
        for name, one in options_in(type(self)).items():
            value = getattr(self, name)
            if name != "upscaler" and not (value is None and one.default is None):  # that is a loaded one by now
                object.__setattr__(self, name, one.checked(value))


@dataclass(frozen=True)
class Img2ImgOptions(TaskOptions):
    """How pictures are drawn on top of a picture."""

    strength: float = option(
        0.75, _SHARE, "How much is drawn anew: 0 gives the picture back, 1 takes nothing of it.", "Denoising strength",
        always=True, also=_ALSO,
    )  # fmt: skip
    resize: Resize = option(*_RESIZE)


@dataclass(frozen=True)
class Depth2ImgOptions(TaskOptions):
    """How pictures are drawn with the depth of a picture."""

    strength: float = option(
        0.9, _SHARE, "1 takes nothing but the depth; less keeps colours.", "Denoising strength", always=True, also=_ALSO
    )
    resize: Resize = option(*_RESIZE)


@dataclass(frozen=True)
class InpaintOptions(TaskOptions):
    """How part of a picture is drawn.

    With `soft` the greys of the mask are shares of the strength, its soft edge among them: what is less white resembles
    the picture more (Levin & Fried 2023). Without, they are shares of a mixture of old and new pixels.
    """

    strength: float = option(
        1.0, _SHARE, "How much is drawn anew: 0 gives what `start` says, 1 takes nothing of that.",
        "Denoising strength", always=True, also=_ALSO,
    )  # fmt: skip
    invert: bool = option(
        False, Switch(), "Draw what the mask leaves out.", "Mask mode", words={True: "Inpaint not masked"},
        also=("inpainting_mask_invert",),
    )  # fmt: skip
    grow: int = option(
        0, Whole(-MAX_PIXELS_AROUND, MAX_PIXELS_AROUND), "Spread the mask by so many pixels; below 0 shrink it.",
        "Mask grow",
    )  # fmt: skip
    blur: int = option(
        4, Whole(0, MAX_PIXELS_AROUND), "Soft edge of the mask in pixels, inwards.", "Mask blur", always=True,
        also=("mask_blur",),
    )  # fmt: skip
    start: Start = option(
        "fill", Choice(get_args(Start)), "What is there before, for a strength below 1: the colours around, the "
        "original, or latents of noise or zeros.", "Masked content", always=True, also=("inpainting_fill",),
        words={"noise": "latent noise", "nothing": "latent nothing"},
    )  # fmt: skip
    only_masked: bool = option(
        False, Switch(), "Draw only the mask's surroundings, at the model's full size.", "Inpaint area",
        words={True: "Only masked"}, also=("inpaint_full_res",),
    )  # fmt: skip
    padding: int = option(
        32, Whole(0, MAX_PIXELS_AROUND), "Pixels around the mask that the model sees with `only_masked`.",
        "Masked area padding", needs="only_masked", also=("padding_mask_crop", "inpaint_full_res_padding"),
    )  # fmt: skip
    soft: bool = option(
        False, Switch(), "Greys of the mask, and its soft edge, are shares of the strength and not mixtures of pixels.",
        "Soft inpainting",
    )  # fmt: skip


@dataclass(frozen=True)
class OutpaintOptions(TaskOptions):
    """How a picture is drawn on beyond its edges, besides how far."""

    overlap: int | None = option(
        None, Whole(0, MAX_SIDE), "Pixels over which the old picture goes over into the new.",
        absent="an eighth of what is drawn at once",
    )  # fmt: skip
    step: float = option(0.5, Number(0.05, 0.9, 0.5), "How much is added at once, as a share of what the model draws.")


_PIXELS = Whole(0, MAX_SIDE)


@dataclass(frozen=True)
class Margins(TaskOptions):
    """Pixels to add on each side."""

    left: int = option(0, _PIXELS, "Pixels to add on the left.", "Outpaint left")
    right: int = option(0, _PIXELS, "Pixels to add on the right.", "Outpaint right")
    top: int = option(0, _PIXELS, "Pixels to add at the top.", "Outpaint top")
    bottom: int = option(0, _PIXELS, "Pixels to add at the bottom.", "Outpaint bottom")


@dataclass(frozen=True)
class UpscaleOptions(TaskOptions):
    """How a picture becomes larger. None is what suits the model, which must know what is given.

    `scale` is how many times as wide and high. Any model draws over what a `upscaler` of pixels, or Lanczos' filter,
    has enlarged, by a `strength` as img2img has it, in windows of its own size that share the part `overlap` of their
    sides. The x4 upscaler sees the small picture under `noise_level` steps of noise: more lets it invent more.
    """

    scale: float | None = option(
        None, Number(1, MAX_SCALE, 2), "How many times as wide and high.",
        absent="what the upscaler does by itself, or 2", also=("upscale_factor", "upscaling_resize"),
    )  # fmt: skip
    upscaler: Any = option(
        None, Text("FILE"), "A pixel upscaler: ESRGAN, Real-ESRGAN, or what spandrel knows.", "SD upscale upscaler",
        absent="Lanczos' filter", also=("upscaler_name", "upscaler_1"),
    )  # fmt: skip
    strength: float | None = option(
        None, Number(0, 1, 0.3), "How much is drawn anew; not of the x4 upscaler.", "Denoising strength", always=True,
        absent="0.3", also=_ALSO,
    )  # fmt: skip
    noise_level: int | None = option(
        None, Whole(0, 1000), "Of the x4 upscaler: more than 0 lets it invent more, up to 350.", "Noise level",
        absent="20",
    )  # fmt: skip
    overlap: float = option(
        0.25, Number(0, 0.5, 0.25), "The part of their sides that neighbouring windows share.", "SD upscale overlap",
        always=True,
    )  # fmt: skip


@dataclass(frozen=True)
class InterpolateOptions(TaskOptions):
    """Which pictures lie on the way."""

    PANEL: ClassVar[str] = "The way"

    frames: int = option(24, Whole(2, 10_000), "How many pictures, the first and the last included.")
    loop: bool = option(False, Switch(), "Go back to the first at the end.")


TASK_GROUPS = (
    Img2ImgOptions,
    Depth2ImgOptions,
    InpaintOptions,
    Margins,
    OutpaintOptions,
    UpscaleOptions,
    InterpolateOptions,
)
TASK_OPTIONS: dict[str, Option] = {name: one for group in TASK_GROUPS for name, one in options_in(group).items()}
