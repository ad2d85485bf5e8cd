"""The option about ControlNets and T2I-Adapters: which network, its hint, how strongly and when it steers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from sfumato.errors import SfumatoError
from sfumato.settings.kinds import Choice, Kind, Number, Text
from sfumato.settings.option import Option, option, options_in, plain_number
from sfumato.settings.steering import MAX_WEIGHT, Several, Steering

Mode = Literal["balanced", "prompt", "control"]
Fit = Literal["crop", "stretch", "pad"]
# What a hint may be made of a picture by; `images.control` and `pipeline.control` make them.
HINTS = (
    "none", "invert", "canny", "gradient", "scribble", "lineart", "depth", "normal", "tile", "shuffle", "colour",
    "segmentation", "inpaint",
)  # fmt: skip
OTHER_NAMES = {"soft_edge": "gradient", "color": "colour", "line_art": "lineart", "seg": "segmentation"}
MODES = {"balanced": "Balanced", "prompt": "My prompt is more important", "control": "ControlNet is more important"}
SHOWS = ("openpose", "depth", "soft edge", "edges", "normal", "segmentation", "tile", "inpaint")
SOFT = 0.825  # of neighbouring residuals' strengths, from the middle outwards, as the authors of ControlNet have it


@dataclass(frozen=True)
class Blocks(Kind):
    """A strength for each residual, from the first of the way down to the middle."""

    hint = "Sequence[float]"
    metavar = "NUMBERS"

    def checked(self, value: Any, spec: Any) -> tuple[float, ...]:
        number = Number(-MAX_WEIGHT, MAX_WEIGHT, 1)
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise ValueError("{name} is " + f"{value!r}; give a strength for each block, such as (1, 0.8, 0.5)")
        return tuple(float(number.checked(one, spec)) for one in value)

    def read(self, text: str) -> tuple[float, ...]:
        return tuple(Number(-MAX_WEIGHT, MAX_WEIGHT, 1).read(one) for one in text.split())

    def written(self, value: Any) -> str:
        return " ".join(f"{one:g}" for one in value)


@dataclass(frozen=True, eq=False)
class Control(Steering):
    """A ControlNet, control-LoRA or T2I-Adapter, and how it steers a picture.

    `model` is a file or folder, or the name of one in the model folders. `image` is the picture of the hint, of any
    kind that `sd.img2img` takes; None is the picture that a task draws on.
    """

    model: str = option("", Text("NAME"), "The network: a file, a folder, or a name in the model folders.", "Model")
    image: Any = None
    hint: str = option(
        "none", Choice(HINTS, OTHER_NAMES),
        "What is made of the picture before the network sees it; none gives it as it is.", "Module", always=True,
    )  # fmt: skip
    weight: float = option(1.0, Number(-MAX_WEIGHT, MAX_WEIGHT, 1), "How strongly it steers.", "Weight", always=True)
    start: float = option(0.0, Number(0, 1, 0), "From which share of the steps on.", "Guidance Start", always=True)
    end: float = option(1.0, Number(0, 1, 0.8), "Up to which share of the steps.", "Guidance End", always=True)
    mode: Mode = option(
        "balanced", Choice(get_args(Mode)), "Whose word counts more: prompt weakens it block by block, control does so "
        "and leaves the negative prompt without it (guess mode).", "Control Mode", always=True,
        words=MODES,
    )  # fmt: skip
    resize: Fit = option(
        "crop", Choice(get_args(Fit)), "How the picture comes to the size that is drawn.", "Resize Mode", always=True,
        words={"crop": "Crop and Resize", "stretch": "Just Resize", "pad": "Resize and Fill"},
    )  # fmt: skip
    blocks: tuple[float, ...] | None = option(
        None, Blocks(), "A strength for each block besides, from the first to the middle.", "Block Weights"
    )
    shows: str | None = option(
        None, Choice(SHOWS), "What the hint shows, for a ControlNet-Union.", "Union Control Type",
        absent="what `hint` makes",
    )  # fmt: skip

    depth_model: str | None = option(
        None, Text("MODEL"), "A model whose depth network sees depth and normals.", absent="the model's own"
    )

    KIND: ClassVar[str] = "a control"

    def __post_init__(self) -> None:
        self.check_options()
        if not self.model:
            raise SfumatoError("a control has no model; give a file, a folder, or a name in the model folders")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What "canny.safetensors=photo.png,hint=canny,weight=0.8" says. Raises ValueError or OptionError."""
        text, said = cls.without_options(text)
        model, mark, picture = text.partition("=")
        if not model.strip() or (mark and not picture.strip()):
            raise ValueError("{name} is " + f"{text!r}; give a model and a picture, such as canny=photo.png,hint=canny")
        return cls(model.strip(), picture.strip() or None, **said)

    def strengths(self, count: int) -> tuple[float, ...]:
        """The strength of each of `count` residuals. Raises ValueError for `blocks` of another number."""
        own = (1.0,) * count if self.blocks is None else self.blocks
        if len(own) != count:
            raise ValueError(f"{self.model} has {count} blocks, and `blocks` gives {len(own)} strengths")
        soft = [1.0 if self.mode == "balanced" else SOFT**k for k in reversed(range(count))]
        return tuple(self.weight * one * other for one, other in zip(own, soft, strict=True))

    def on(self, image: Any) -> Control:
        """The control with a picture, where it has none of its own."""
        return self if self.image is not None else replace(self, image=image)

    def written(self, called: str) -> str:
        """The field of a picture's settings, as web UIs write it; `called` is the network's name with its hash."""
        said: dict[str, object] = {}
        for one in options_in(Control).values():
            said |= one.written(self)
        said["Model"] = called
        first = {"Module": said.pop("Module"), "Model": said.pop("Model")}
        if isinstance(self.image, str | Path):
            said["Image"] = re.sub(r"[,:]", "_", Path(self.image).name)
        return ", ".join(f"{name}: {plain_number(value)}" for name, value in {**first, **said}.items())

    @classmethod
    def read(cls, text: str) -> Control:
        """The control that `written`, or a web UI, wrote, without its picture. Raises ValueError or OptionError."""
        said = dict(part.strip().partition(": ")[::2] for part in text.split(","))
        named = {one.infotext: one for one in options_in(cls).values()}
        values = {named[name].name: cls.read_option(named[name], text) for name, text in said.items() if name in named}
        return cls(**values)

    @classmethod
    def read_option(cls, one: Option, text: str) -> Any:
        """The value of an option; of a web UI's preprocessor without a name here the nearest in kind."""
        if one.name == "hint":
            return next((hint for name, hint in MODULES if name in text.lower()), text.strip())
        return super().read_option(one, text)

    @property
    def name_and_hash(self) -> tuple[str, str | None]:
        """The network's name, and its hash where that stands after it in square brackets."""
        match = re.fullmatch(r"(.+?)\s*\[(\w+)\]", self.model)
        return (match[1], match[2]) if match else (self.model, None)


# Beginnings of web UIs' names of preprocessors, and what is nearest here.
MODULES = (
    ("invert", "invert"), ("canny", "canny"), ("normal", "normal"), ("depth", "depth"), ("scribble", "scribble"),
    ("lineart", "lineart"), ("softedge", "gradient"), ("hed", "gradient"), ("pidinet", "gradient"),
    ("gradient", "gradient"), ("tile", "tile"), ("shuffle", "shuffle"), ("color", "colour"), ("colour", "colour"),
    ("seg", "segmentation"), ("inpaint", "inpaint"),
)  # fmt: skip


@dataclass(frozen=True)
class Controls(Several):
    """Several controls."""

    one = Control
    hint = "Sequence[Control | str]"
    metavar = "MODEL[=PICTURE][,NAME=VALUE]"


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """Networks that steer a picture by a hint."""

    PANEL: ClassVar[str] = "Adapters"

    control: tuple[Control, ...] = option(
        (), Controls(), "Steer by a ControlNet or T2I-Adapter, such as canny=photo.png,hint=canny,weight=0.8; without "
        "a picture it sees that which is drawn on.", also=("controlnet", "control_image"),
    )  # fmt: skip
