"""What flows between nodes. Networks flow as descriptions: they are loaded where something is drawn or decoded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sfumato.server.composite import Composite

Pair = tuple[int, int]


@dataclass(frozen=True)
class LoraUse:
    """A LoRA by the name of its file, with its strength."""

    name: str
    strength: float


@dataclass(frozen=True)
class ModelRef:
    """MODEL: a network that draws, with LoRAs and hypernetworks. `options` are those of a request that nodes changed;
    `shift` is that of a flow's noise levels. With `differential` a mask says in which share of the steps a place is
    drawn.
    """

    parts: Composite
    loras: tuple[LoraUse, ...] = ()
    hypernetworks: tuple[LoraUse, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    shift: float | None = None
    differential: bool = False

    def but(self, **options: Any) -> ModelRef:
        """The same with some options of a request changed."""
        return replace(self, options=tuple({**dict(self.options), **options}.items()))


@dataclass(frozen=True)
class ClipRef:
    """CLIP: the text encoders of a model, with LoRAs. `skip` is the layer that is read, counted from the end."""

    parts: Composite
    loras: tuple[LoraUse, ...] = ()
    skip: int | None = None


@dataclass(frozen=True)
class VaeRef:
    """VAE: the autoencoder of a model."""

    parts: Composite


@dataclass(frozen=True)
class ControlRef:
    """CONTROL_NET: a ControlNet by the name of its file; `shows` says what the hint of a ControlNet-Union shows."""

    name: str
    shows: str | None = None


@dataclass(frozen=True)
class UpscalerRef:
    """UPSCALE_MODEL: a network that enlarges pixels, by the name of its file."""

    name: str


@dataclass(frozen=True)
class Words:
    """Texts for the text encoders, one for each or one for all; `sizes` are options about sizes that XL is told."""

    clip: ClipRef
    texts: tuple[str, ...]
    sizes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Mixed:
    """One encoded text on the way to another: `share` of `to`, the rest of `start`."""

    to: Encoding
    start: Encoding
    share: float


@dataclass(frozen=True)
class Joined:
    """The tokens of one encoded text behind those of another."""

    first: Encoding
    second: Encoding


@dataclass(frozen=True)
class Zeroed:
    """Zeros in place of an encoded text."""

    of: Encoding


Encoding = Words | Mixed | Joined | Zeroed


@dataclass(frozen=True, eq=False)
class ControlUse:
    """A ControlNet with its hint, its strength and the share of the steps in which it steers.

    With `prompt_only` it says nothing to the negative conditioning.
    """

    control: ControlRef
    image: Image.Image
    strength: float
    start: float = 0.0
    end: float = 1.0
    prompt_only: bool = False


@dataclass(frozen=True)
class Area:
    """A part of the picture, in pixels or with `shares` in shares of its sides."""

    width: float
    height: float
    x: float
    y: float
    shares: bool = False

    def within(self, height: int, width: int, factor: int, multiple: int) -> tuple[slice, slice]:
        """Rows and columns of latents (height, width) that it covers: whole multiples, at least one."""
        rows = _stretch(self.y, self.height, height if self.shares else 1 / factor, height, multiple)
        columns = _stretch(self.x, self.width, width if self.shares else 1 / factor, width, multiple)
        return rows, columns


def _stretch(start: float, length: float, scale: float, most: int, multiple: int) -> slice:
    size = min(most, max(multiple, round(length * scale / multiple) * multiple))
    first = min(most - size, max(0, round(start * scale)))
    return slice(first, first + size)


@dataclass(frozen=True, eq=False)
class Beside:
    """What a network that inpaints sees beside its latents: a picture without what is to be drawn, and its mask."""

    picture: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """One encoding with where (`area`, `mask` (1, 1, H, W)), how strongly, and in which share of the times it counts.

    `to_area` cuts the picture to the box around the mask.
    """

    encoding: Encoding
    area: Area | None = None
    mask: Tensor | None = None
    mask_strength: float = 1.0
    to_area: bool = False
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    controls: tuple[ControlUse, ...] = ()
    beside: Beside | None = None

    @property
    def plain(self) -> bool:
        """Whether it counts everywhere and at all times, alone."""
        everywhere = self.area is None and self.mask is None
        return everywhere and (self.start, self.end) == (0.0, 1.0) and self.strength != 0


Conditioning = tuple[Part, ...]
"""CONDITIONING: parts that count together."""


def changed(conditioning: Conditioning, **fields: Any) -> Conditioning:
    """The same parts with some of their fields changed."""
    return tuple(replace(part, **fields) for part in conditioning)


@dataclass(frozen=True, eq=False)
class Latent:
    """LATENT: `samples` (B, C, h, w) in the units of the network that draws, each of `factor` pixels a side.

    `mask` (1 or B, 1, H, W) says what of them is to be drawn. `seeds` and `texts` are of those that were drawn, with
    `noisy` if noise was left in them.
    """

    samples: Tensor
    factor: int = 8
    mask: Tensor | None = None
    seeds: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    noisy: bool = False

    @property
    def size(self) -> Pair:
        """Width and height in pixels."""
        return self.factor * self.samples.shape[3], self.factor * self.samples.shape[2]

    @property
    def empty(self) -> bool:
        """Whether there is no picture in them."""
        return not self.samples.any()

    def with_samples(self, samples: Tensor) -> Latent:
        """The same with other samples; what was said of each is lost where their number is another."""
        same = len(samples) == len(self.samples)
        return replace(self, samples=samples, seeds=self.seeds if same else (), texts=self.texts if same else ())


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of an IMAGE, in RGB. `seed` and `text` (its settings) are those of a drawn one."""

    image: Image.Image
    seed: int = 0
    text: str = ""

    def but(self, image: Image.Image) -> Frame:
        """The same with other pixels."""
        return replace(self, image=image)


