"""Prompts to conditioning: parsed, weighted, encoded, and scheduled over the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from random import Random

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.guidance import Guide, composed, network_guide
from sfumato.errors import SfumatoError, warn
from sfumato.nets.layout import Region
from sfumato.nets.prior import Underlay
from sfumato.pipeline.adapters import TAGS
from sfumato.pipeline.latents import autoencoding
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings
from sfumato.text.prompt.emphasis import Span, Spans
from sfumato.text.prompt.syntax import read
from sfumato.text.prompt.tree import Prompt

MOST_NOTES = 10  # that are shown of a prompt
EXCERPT = 24  # characters of a prompt that a note about it shows


@dataclass(frozen=True, eq=False)
class PromptConditioning:
    """Holds the encoded prompts of one picture: those that AND joins with their weights, and the negative one.

    `caption` is the first prompt in plain words, as it reads at the last step.
    """

    branches: tuple[tuple[ScheduledCond, float], ...]
    negative: ScheduledCond
    caption: str

    def positive_guide(self, denoiser: Denoiser) -> Guide:
        """Returns a guide to the estimate of a network under all prompts."""
        parts = [(network_guide(denoiser, cond), weight) for cond, weight in self.branches]
        return composed(parts, self.negative_guide(denoiser))

    def negative_guide(self, denoiser: Denoiser) -> Guide:
        """Returns a guide to the estimate of a network under the negative prompt."""
        return network_guide(denoiser, self.negative)

    def map(self, positive: Callable[[Cond], Cond], negative: Callable[[Cond], Cond]) -> PromptConditioning:
        """Returns the same prompts with changed conditionings, for example with sizes or a depth map added."""
        branches = tuple((scheduled.map(positive), weight) for scheduled, weight in self.branches)
        return PromptConditioning(branches, self.negative.map(negative), self.caption)

    def over(self, levels: Sequence[float], row: Callable[[float], tuple[float, ...]]) -> PromptConditioning:
        """Returns the same prompts with `Cond.adapters` as `row` gives them at each of the noise levels."""
        made: dict[tuple[int, tuple[float, ...]], Cond] = {}

        def at(cond: Cond, strengths: tuple[float, ...]) -> Cond:
            if (id(cond), strengths) not in made:  # one object for what is the same, which is asked about once
                made[id(cond), strengths] = replace(cond, adapters=torch.tensor([strengths]))
            return made[id(cond), strengths]

        def changed(scheduled: ScheduledCond) -> ScheduledCond:
            return _scheduled(tuple(levels), [at(scheduled.at(level), row(level)) for level in levels])

        branches = tuple((changed(scheduled), weight) for scheduled, weight in self.branches)
        return PromptConditioning(branches, changed(self.negative), self.caption)


def encode_prompts(
    model: Model, settings: Settings, sigmas: Tensor, underlay: Underlay | Region | None = None, after: int = 0
) -> PromptConditioning:
    """Encode the prompts of one picture over a list of noise levels; a prior drafts them on the `underlay`, if any, or
    so that they fill a region.

    `after` is the number of steps of a first pass, if this is the second. Embeds that are given stand for their prompt.
    An SfumatoWarning says where a prompt may not mean what it seems to. Raises SfumatoError for a prompt that is too
    long or names an adapter, for a clip skip that the model lacks, and for embeds that do not fit.
    """
    if settings.cfg == 0 and settings.prompt.strip():
        warn("cfg 0 leaves the prompt out of the picture; a model that is to be drawn without guidance takes cfg 1")
    syntax = settings.prompt_syntax
    levels = tuple(sigmas[:-1].tolist())
    steps = max(1, len(levels))
    prompt, parts = read(syntax, settings.prompt, steps, after=after)
    negative, (away,) = read(syntax, settings.negative, steps, compose=False, after=after)
    _check(prompt, settings.prompt, True)
    _check(negative, settings.negative, False)
    every = list(dict.fromkeys(chain(*(part.spans for part in parts), away.spans)))
    conds = dict(zip(every, _encoded(model, settings, every, underlay), strict=True))
    if model.spec.zero_empty_negative and not settings.negative.strip():
        negative_conds = {spans: conds[spans].zeros() for spans in away.spans}
    else:
        negative_conds = conds
    branches = tuple((_scheduled(levels, [conds[spans] for spans in part.spans]), part.weight) for part in parts)
    caption = "".join(span.text for span in parts[0].spans[-1] if isinstance(span, Span))
    negative_cond = _scheduled(levels, [negative_conds[spans] for spans in away.spans])
    given = settings.tensors
    if given.prompt_embeds is not None:
        branches = ((_given("prompt_embeds", given.prompt_embeds, conds[parts[0].spans[0]]), 1.0),)
    if given.negative_embeds is not None:
        negative_cond = _given("negative_embeds", given.negative_embeds, conds[away.spans[0]])
    return PromptConditioning(branches, negative_cond, caption)


def embeds_of(model: Model, settings: Settings, sigmas: Tensor) -> tuple[Cond, Cond]:
    """The encoded prompt and negative prompt of one picture, as `Tensors` takes them.

    Raises SfumatoError as `encode_prompts`, and for prompts that are more than one encoding.
    """
    made = encode_prompts(model, settings, sigmas)
    (positive, _), *others = made.branches
    if others or len(positive.conds) > 1 or len(made.negative.conds) > 1:
        raise SfumatoError("the prompt changes over the steps or joins several by AND; encode each of its texts alone")
    return positive.conds[0], made.negative.conds[0]


def _given(name: str, cond: Cond, usual: Cond) -> ScheduledCond:
    """Embeds at every step. Raises SfumatoError unless they are of the kind that the model's own are."""
    for part in ("tokens", "pooled", "concat"):
        theirs, ours = getattr(cond, part), getattr(usual, part)
        fits = (theirs is None) == (ours is None) and (ours is None or _alike(theirs, ours, part))
        if not fits:
            has = "none" if theirs is None else f"those of the shape {tuple(theirs.shape)}"
            needs = "none" if ours is None else f"those of a shape like {tuple(ours.shape)}"
            raise SfumatoError(f"{name} has as {part} {has}, this model needs {needs}; make it with sd.encode_prompt")
    return ScheduledCond((), (cond,))


