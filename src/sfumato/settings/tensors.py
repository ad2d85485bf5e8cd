"""Tensors that a program gives in place of what is made of prompts and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError


@dataclass(frozen=True, eq=False)
class Tensors:
    """What is given; None is made as usual.

    `latents` (1, C, h, w), or a row for each picture, are the first noise, of variance 1, in place of the seed's.
    `prompt_embeds` and `negative_embeds` are encoded prompts, as `StableDiffusion.encode_prompt` returns them, in place
    of the prompts' texts.
    """

    latents: Tensor | None = None
    prompt_embeds: Cond | None = None
    negative_embeds: Cond | None = None

    @classmethod
    def of(
        cls,
        latents: Tensor | None = None,
        prompt_embeds: Cond | Tensor | None = None,
        negative_embeds: Cond | Tensor | None = None,
    ) -> Tensors:
        """The tensors checked, as far as that can be done without a model; embeds alone are those of the tokens.

        Raises SfumatoError for what are no finite floating-point tensors of these dimensions.
        """
        return cls(
            _checked("latents", latents, 4),
            _cond("prompt_embeds", prompt_embeds),
            _cond("negative_embeds", negative_embeds),
        )

    def of_picture(self, picture: int) -> Tensors:
        """Those of one picture, counted from 0. Raises SfumatoError where `latents` have rows, but not for it."""
        if self.latents is None or len(self.latents) == 1:
            return self
        if picture >= len(self.latents):
            have = len(self.latents)
            raise SfumatoError(f"latents has {have} rows for more pictures; give one for all, or one for each")
        return replace(self, latents=self.latents[picture : picture + 1])

    def rows(self, start: int, count: int) -> Tensors:
        """Those of so many pictures. Raises SfumatoError where `latents` have rows, but not for them."""
        if self.latents is None or len(self.latents) == 1:
            return self
        self.of_picture(start + count - 1)
        return replace(self, latents=self.latents[start : start + count])

    def check_prompts(self, prompt: str, negative: str) -> None:
        """Raises SfumatoError for a text beside the embeds that stand for it."""
        for name, text, embeds in (
            ("prompt", prompt, self.prompt_embeds),
            ("negative", negative, self.negative_embeds),
        ):
            if text and embeds is not None:
                raise SfumatoError(f"there are both a {name} and {name}_embeds; give one of them")

    def noise(self, usual: Tensor) -> Tensor:
        """The first noise (1, C, h, w), by default the `usual`. Raises SfumatoError for latents of another shape."""
        if self.latents is None:
            return usual
        if self.latents.shape != usual.shape:
            wanted = tuple(usual.shape)
            raise SfumatoError(f"latents has the shape {tuple(self.latents.shape)} a picture; this size needs {wanted}")
        return self.latents.to(usual)

    def facts(self) -> Mapping[str, object]:
        """What a picture's description says of them, as its seed and prompts do not draw it again."""
        given = {
            "Latents": self.latents,
            "Prompt embeds": self.prompt_embeds,
            "Negative embeds": self.negative_embeds,
        }
        return {name: "given" for name, value in given.items() if value is not None}


NO_TENSORS = Tensors()


def _cond(name: str, value: Cond | Tensor | None) -> Cond | None:
    if value is None or isinstance(value, Cond):
        return value
    tokens = _checked(name, value, 3)
    return None if tokens is None else Cond(tokens)


def _checked(name: str, value: Tensor | None, dimensions: int) -> Tensor | None:
    if value is None:
        return None
    shape = {4: "(1, channels, height, width)", 3: "(1, tokens, width)"}[dimensions]
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim != dimensions or not len(value):
        is_ = f"a tensor {tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise SfumatoError(f"{name} is {is_}; give floating-point numbers {shape}")
    if not torch.isfinite(value).all():
        raise SfumatoError(f"{name} has numbers that are not finite; give others")
    return value.detach()
