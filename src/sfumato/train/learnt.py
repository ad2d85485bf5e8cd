"""What can learn of a model, and the file that holds it: differences of its weights, or the weights themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from sfumato.adapters import writing
from sfumato.adapters.learned import Differences, Shape, learning
from sfumato.adapters.textual_inversion import bundle_of
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.loading.save import save_folder
from sfumato.pipeline.model import Model
from sfumato.text.encode import TextEncoder
from sfumato.train.new_thing import PicturedWord

BLOCKS = ("*attentions.*", "transformer_blocks.*")  # of the layers that learn, as in kohya's scripts
KERNELS = ("*resnets.*", "*samplers.*")  # with `conv_rank` these too
TEXT_BLOCKS = ("*.self_attn.*", "*.mlp.*")
TOWERS = ("text", "text_2")  # the parts that are CLIP text encoders
Precision = Literal["float16", "bfloat16", "float32"]


class Learnt(Protocol):
    """What learns of a model."""

    @property
    def networks(self) -> nn.ModuleDict:
        """What is trained, by the names of the model's parts."""

    @property
    def model(self) -> Model:
        """The model that draws with it."""

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes it to `folder`; `about` is what a file says of itself."""


@dataclass(frozen=True)
class LoraOptions(Shape):
    """What differences learn, and their file.

    Of the network that draws learn the `layers` of these names, such as "*.attn2.*" (none given: those in its blocks of
    attention, and with `conv_rank` in its other blocks too). With `text` the CLIP text encoders learn as well, in their
    attentions and products. The file is called `name`; `layout` is "kohya" or "peft", `precision` that of its numbers.
    """

    name: str = "lora"
    layers: tuple[str, ...] = ()
    text: bool = False
    layout: writing.Layout = "kohya"
    precision: Precision = "float16"


class Lora:
    """Differences of a model's weights, and a `word` that comes with them.

    Raises SfumatoError for options that the model does not fit.
    """

    def __init__(self, base: Model, options: LoraOptions, word: PicturedWord | None = None):
        self.base, self.options, self.word = base, options, word
        patterns = options.layers or (BLOCKS + KERNELS if options.conv_rank else BLOCKS)
        drawing, differences = learning(base.denoiser.network, options, patterns)
        self.parts: dict[str, Differences] = {drawing_part(base): differences}
        encode = base.encode.with_embeddings([word.word]) if word else base.encode
        if options.text:
            check_text(base)
            towers = []
            for part, tower in zip(TOWERS, encode.towers, strict=False):
                changed, self.parts[part] = learning(tower, options, TEXT_BLOCKS)
                towers.append(changed)
            encode = replace(encode, towers=tuple(towers), learns=True)
        self.networks = nn.ModuleDict(self.parts)
        self.model = with_networks(base, drawing, encode)

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes NAME.safetensors."""
        options = self.options
        tensors = writing.tensors(self.base.spec, self.parts, options.layout, getattr(torch, options.precision))
        named = {"ss_output_name": options.name, "modelspec.title": options.name}
        if self.word is not None:
            tensors |= bundle_of(self.word.word)
        said = {**about, **named, **writing.described(options)}
        writing.write(folder / f"{options.name}.safetensors", tensors, said)


@dataclass(frozen=True)
class WholeOptions:
    """Which weights learn: those of the network that draws, and with `text` those of the CLIP text encoders.

    The model is written in `precision`. To save memory `compare` can be left out: then the network learns in place, and
    sheets do not show what the model drew before.
    """

    text: bool = False
    precision: Precision = "float16"
    compare: bool = True


class Whole:
    """A model's own weights. Raises SfumatoError for options that the model does not fit."""

    def __init__(self, base: Model, options: WholeOptions):
        self.base, self.options = base, options
        own = {drawing_part(base): base.denoiser.network}
        if options.text:
            check_text(base)
            own |= dict(zip(TOWERS, base.encode.towers, strict=False))
        parts = {part: (copy.deepcopy(one) if options.compare else one).float() for part, one in own.items()}
        self.networks = nn.ModuleDict(parts).requires_grad_(True)
        towers: Any = tuple(parts.get(part, tower) for part, tower in zip(TOWERS, base.encode.towers, strict=False))
        encode = replace(base.encode, towers=towers, learns=options.text)
        self.model = with_networks(base, parts[drawing_part(base)], encode)

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes the whole model, a folder as diffusers has it; without T5, whose tokenizer is not kept."""
        parts = {part: one for part, one in self.base.networks.items() if part != "text_3"} | dict(
            self.networks.items()
        )
        spec, tokenizer = self.base.spec, self.base.encode.tokenizer
        if "depth" not in parts:  # the folder would name a network that is not in it
            spec = replace(spec, depth=None)
        save_folder(folder, spec, parts, tokenizer, getattr(torch, self.options.precision))


@dataclass(frozen=True, kw_only=True)
class LoraOrWhole:
    """What learns: differences of the weights with a table [lora], else all weights, see `WholeOptions` ([whole])."""

    lora: LoraOptions | None = None
    whole: WholeOptions = field(default_factory=WholeOptions)

    def __post_init__(self) -> None:
        if self.lora is not None and self.whole != WholeOptions():
            raise SfumatoError("the recipe has the tables [lora] and [whole]; leave out one")

    def learnt(self, base: Model, word: PicturedWord | None = None) -> Learnt:
        """Returns what learns of a model; a LoRA's file brings the `word`. Raises SfumatoError for options that the
        model does not fit."""
        return Whole(base, self.whole) if self.lora is None else Lora(base, self.lora, word)


def drawing_part(model: Model) -> str:
    """Returns the name of the part that draws."""
    return family(model.spec.family).denoiser


def with_networks(base: Model, drawing: nn.Module, encode: TextEncoder) -> Model:
    """Returns a model with another network that draws and other text encoders."""
    return with_parts(base, denoiser=replace(base.denoiser, network=drawing), text=encode)


def with_parts(base: Model, **changed: Any) -> Model:
    """Returns a model with some parts exchanged, by their names in `Model`: `spec`, `denoiser`, `text`, `depth`."""
    own: dict[str, Any] = {
        "spec": base.spec, "denoiser": base.denoiser, "vae": base.vae, "text": base.encode, "path": base.path,
        "depth": base.depth, "prior": base.prior,
    }  # fmt: skip
    return Model(**own | changed)


def check_text(base: Model) -> None:
    """Raises SfumatoError for a model whose text encoders cannot learn by what it draws."""
    if base.prior is not None:
        raise SfumatoError(f"{base.name} reads words by a scene prior, which does not learn; leave out `text`")
