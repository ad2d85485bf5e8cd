"""What the training of a denoiser starts from: frozen networks around it, and the weights of an earlier model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.loading.exports import load_clip, load_vae
from sfumato.nets.clip import CLIPText
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.text.tokenizer import CLIPTokenizer


@dataclass(frozen=True, eq=False)
class Start:
    """The frozen networks around a denoiser that is to be trained, in evaluation mode.

    `tokenizer` belongs to the text tower. `model` is the model whose denoiser training continues, if there is one. With
    `parts_of`, the name or path of a model, autoencoder and tower are that model's, and the result becomes a variant of
    it.
    """

    vae: VAE
    text: CLIPText
    tokenizer: CLIPTokenizer
    model: Model | None = None
    parts_of: str | None = None

    def carry_over(self, network: UNet | MMDiT) -> None:
        """Copies the weights of `model` to `network`. Raises SfumatoError if their sizes differ."""
        if self.model is None:
            return
        theirs = self.model.denoiser.network
        if not isinstance(theirs, type(network)):
            raise SfumatoError(
                f"{self.model.path} holds a {type(theirs).__name__}, the recipe asks for a {type(network).__name__}; "
                "give a model of the recipe's kind"
            )
        own, other = dataclasses.asdict(network.cfg), dataclasses.asdict(theirs.cfg)
        differing = [f"{name} is {other[name]} and not {own[name]}" for name in own if own[name] != other[name]]
        if differing:
            raise SfumatoError(
                f"{self.model.path} has other sizes than the recipe: {', '.join(differing)}; "
                "start from a model of the recipe's sizes, or give the recipe those of the model"
            )
        network.load_state_dict(theirs.state_dict())


def gather(init: str, vae: Path | None, clip: Path | None, parts: str | None = None) -> Start:
    """Returns the autoencoder and the text tower from the exports `vae` and `clip`, or else from the model `init` ("":
    none).

    `parts` is a model that brings both, and nothing else may be given then. Raises SfumatoError if a part is missing,
    or if `init` has more than one text tower.
    """
    if parts is not None:
        if init or vae is not None or clip is not None:
            raise SfumatoError("--parts brings autoencoder and text tower; leave --init, --vae and --clip out")
        model = load(parts, "cpu", "float32")
        return Start(model.vae, model.encode.towers[0], model.encode.tokenizer, parts_of=parts)
    if not init:
        if vae is None or clip is None:
            raise SfumatoError("give the exports of both --vae and --clip, or with --init a model that has these parts")
        return Start(load_vae(vae), *_words(clip))
    model = load(init, "cpu", "float32")
    towers = model.encode.towers
    if len(towers) != 1:
        raise SfumatoError(f"{model.path} reads prompts with {len(towers)} text encoders; training knows models of one")
    words = (towers[0], model.encode.tokenizer) if clip is None else _words(clip)
    return Start(model.vae if vae is None else load_vae(vae), *words, model)


def _words(clip: Path) -> tuple[CLIPText, CLIPTokenizer]:
    encoders, tokenizer, _ = load_clip(clip)
    return encoders.text, tokenizer
