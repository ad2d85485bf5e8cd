"""`sfumato inpaint`: draw part of a picture anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sfumato.cli.img2img import PictureFile, Prompt
from sfumato.cli.options import Drawing, Loading, Saving, Size, command, with_size

if TYPE_CHECKING:
    from sfumato.tasks.inpaint import InpaintOptions

MaskFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="A picture of the same size: white where to draw, or transparent there if any of it is transparent. "
        "Else what is transparent in PICTURE is drawn.",
    ),
]
Strength = Annotated[
    float, typer.Option(help="How much is drawn anew: 0 gives what --start says, 1 takes nothing of that.")
]
Start = Annotated[
    Literal["fill", "original", "noise", "nothing"],
    typer.Option(
        help="What is there before, for a strength below 1: the colours around, the original, or latents of noise or "
        "zeros."
    ),
]
Invert = Annotated[bool, typer.Option("--invert", help="Draw what the mask leaves out.")]
Grow = Annotated[int, typer.Option(help="Spread the mask by so many pixels; below 0 shrink it.")]
Blur = Annotated[int, typer.Option(help="Soft edge of the mask in pixels, inwards.")]
Soft = Annotated[
    bool,
    typer.Option(
        "--soft", help="Greys of the mask, and its soft edge, are shares of the strength and not mixtures of pixels."
    ),
]
OnlyMasked = Annotated[
    bool, typer.Option("--only-masked", help="Draw only the mask's surroundings, at the model's full size.")
]
Padding = Annotated[int, typer.Option(help="Pixels around the mask that --only-masked shows the model.")]


@dataclass(frozen=True)
class Masking:
    """The fields of `tasks.inpaint.InpaintOptions`."""

    strength: Strength = 1.0
    start: Start = "fill"
    invert: Invert = False
    grow: Grow = 0
    blur: Blur = 4
    soft: Soft = False
    only_masked: OnlyMasked = False
    padding: Padding = 32

    def how(self) -> InpaintOptions:
        """Raises SfumatoError for what cannot be done."""
        from sfumato.tasks.inpaint import InpaintOptions

        return InpaintOptions(**vars(self))


@command
def inpaint(
    picture: PictureFile,
    prompt: Prompt = "",
    *,
    mask: MaskFile = None,
    masking: Masking,
    loading: Loading,
    size: Size = None,
    drawing: Drawing,
    saving: Saving,
) -> None:
    """Draw part of a picture anew.

    Any model can: one that was made for it is shown mask and picture, any other is held to the picture around. What
    the mask leaves out comes back bit by bit, if it is saved as PNG or WebP.

    The result is saved as `sfumato txt2img` saves its pictures.
    """
    from sfumato.cli.output import Destination
    from sfumato.images.inputs import split_image_and_mask

    options = with_size(drawing.options(), size)
    destination = Destination.of(saving.out, drawing.n)
    destination.check()
    image, where = split_image_and_mask(picture, mask)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.cli.draw import draw
    from sfumato.tasks.inpaint import InpaintRequest

    request = InpaintRequest(
        prompt=prompt, negative=drawing.negative, options=options, image=image, mask=where, how=masking.how()
    )
    draw(loading.load(), request, destination, saving.as_json, {"mask": mask})