Images = tuple[Frame, ...]
"""IMAGE"""


@dataclass(frozen=True, eq=False)
class Mask:
    """MASK: shares (B, H, W) from 0 to 1."""

    shares: Tensor

    @classmethod
    def of(cls, image: Image.Image) -> Mask:
        """The mask that a channel (L) is."""
        return cls(torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(1, *image.size[::-1]) / 255)


@dataclass(frozen=True)
class SamplerChoice:
    """SAMPLER: a sampler by any of its names, and what is set of it."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Sigmas:
    """SIGMAS: falling noise levels."""

    levels: tuple[float, ...]


@dataclass(frozen=True)
class Noise:
    """NOISE: that of a seed; None is none."""

    seed: int | None


@dataclass(frozen=True, eq=False)
class Guider:
    """GUIDER: a network, and what it is guided to and from.

    `middle` is a second conditioning to which the negative one is guided by `middle_cfg`; `nested` says that the first
    is guided from the second before both are guided from the negative one.
    """

    model: ModelRef
    positive: Conditioning
    negative: Conditioning = ()
    cfg: float = 1.0
    middle: Conditioning = ()
    middle_cfg: float = 1.0
    nested: bool = False


@dataclass(frozen=True)
class Anything:
    """Stands for a value of any kind."""


SOCKETS: dict[Any, str] = {
    ModelRef: "MODEL", ClipRef: "CLIP", VaeRef: "VAE", ControlRef: "CONTROL_NET", UpscalerRef: "UPSCALE_MODEL",
    Conditioning: "CONDITIONING", Latent: "LATENT", Images: "IMAGE", Mask: "MASK", SamplerChoice: "SAMPLER",
    Sigmas: "SIGMAS", Noise: "NOISE", Guider: "GUIDER", Anything: "*", int: "INT", float: "FLOAT", str: "STRING",
    bool: "BOOLEAN",
}  # fmt: skip
"""The names of the kinds of values, by their types here."""
