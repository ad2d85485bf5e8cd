"""A thing that a scene prior does not remember: its code, and the word that stands for it, made of pictures of it.

A model with a scene prior draws what the prior's draft shows, and a thing that the memory lacks has no draft. So a file
that teaches such a thing brings its code along (see `nets.prior.NewThing`), beside whatever else it changes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from sfumato.data.pictures.protocol import CaptionedPictures, Sample
from sfumato.errors import SfumatoError
from sfumato.images.tensors import to_images
from sfumato.nets.composer import BASIS_LEVELS, Composer
from sfumato.nets.packed import unpacked
from sfumato.nets.prior import Memory, NewThing, ScenePrior, Words
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import encode
from sfumato.pipeline.model import Model
from sfumato.pipeline.underlay import filled_part
from sfumato.text.embeddings import Embedding
from sfumato.train.assemble import completed
from sfumato.train.codes import coefficients, levels_of, rounded
from sfumato.train.conditions import Conditions, Draft
from sfumato.train.cutouts import CANONICAL, GREEN, cut_out, placed

CHUNK = 16  # pictures that are encoded at once


@dataclass(frozen=True, eq=False)
class PicturedWord:
    """A `word` for the thing in pictures, each of which is the thing in one of a prior's `styles`, by its number."""

    word: Embedding
    styles: Mapping[int, int]


class PicturedConditions(Conditions):
    """The conditioning of samples with a word for what they show: the draft of each picture has its own code."""

    def __init__(self, model: Model, draft: Draft, styles: Mapping[int, int]):
        super().__init__(model, draft)
        self._styles = styles

    def read(self, sample: Sample) -> Words:
        """See `Conditions`."""
        words, style = super().read(sample), self._styles.get(sample.picture)
        if style is None:
            return words
        only = [
            replace(one, thing=replace(one.thing, known=torch.arange(len(one.thing.known)).eq(style).float()))
            for one in words.new
        ]
        return replace(words, new=tuple(only))


@torch.no_grad()
def pictured_word(model: Model, word: str, like: str, pictures: CaptionedPictures) -> PicturedWord:
    """Returns a word, read like the known word `like`, for the thing that pictures show alone on a plain ground.

    Each picture becomes what the thing is in one of the prior's styles, the first ones if there are more of them than
    styles. So seeds draw now one picture's look, now another's. Raises SfumatoError for a model without a scene prior,
    for a `like` that it reads as nothing, and for a picture that shows nothing.
    """
    if model.prior is None:
        raise SfumatoError(f"{model.name} reads words by its text encoders; leave out `word`, and have it in captions")
    prior = model.prior
    plain: dict[int, Sample] = {}
    for view in pictures.views():
        if not view.regularisation:
            plain.setdefault(view.picture, view)
    first = list(plain.values())[: prior.memory.known.shape[1]]
    things = [cut_out(to_images(pictures.pixels(one)[None])[0], f"picture {one.picture}") for one in first]
    alone = alone_on_green(model.vae, things, prior.cfg.side * model.spec.vae.factor)
    codes = dict(enumerate(fitted_each(prior.composer, alone)))
    thing = new_thing(prior.memory, codes)
    styles = {number: k % len(first) for k, number in enumerate(plain)}
    return PicturedWord(Embedding(word, (vectors_of(model, like),), thing=thing), styles)


def prior_of(model: Model) -> ScenePrior:
    """Returns a model's scene prior. Raises SfumatoError if it has none."""
    if model.prior is None:
        raise SfumatoError(
            f"{model.path} has no scene prior, whose memory learns; give a model that has, such as emoji"
        )
    return model.prior


def vectors_of(model: Model, like: str) -> Tensor:
    """Returns the vectors (n, D) of a known word. Raises SfumatoError for one that the model reads as nothing."""
    ids = model.encode.tokenizer.encode(like)
    if not ids:
        raise SfumatoError("the recipe's `like` is empty; give a word for a thing that the model knows, such as star")
    return model.encode.towers[0].text_model.embeddings.token_embedding.weight[ids].detach().float().clone()


