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
TEXT_BLOCKS = ("*.self_attn.*", "*.mlp.*", "*.SelfAttention.*", "*.DenseReluDense.*")  # of CLIP, of T5
TOWERS, T5 = ("text", "text_2"), "text_3"  # the parts that are CLIP text encoders, and T5
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
    attention, and with `conv_rank` in its other blocks too). With `text` the CLIP text encoders learn as well, with
    `t5` that of 3 and 3.5, in their attentions and products. The file is called `name`; `layout` is "kohya" or "peft",
    `precision` that of its numbers.
    """

    name: str = "lora"
    layers: tuple[str, ...] = ()
    text: bool = False
    t5: bool = False
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
        changed: dict[str, nn.Module] = {}
        for part, network in texts_that_learn(base, options.text, options.t5).items():
            changed[part], self.parts[part] = learning(network, options, TEXT_BLOCKS)
        self.networks = nn.ModuleDict(self.parts)
        self.model = with_networks(base, drawing, with_texts(encode, changed))

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
    """Which weights learn: those of the network that draws, with `text` of the CLIP text encoders, with `t5` of T5.

    The model is written in `precision`. To save memory `compare` can be left out: then the network learns in place, and
    sheets do not show what the model drew before.
    """

    text: bool = False
    t5: bool = False
    precision: Precision = "float16"
    compare: bool = True


class Whole:
    """A model's own weights. Raises SfumatoError for options that the model does not fit."""

    def __init__(self, base: Model, options: WholeOptions):
        self.base, self.options = base, options
        own = {drawing_part(base): base.denoiser.network} | texts_that_learn(base, options.text, options.t5)
        parts = {part: (copy.deepcopy(one) if options.compare else one).float() for part, one in own.items()}
        self.networks = nn.ModuleDict(parts).requires_grad_(True)
        texts = {part: one for part, one in parts.items() if part != drawing_part(base)}
        self.model = with_networks(base, parts[drawing_part(base)], with_texts(base.encode, texts))

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes the whole model, a folder as diffusers has it; without T5 where its tokenizer is not known."""
        spec, encode = self.base.spec, self.base.encode
        pieces = None if encode.t5 is None or encode.t5.tokenizer is None else encode.t5.tokenizer.file
        parts = self.base.networks | dict(self.networks.items())
        if pieces is None:
            parts.pop(T5, None)
        if "depth" not in parts:  # the folder would name a network that is not in it
            spec = replace(spec, depth=None)
        precision = getattr(torch, self.options.precision)
        save_folder(folder, spec, parts, encode.tokenizer, precision, t5_tokenizer=pieces)


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


def texts_that_learn(base: Model, text: bool, t5: bool) -> dict[str, nn.Module]:
    """Returns the text encoders of a model that are to learn, by the names of its parts.

    Raises SfumatoError for a model whose text encoders cannot learn by what it draws, or that does not read T5.
    """
    if (text or t5) and base.prior is not None:
        raise SfumatoError(f"{base.name} reads words by a scene prior, which does not learn; leave out `text` and `t5`")
    found: dict[str, nn.Module] = dict(zip(TOWERS, base.encode.towers, strict=False)) if text else {}
    if t5:
        reader = base.encode.t5
        if reader is None or reader.network is None or reader.tokenizer is None:
            raise SfumatoError(f"{base.name} does not read T5, or comes without it or its tokenizer; leave out `t5`")
        found[T5] = reader.network
    return found


def with_texts(encode: TextEncoder, changed: Mapping[str, nn.Module]) -> TextEncoder:
    """Returns a text encoder with some of its networks exchanged for ones that learn, by the names of parts."""
    if not changed:
        return encode
    towers: Any = tuple(changed.get(part, tower) for part, tower in zip(TOWERS, encode.towers, strict=False))
    t5: Any = encode.t5
    if T5 in changed:
        t5 = replace(t5, network=changed[T5])
    return replace(encode, towers=towers, t5=t5, learns=True)
