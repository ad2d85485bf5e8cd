"""Prompts to conditioning: parsed, weighted, encoded, and scheduled over the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random

from torch import Tensor

from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.guidance import Guide, composed, network_guide
from sfumato.errors import SfumatoError, warn
from sfumato.nets.prior import Underlay
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


def encode_prompts(
    model: Model, settings: Settings, sigmas: Tensor, underlay: Underlay | None = None, after: int = 0
) -> PromptConditioning:
    """Encode the prompts of one picture over a list of noise levels; a prior drafts them on the `underlay`, if any.

    `after` is the number of steps of a first pass, if this is the second. An SfumatoWarning says where a prompt may not
    mean what it seems to. Raises SfumatoError for a prompt that is too long or names an adapter, and for a clip skip
    that the model lacks.
    """
    syntax = settings.prompt_syntax
    levels = tuple(sigmas[:-1].tolist())
    steps = max(1, len(levels))
    prompt, parts = read(syntax, settings.prompt, steps, after=after)
    negative, (away,) = read(syntax, settings.negative, steps, compose=False, after=after)
    _check(prompt, settings.prompt)
    _check(negative, settings.negative)
    every = list(dict.fromkeys(chain(*(part.spans for part in parts), away.spans)))
    conds = dict(zip(every, _encoded(model, settings, every, underlay), strict=True))
    if model.spec.zero_empty_negative and not settings.negative.strip():
        negative_conds = {spans: conds[spans].zeros() for spans in away.spans}
    else:
        negative_conds = conds
    branches = tuple((_scheduled(levels, [conds[spans] for spans in part.spans]), part.weight) for part in parts)
    caption = "".join(span.text for span in parts[0].spans[-1] if isinstance(span, Span))
    return PromptConditioning(branches, _scheduled(levels, [negative_conds[spans] for spans in away.spans]), caption)


def _encoded(model: Model, settings: Settings, texts: Sequence[Spans], underlay: Underlay | None) -> list[Cond]:
    """Encodes texts with the text encoders, or with the model's prior, if it has one, for this seed and size."""
    if model.prior is None:
        return model.encode(texts, settings.clip_skip, settings.emphasis)
    factor = model.spec.vae.factor
    sides = settings.height // factor, settings.width // factor
    every = (model.encode.words(text, settings.clip_skip, settings.emphasis) for text in texts)
    return [model.prior(words, Random(settings.seed), *sides, underlay) for words in every]


def _check(prompt: Prompt, text: str) -> None:
    for adapter in prompt.adapters:
        fix = f"take it out, or write \\{adapter} to have it read as words"
        raise SfumatoError(f"the prompt asks for {adapter}, and this model has no adapter of that name; {fix}")
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
