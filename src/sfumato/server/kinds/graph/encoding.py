"""From the conditionings of a graph to those of a network, for one picture of a sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.api import StableDiffusion
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.guidance import Guidance
from sfumato.diffusion.noise_schedule import Table
from sfumato.diffusion.windows import Window, cut
from sfumato.errors import SfumatoError
from sfumato.images.mask import bounds
from sfumato.images.tensors import to_pixels
from sfumato.pipeline.conditioning import conditioning
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.latents import decode
from sfumato.pipeline.model import Model
from sfumato.pipeline.prompts import encode_prompts
from sfumato.pipeline.underlay import Underlay, hole_of, whole_of
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.steering import Placed, Regions, nested, ramped, two_steps
from sfumato.server.kinds.graph.values import (
    ClipRef,
    Conditioning,
    ControlUse,
    Encoding,
    Guider,
    Joined,
    Latent,
    Mixed,
    Part,
    Words,
    Zeroed,
)
from sfumato.settings.control import Control
from sfumato.settings.settings import Settings
from sfumato.settings.tensors import NO_TENSORS, Tensors

EVERYWHERE = (0.0, inf)


def first_words(encoding: Encoding) -> Words:
    """The words with which an encoding begins, for what is told of a picture."""
    while not isinstance(encoding, Words):
        encoding = encoding.to if isinstance(encoding, Mixed) else (
            encoding.first if isinstance(encoding, Joined) else encoding.of
        )  # fmt: skip
    return encoding


def text_of(words: Words) -> str:
    """The text of words that are the same for all encoders, else those of the first that has any."""
    return next((text for text in words.texts if text.strip()), "")


def controls_of(*sides: Conditioning) -> tuple[ControlUse, ...]:
    """The ControlNets of all parts, each once."""
    return tuple(dict.fromkeys(use for side in sides for part in side for use in part.controls))


def controls_for(used: tuple[ControlUse, ...], part: Part | None = None) -> tuple[Control, ...]:
    """The option `control` for ControlNets; those that a part has not are silent there."""
    return tuple(
        Control(
            use.control.name, use.image, weight=use.strength if part is None or use in part.controls else 0.0,
            start=use.start, end=use.end, shows=use.control.shows,
        )
        for use in used
    )  # fmt: skip


def lora_texts(guider: Guider, clip: ClipRef | None) -> tuple[str, ...]:
    """The option `lora`: each LoRA with its strengths for the text encoders and for the network."""
    on_text = {} if clip is None else {use.name: use.strength for use in clip.loras}
    on_model = {use.name: use.strength for use in guider.model.loras}
    names = dict.fromkeys((*on_model, *on_text))
    return tuple(f"{name}:{on_text.get(name, 0):g}:{on_model.get(name, 0):g}" for name in names)


def clip_skip(model: Model, clip: ClipRef) -> dict[str, Any]:
    """The option `clip_skip`, which counts from the layer that a model reads by itself."""
    usual = model.spec.text.skip
    return {} if clip.skip is None else {"clip_skip": max(1, -clip.skip - usual + 1)}


@dataclass(frozen=True, eq=False)
class Conditions:
    """Makes the guidance of one picture: `model` is the view that draws it, `one` its settings.

    `latent` is what it is drawn on, of which it is the row `row`, `strength` the share of the steps that are taken.
    """

    run: Run
    guider: Guider
    model: StableDiffusion
    one: Settings
    sigmas: Tensor
    table: Table
    latent: Latent
    row: int
    strength: float

    def guidance(self) -> Guidance:
        """The guidance towards the positive and away from the negative conditioning."""
        model, guider = self.model.for_picture(self.one), self.guider
        if self.plain:
            prompts = self._conditioning(self.one, guider.positive[0])
            return guided(model, self.one, self.sigmas, prompts)
        used = controls_of(guider.positive, guider.negative, guider.middle)
        to, away, middle = (
            tuple(self._placed(part, used, side == 1) for part in parts)
            for side, parts in enumerate((guider.positive, guider.negative or guider.positive, guider.middle))
        )
        prompts = Regions(((to[0].cond, 1.0),), away[0].cond, "", to, away)
        if not middle:
            return guided(model, self.one, self.sigmas, prompts)
        first, last = prompts.positive_guide(model.denoiser), prompts.negative_guide(model.denoiser)
        between = replace(prompts, to=middle).positive_guide(model.denoiser)
        combine = nested if guider.nested else two_steps
        return Guidance(lambda: combine(first, between, last, guider.cfg, guider.middle_cfg))

    @cached_property
    def plain(self) -> bool:
        """Whether the settings say all: one text for each side, read by the model's own encoders."""
        sides = [side for side in (self.guider.positive, self.guider.negative) if side]
        if self.guider.middle or any(len(side) != 1 or not side[0].plain for side in sides):
            return False
        words = [side[0].encoding for side in sides]
        if not all(isinstance(one, Words) and len(set(one.texts)) == 1 for one in words):
            return False
        alike = len({(one.clip, one.sizes) for one in words if isinstance(one, Words)}) == 1
        same = len({(side[0].controls, side[0].beside) for side in sides}) == 1
        own = isinstance(words[0], Words) and words[0].clip.parts == self.guider.model.parts
        return alike and same and own and not (self.model.spec.zero_empty_negative and not self.one.negative.strip())

    def _conditioning(self, one: Settings, part: Part, size: tuple[int, int] | None = None) -> Any:
        """As `pipeline.conditioning`, of a part; of an area the `size` is its own, and it is a picture by itself."""
        concat = self._concat(part) if size is None else None
        return conditioning(self.model, one, self.sigmas, concat, self.underlay if size is None else None)

    def _placed(self, part: Part, used: tuple[ControlUse, ...], negative: bool) -> Placed:
        spec, height, width = self.model.spec, *self.latent.samples.shape[2:]
        window = self._window(part)
        changed: dict[str, Any] = dict(first_words(part.encoding).sizes) if spec.micro_conditioning else {}
        changed["control"] = controls_for(used, part)
        if window is not None:
            if used:
                raise SfumatoError("a conditioning with an area cannot have a ControlNet; use a mask, or leave one out")
            sides = [spec.vae.factor * (one.stop - one.start) for one in window]
            changed |= {"height": sides[0], "width": sides[1]}
        one = replace(self.one, **changed)
        cond = self._encoded(part.encoding, one, None if window else self.underlay)
        given = Tensors(negative_embeds=cond) if negative else Tensors(prompt_embeds=cond)
        one = replace(one, prompt="", negative="", tensors=given, clip_skip=1)
        made = self._conditioning(one, part, None if window is None else (one.width, one.height))
        scheduled = made.negative if negative else made.branches[0][0]
        if window is not None:
            scheduled = scheduled.map(lambda cond: self._cut(cond, window))
        low, high = self._levels(part)
        weight = self._weight(part, window, (height, width))
        return Placed(scheduled, weight, window, low, high)

    def _cut(self, cond: Cond, window: Window) -> Cond:
        height, width = self.latent.samples.shape[2:]
        whole = cond.concat is not None and cond.concat.shape[2:] == (height, width)
        return cut(cond, window, height, width) if whole else cond

    def _window(self, part: Part) -> Window | None:
        height, width = self.latent.samples.shape[2:]
        step = self.model.spec.multiple // self.model.spec.vae.factor
        if part.area is not None:
            return part.area.within(height, width, self.model.spec.vae.factor, step)
        if part.mask is None or not part.to_area or not part.mask.any():
            return None
        left, top, right, bottom = bounds(_at_size(part.mask, height, width))
        rows, columns = (
            slice(first // step * step, min(most, -(-last // step) * step))
            for first, last, most in ((top, bottom, height), (left, right, width))
        )
        return rows, columns

    def _weight(self, part: Part, window: Window | None, size: tuple[int, int]) -> Tensor:
        weight = torch.full((1, 1, *size), part.strength)
        if part.mask is not None:
            weight = weight * part.mask_strength * _at_size(part.mask, *size)
        if window is None:
            return weight
        inner = weight[..., *window]
        return inner if part.mask is not None else ramped(inner, window, size)

    def _levels(self, part: Part) -> tuple[float, float]:
        """The noise levels between the shares of the training times in which a part counts."""
        first = self.table.ends[0]

        def level(share: float) -> float:
            return self.table.sigma(torch.tensor([(1 - share) * first], dtype=torch.float64)).item()

        low, high = EVERYWHERE
        if part.start > 0:
            high = level(part.start)
        if part.end < 1:
            low = level(part.end)
        return low, high

    def _concat(self, part: Part) -> Tensor | None:
        """What a network that inpaints sees beside the latents: the mask, and the picture without its inside."""
        if self.model.spec.edits and part.beside is not None:
            return part.beside.picture[self.row % len(part.beside.picture)][None]
        if not self.model.spec.inpaints:
            return None
        size = self.latent.samples.shape[2:]
        if part.beside is not None:
            picture, mask = part.beside.picture[self.row % len(part.beside.picture)][None], part.beside.mask
        elif self.latent.mask is not None and not self.latent.empty:
            picture, mask = self.latent.samples[self.row][None], self.latent.mask
        else:
            return None
        picture = picture if picture.shape[2:] == size else F.interpolate(picture, size, mode="bilinear")
        return torch.cat([(_at_size(mask[:1], *size) > 0.5).to(picture), picture], 1)

    @cached_property
    def underlay(self) -> Underlay | None:
        """What a model with a prior drafts on: the picture that is changed, or the part of it that the mask shows."""
        if self.model.prior is None or self.latent.empty or self.latent.noisy:
            return None
        picture, mask = self.latent.samples[self.row][None], self.latent.mask
        if mask is None:
            return whole_of(picture, self.strength)
        pixels = to_pixels(decode(self.model.vae, picture))
        mask = _at_size(mask[self.row % len(mask)][None], *pixels.shape[2:])
        words = first_words(self.guider.positive[0].encoding)
        return hole_of(self.model.vae, pixels, mask.round(), not text_of(words).strip())

    def _encoded(self, encoding: Encoding, one: Settings, underlay: Underlay | None) -> Cond:
        """The one row of an encoding, read by the text encoders that it names."""
        match encoding:
            case Zeroed(of=of):
                return self._encoded(of, one, underlay).zeros()
            case Mixed(to=to, start=start, share=share):
                ours, theirs = (self._encoded(each, one, underlay) for each in (to, start))
                return Cond.combined(_alike(ours, theirs), lambda both: share * both[0] + (1 - share) * both[1])
            case Joined(first=first, second=second):
                ours, theirs = (self._encoded(each, one, underlay) for each in (first, second))
                return replace(ours, tokens=torch.cat([ours.tokens, theirs.tokens], 1))
            case Words():
                return self._read(encoding, one, underlay)

    def _read(self, words: Words, one: Settings, underlay: Underlay | None) -> Cond:
        model = self.run.model(words.clip.parts)
        loras = tuple(f"{use.name}:{use.strength:g}:0" for use in words.clip.loras)
        skip = clip_skip(model, words.clip).get("clip_skip", 1)
        one = replace(one, lora=loras, negative="", clip_skip=skip, tensors=NO_TENSORS, control=(), ip_adapter=())
        read: dict[str, Cond] = {}
        several = len(model.encode.towers) + (model.encode.t5 is not None) > 1 and len(set(words.texts)) > 1
        for text in dict.fromkeys(words.texts if several else (text_of(words),)):
            own = replace(one, prompt=text)
            made = encode_prompts(model.for_picture(own), own, self.sigmas, underlay)
            read[text] = made.branches[0][0].conds[0]
        return _by_tower(model, [read[text] for text in words.texts]) if several else next(iter(read.values()))


def _by_tower(model: Model, conds: list[Cond]) -> Cond:
    """Of encodings by several encoders that which each was meant for: columns of CLIP's, and after them T5's rows."""
    if len({cond.shapes for cond in conds}) > 1:
        raise SfumatoError(
            "the texts for several encoders differ too much in length; make them about as long, or equal"
        )
    widths = [tower.cfg.hidden_size for tower in model.encode.towers]
    clip = [*conds[: len(widths)]] + conds[:1] * (len(widths) - len(conds))
    ends = torch.tensor([0, *widths]).cumsum(0).tolist()
    tokens = conds[-1].tokens.clone()
    rows = tokens.shape[1] if model.encode.t5 is None else tokens.shape[1] - model.encode.t5.length
    for cond, start, end in zip(clip, ends, ends[1:], strict=False):
        tokens[:, :rows, start:end] = cond.tokens[:, :rows, start:end]
    pooled = clip[-1].pooled
    if pooled is not None and pooled.shape[1] == ends[-1]:
        parts = (cond.pooled for cond in clip)
        pooled = torch.cat(
            [part[:, a:b] for part, a, b in zip(parts, ends, ends[1:], strict=False) if part is not None], 1
        )
    return Cond(tokens, pooled)


def _alike(ours: Cond, theirs: Cond) -> list[Cond]:
    """Two encodings with as many tokens as the first has: the second is cut, or filled with zeros."""
    length = ours.tokens.shape[1]
    tokens = F.pad(theirs.tokens, (0, 0, 0, max(0, length - theirs.tokens.shape[1])))[:, :length]
    return [ours, replace(theirs, tokens=tokens)]


def _at_size(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (B, 1, H, W) at another size, its shares blended."""
    if mask.shape[2:] == (height, width):
        return mask.float()
    return F.interpolate(mask.float(), (height, width), mode="bilinear", antialias=True).clamp(0, 1)


def options_of(guider: Guider, model: Model) -> tuple[str, str, Mapping[str, Any]]:
    """Prompt, negative prompt and the options that the conditionings of a guider say."""
    words = first_words(guider.positive[0].encoding)
    away = first_words(guider.negative[0].encoding) if guider.negative else replace(words, texts=("",))
    options: dict[str, Any] = {
        "lora": lora_texts(guider, words.clip),
        "hypernetwork": tuple(f"{use.name}:{use.strength:g}" for use in guider.model.hypernetworks),
        "control": controls_for(controls_of(guider.positive, guider.negative, guider.middle)),
        **clip_skip(model, words.clip),
    }
    options |= {name: value for name, value in words.sizes if name in model.spec.micro_conditioning}
    return text_of(words), text_of(away), {name: value for name, value in options.items() if value != ()}
