"""The option about IP-Adapters: pictures that say what to draw, beside the words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from sfumato.errors import SfumatoError
from sfumato.settings.kinds import Number, Picture, Text, Whole
from sfumato.settings.option import option, options_in
from sfumato.settings.steering import MAX_WEIGHT, Several, Steering


@dataclass(frozen=True, eq=False)
class ImagePrompt(Steering):
    """A picture that an IP-Adapter has a model see beside the words, and how strongly.

    `model` is the adapter's file, or the name of one in the model folders. `image` is of any kind that `sd.img2img`
    takes.
    """

    model: str = option("", Text("NAME"), "The IP-Adapter: a file, or a name in the model folders.")
    image: Any = None
    weight: float = option(1.0, Number(-MAX_WEIGHT, MAX_WEIGHT, 1), "How strongly the picture counts.", "weight")
    start: float = option(0.0, Number(0, 1, 0), "From which share of the steps on.", "from")
    end: float = option(1.0, Number(0, 1, 0.8), "Up to which share of the steps.", "to")
    encoder: str | None = option(
        None, Text("NAME"), "The image encoder, CLIP's vision tower: a file, a folder, or a name in model folders.",
        absent="the one in the folder clip_vision that fits",
    )  # fmt: skip

    KIND: ClassVar[str] = "an IP-Adapter"

    def __post_init__(self) -> None:
        self.check_options()
        if not self.model or self.image is None:
            raise SfumatoError("an IP-Adapter needs a file and a picture; give both, such as plus.safetensors=face.png")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What "plus.safetensors=face.png,weight=0.7" says. Raises ValueError or OptionError."""
        rest, said = cls.without_options(text)
        model, _, picture = rest.partition("=")
        if not model.strip() or not picture.strip():
            raise ValueError(
                "{name} is " + f"{text!r}; give an adapter and a picture, such as plus.safetensors=face.png"
            )
        return cls(model.strip(), picture.strip(), **said)

    def written(self, called: str) -> str:
        """The field of a picture's settings; `called` is the adapter's name."""
        said: dict[str, object] = {}
        for one in options_in(ImagePrompt).values():
            said |= one.written(self)
        image = {"picture": Path(self.image).name} if isinstance(self.image, str | Path) else {}
        return ", ".join([called, *(f"{name} {value}" for name, value in {**said, **image}.items())])


@dataclass(frozen=True)
class ImagePrompts(Several):
    """Several image prompts."""

    one = ImagePrompt
    hint = "Sequence[ImagePrompt | str]"
    metavar = "MODEL=PICTURE[,NAME=VALUE]"


MAX_IMAGE_NOISE = 999


@dataclass(frozen=True, kw_only=True)
class ImagePromptSettings:
    """Pictures that say what to draw."""

    PANEL: ClassVar[str] = "Adapters"

    ip_adapter: tuple[ImagePrompt, ...] = option(
        (), ImagePrompts(), "Draw what a picture shows, beside the words, by an IP-Adapter, such as "
        "plus.safetensors=face.png,weight=0.7.", also=("ip_adapter_image",),
    )  # fmt: skip
    image_prompt: Any = option(
        None, Picture(), "Of a model of unCLIP: the picture of which it draws variations.", also=("image_embeds",)
    )
    image_noise: int = option(
        0, Whole(0, MAX_IMAGE_NOISE), "How far variations may go from the picture: steps of noise on what CLIP says of "
        "it.", needs="image_prompt", flags=("--image-noise",),
    )  # fmt: skip
