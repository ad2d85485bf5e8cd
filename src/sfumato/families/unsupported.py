"""Releases that are recognised by their tensors but cannot be used yet, the most particular first."""

from __future__ import annotations

from collections.abc import Callable

from sfumato.checkpoint.keymap import Shapes, holds
from sfumato.families.base import Known


def _inputs(*counts: int) -> Callable[[Shapes], bool]:
    """A U-Net whose first convolution takes one of these numbers of channels."""

    def recognise(shapes: Shapes) -> bool:
        names = ("model.diffusion_model.input_blocks.0.0.weight", "unet/conv_in.weight")
        return any(len(shapes.get(name, ())) == 4 and shapes[name][1] in counts for name in names)

    return recognise


def _xl(shapes: Shapes) -> bool:
    return holds(shapes, "conditioner.embedders.", "text_encoder_2/")


_takes_a_mask = _inputs(9)

KNOWN = (
    Known("Stable Video Diffusion", lambda shapes: any(".time_stack." in name for name in shapes)),
    Known("Stable Diffusion XL inpainting", lambda shapes: _xl(shapes) and _takes_a_mask(shapes)),
    Known("a variant of Stable Diffusion XL", _xl),
    Known("a Stable Diffusion inpainting model", _takes_a_mask),
    Known("InstructPix2Pix", _inputs(8)),
)
