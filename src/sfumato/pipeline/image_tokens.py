"""Puts the tokens of image prompts into conditioning, with the strengths that they have at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.images.inputs import load_image
from sfumato.pipeline.hints import over_levels
from sfumato.pipeline.model import Model
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.settings.settings import Settings


@torch.no_grad()
def with_image_tokens(model: Model, one: Settings, sigmas: Tensor, prompts: PromptConditioning) -> PromptConditioning:
    """Adds to a picture's conditioning the tokens of its image prompts, and how much each counts at each noise level.

    `model` is the view with their IP-Adapters. The negative prompt gets the tokens that stand for no picture. Raises
    SfumatoError for a picture that cannot be read.
    """
    if not model.key.images:
        return prompts
    pairs, shown_by = [], model.adapters.image_prompts(one)
    for prompt, loaded in zip(shown_by, model.images, strict=True):
        x = loaded.encoder.prepared(load_image(prompt.image, "the picture of an IP-Adapter"))
        pairs.append(loaded.adapter.tokens(loaded.encoder.states(x), loaded.encoder.states(torch.zeros_like(x))))
    shown, unseen = (torch.cat(list(tokens), 1) for tokens in zip(*pairs, strict=True))
    count = len(sigmas) - 1
    weights = [[prompt.weight * prompt.steers(step, count) for prompt in shown_by] for step in range(count)]
    begins = [step for step in range(count) if step == 0 or weights[step] != weights[step - 1]]
    levels = [sigmas[step].item() for step in begins]

    def seen(cond: Cond, strengths: Sequence[float], tokens: Tensor) -> Cond:
        return replace(cond, image_tokens=tokens, image_strengths=torch.tensor([list(strengths)]).to(tokens))

    def over(tokens: Tensor, scheduled: ScheduledCond) -> ScheduledCond:
        return over_levels(scheduled, levels, [weights[step] for step in begins], partial(seen, tokens=tokens))

    branches = tuple((over(shown, scheduled), weight) for scheduled, weight in prompts.branches)
    return replace(prompts, branches=branches, negative=over(unseen, prompts.negative))