def _alike(theirs: Tensor, ours: Tensor, part: str) -> bool:
    if part == "tokens":  # prompts may be of any length
        return theirs.ndim == 3 and (len(theirs), theirs.shape[2]) == (len(ours), ours.shape[2])
    return theirs.shape == ours.shape


def _encoded(
    model: Model, settings: Settings, texts: Sequence[Spans], underlay: Underlay | Region | None
) -> list[Cond]:
    """Encodes texts with the text encoders, or with the model's prior, if it has one, for this seed and size."""
    if model.prior is None:
        return model.encode(texts, settings.clip_skip, settings.emphasis)
    factor = model.spec.vae.factor
    sides = settings.height // factor, settings.width // factor
    every = (model.encode.words(text, settings.clip_skip, settings.emphasis) for text in texts)
    drawing = autoencoding(model.vae)
    return [model.prior(words, Random(settings.seed), *sides, drawing, underlay) for words in every]


def _check(prompt: Prompt, text: str, positive: bool) -> None:
    """Warns of what may not be as meant. Raises SfumatoError for what a negative prompt cannot ask for."""
    for adapter in prompt.adapters:
        if adapter.kind in TAGS and not positive:
            fix = f"move it to the prompt, or write \\{adapter} to have it read as words"
            raise SfumatoError(f"the negative prompt asks for {adapter}, which changes the whole picture; {fix}")
    for note in prompt.notes[:MOST_NOTES]:
        warn(f"the prompt at {text[note.start : note.start + EXCERPT]!r}: {note.text}")
    if len(prompt.notes) > MOST_NOTES:
        warn(f"and {len(prompt.notes) - MOST_NOTES:,} more such places in the prompt")


def _scheduled(levels: tuple[float, ...], conds: Sequence[Cond]) -> ScheduledCond:
    """Without levels where nothing changes."""
    return (
        ScheduledCond((), (conds[0],))
        if all(cond is conds[0] for cond in conds)
        else ScheduledCond(levels, tuple(conds))
    )