def alone_on_green(vae: VAE, things: Sequence[Image.Image], size: int) -> Tensor:
    """Returns the latents (N, C, h, w), float32 on the CPU, of cut-out things as codes have them."""
    green = torch.stack([placed(thing, CANONICAL, GREEN, size) for thing in things])
    device = next(vae.parameters()).device
    return torch.cat([encode(vae, part.to(device)).float().cpu() for part in green.split(CHUNK)])


def new_thing(memory: Memory, codes: Mapping[int, Tensor]) -> NewThing:
    """Returns a thing with its codes (K + D,) by styles, and guesses for the other styles, without details."""
    styles, width = memory.known.shape[1], memory.codes.shape[2]
    known = torch.zeros(styles, dtype=torch.bool)
    result = torch.zeros(styles, len(next(iter(codes.values()))))
    for style, code in codes.items():
        known[style], result[style] = True, code.cpu()
    everything = torch.cat([memory.codes.float().cpu(), result[None, :, :width]])
    guessed = completed(everything, torch.cat([memory.known.cpu() > 0, known[None]]))[-1]
    result[:, :width] = torch.where(known[:, None], result[:, :width], guessed)
    return NewThing(result, known.float())


@torch.no_grad()
def remembering(model: Model, pictures: CaptionedPictures) -> ScenePrior | None:
    """Returns a model's scene prior that remembers pictures as what the things that their captions name look like.

    That are pictures on a plain ground whose caption names one thing alone, in one style, or without one in all styles.
    The other pictures stay out of it.
    """
    if model.prior is None:
        return None
    prior = copy.deepcopy(model.prior)
    places, things = list[tuple[int, list[int]]](), list[Image.Image]()
    for view in {view.picture: view for view in reversed(list(pictures.views()))}.values():
        found = prior.understand(model.encode.words(view.caption))
        shown = to_images(pictures.pixels(view)[None])[0]
        if [one.group.count for one in found.things] == [1] and on_plain_ground(shown):
            styles = range(prior.cfg.styles) if found.style is None else [found.style]
            places.append((found.things[0].concept, list(styles)))
            things.append(cut_out(shown, view.caption))
    if not things:
        return prior
    alone = alone_on_green(model.vae, things, prior.cfg.side * model.spec.vae.factor)
    width = prior.cfg.code
    for (concept, styles), code in zip(places, fitted_each(prior.composer, alone), strict=True):
        prior.memory.codes[concept, styles] = code[:width].to(prior.memory.codes)
        prior.memory.known[concept, styles] = 1
        for style in styles:
            prior.memory.remember((concept, style), code[width:])
    return prior


def on_plain_ground(picture: Image.Image) -> bool:
    """Whether a picture shows something that leaves its edges free."""
    part = filled_part(picture)
    return part.width < 1 and part.height < 1


def fitted(composer: Composer, latents: Tensor, code: Tensor | None = None) -> Tensor:
    """Returns the code (K + D,) that spells out the mean of latents (N, C, h, w) best, see `fitted_each`."""
    return fitted_each(composer, latents.double().mean(0, keepdim=True), None if code is None else code[None])[0]


@torch.no_grad()
def fitted_each(composer: Composer, latents: Tensor, codes: Tensor | None = None) -> Tensor:
    """Returns the codes (N, K + D) that spell out latents (N, C, h, w) with the least squared error, and then their
    details, as whole numbers. With `codes` (N, K) only the details are looked for."""
    detail = composer.cfg.detail
    goals = latents.double().flatten(1).to(composer.basis.weight.device)
    if codes is None:
        codes = _solved(composer.basis.weight, goals - composer.basis.bias.double())
    if not detail:
        return codes
    rest = goals - composer.alone(torch.cat([codes, codes.new_zeros(len(codes), sum(detail))], 1)).flatten(1)
    rows = composer.get_buffer("detail_scale").float()[:, None]
    rows = rows * unpacked(composer.get_buffer("detail_basis"), BASIS_LEVELS)
    amounts = coefficients(rows.cpu(), rest.float().cpu())
    return torch.cat([codes, rounded(amounts, levels_of(detail)).to(codes)], 1)


def _solved(basis: Tensor, goals: Tensor) -> Tensor:
    """The x (N, K), float32, for which basis (L, K) x is nearest to goals (N, L). In float32 every run would differ."""
    return torch.linalg.lstsq(basis.double(), goals.double().T).solution.T.float().contiguous()
