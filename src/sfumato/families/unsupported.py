"""Releases that are recognised by their tensors but cannot be used yet, the most particular first."""

from __future__ import annotations

from collections.abc import Callable

from sfumato.checkpoint.keymap import Shapes, holds
from sfumato.families.base import Known
from sfumato.families.unet_inputs import UNET, is_second_line


def _inputs(*counts: int) -> Callable[[Shapes], bool]:
    """A U-Net whose first convolution takes one of these numbers of channels."""

    def recognise(shapes: Shapes) -> bool:
        names = ("model.diffusion_model.input_blocks.0.0.weight", "unet/conv_in.weight")
        return any(len(shapes.get(name, ())) == 4 and shapes[name][1] in counts for name in names)

    return recognise


def _xl(shapes: Shapes) -> bool:
    return holds(shapes, "conditioner.embedders.", "text_encoder_2/")


_takes_a_mask, _edits = _inputs(9), _inputs(8)

KNOWN = (
    Known("an editing model of Stable Diffusion XL (CosXL Edit)", lambda shapes: _xl(shapes) and _edits(shapes)),
    Known("a variant of Stable Diffusion XL", _xl),
    Known("a Stable Diffusion inpainting model", _takes_a_mask),
    Known(
        "a model of 2.x that is shown a picture (Marigold and others)",
        lambda shapes: _edits(shapes) and any(is_second_line(shapes, prefix) for prefix in (UNET, "unet/")),
    ),
    Known("a model that is shown a picture, of an unknown kind", _edits),
)
