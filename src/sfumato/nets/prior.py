"""A scene prior: from words to what a denoiser is conditioned on, by way of things and places.

As the prior of DALL-E 2 (Ramesh et al. 2022, section 2.2) it stands between a text tower and a denoiser, and what it
hands on is a code of the picture. Three parts, each small: a `reader` says which things a prompt names, a `memory`
knows a code of each thing in each style, and a `composer` lays the things out and drafts the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.nets.composer import DETAIL_LEVELS, Autoencoding, Composer, Things
from sfumato.nets.layout import (
    ARRANGEMENTS,
    MAX_THINGS,
    PLACES,
    POSES,
    SIZES,
    Arrangement,
    Group,
    Place,
    Region,
    Spot,
    filling,
    spots,
)
from sfumato.nets.lexicon import Lexicon
from sfumato.nets.packed import packed, per_float, unpacked
from sfumato.nets.reader import Phrases, Reader, Reading, value_count
from sfumato.spec import PriorConfig


@dataclass(frozen=True, eq=False)
class NewThing:
    """A thing that no memory holds: its `codes` (S, K + D) in all styles, and `known` (S,), 1 for those of which there
    were pictures."""

    codes: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class NamedThing:
    """A new thing where a prompt names it: `tokens` (L,), 1 where they do."""

    tokens: Tensor
    thing: NewThing


@dataclass(frozen=True, eq=False)
class Words:
    """A prompt as a text tower hands it on.

    `states` and `embeddings` (1, L, D) of its tokens, the latter without their positions; `weights` (1, L), how much a
    token counts, 0 for padding; for the lexicon the `text` itself, and `lengths`, how many of its bytes each token
    stands for. `new` are things that are named besides, by words of their own that the text leaves out.
    """

    states: Tensor
    embeddings: Tensor
    weights: Tensor
    text: str
    lengths: tuple[int, ...]
    new: tuple[NamedThing, ...] = ()


ONE = Group()
GROUPS_OF: dict[Arrangement, tuple[int, ...]] = {"one": (1,), "row": (3, 4)}  # how many it takes; the others two
REPEATED = 6.0  # how much less likely a concept is that another group has already


@dataclass(frozen=True, eq=False)
class Underlay:
    """A picture that is drawn on: its `latents` (1, C, h, w), and how much of it is to change.

    With a `region` what is drawn goes into that part of the picture, and the latents there are those of its ground.
    Without one the whole picture changes, the more the higher the `strength` (0 to 1). `goes_on` says that a prompt
    which names nothing draws that ground; else it draws whatever may be there.
    """

    latents: Tensor
    region: Region | None = None
    strength: float = 1.0
    goes_on: bool = False


@dataclass(frozen=True)
class Named:
    """A group of equal things that a prompt names: the numbers of its concept and of its tint (0: its own colours)."""

    concept: int
    tint: int = 0
    group: Group = ONE


@dataclass(frozen=True)
class Understood:
    """Says what a prompt asks for. `style` is None where the prompt names none. `ground` is a number as in `Things`."""

    things: tuple[Named, ...]
    arrangement: Arrangement
    place: Place | None
    style: int | None
    ground: int


class Memory(nn.Module):
    """`codes` (C, S, K) of concepts in styles, and D details each: tables `details_L` (C, S, n), packed, of each of
    `DETAIL_LEVELS`, see `nets.packed`.

    `known` (C, S), 1 or 0, says which of them are of pictures; the others are guesses from the same concept in other
    styles, or zeros where the concept has no picture at all.
    """

    codes: Tensor
    known: Tensor

    def __init__(self, cfg: PriorConfig):
        super().__init__()
        self.cfg = cfg
        self.register_buffer("codes", torch.zeros(cfg.concepts, cfg.styles, cfg.code))
        self.register_buffer("known", torch.zeros(cfg.concepts, cfg.styles))
        for levels, count in zip(DETAIL_LEVELS, cfg.detail, strict=False):
            self.register_buffer(f"details_{levels}", torch.zeros(cfg.concepts, cfg.styles, count // per_float(levels)))

    def forward(self, concepts: Tensor, styles: Tensor) -> Tensor:
        """Codes (M, K + D) of M concepts in M styles."""
        details = [unpacked(table[concepts, styles], levels) for levels, table in self.details()]
        return torch.cat([self.codes[concepts, styles].float(), *details], -1)

    def details(self) -> list[tuple[int, Tensor]]:
        """The tables of details with the number of levels of what they hold."""
        return [(levels, self.get_buffer(f"details_{levels}")) for levels in DETAIL_LEVELS[: len(self.cfg.detail)]]

    def remember(self, place: tuple[int, int] | slice, details: Tensor) -> None:
        """Keeps details (..., D) of the concept and style at a `place` of the tables."""
        parts = details.split(list(self.cfg.detail), -1)
        for (levels, table), part in zip(self.details(), parts, strict=True):
            table[place] = packed(part, levels).to(table)

    def styles_of(self, concepts: Sequence[int]) -> list[int]:
        """The styles in which all of these concepts have pictures; failing that those in which the first has."""
        known = self.known > 0
        common = known[list(concepts)].all(0)
        some = common if common.any() else known[concepts[0]]
        return some.nonzero()[:, 0].tolist() or list(range(known.shape[1]))

    def extended(self, new: Sequence[NewThing]) -> Memory:
        """A memory of these things as well, under the numbers after all others; itself where there are none."""
        if not new:
            return self
        result = Memory(replace(self.cfg, concepts=self.cfg.concepts + len(new)))
        width = self.cfg.code
        codes = torch.stack([one.codes for one in new]).to(self.codes)
        result.codes = torch.cat([self.codes, codes[..., :width]])
        result.known = torch.cat([self.known, torch.stack([one.known for one in new]).to(self.known)])
        details = torch.stack([one.codes[:, width:] for one in new]).split(list(self.cfg.detail), -1)
        for (levels, table), part in zip(self.details(), details, strict=True):
            setattr(result, f"details_{levels}", torch.cat([table, packed(part, levels).to(table)]))
        return result


class ScenePrior(nn.Module):
    """Words -> Cond for one picture, see `forward`."""

    def __init__(self, cfg: PriorConfig):
        super().__init__()
        self.cfg = cfg
        self.reader = Reader(cfg)
        self.lexicon = Lexicon(cfg.phrases, cfg.concepts, value_count(cfg))
        self.memory = Memory(cfg)
        self.composer = Composer(cfg)

    @torch.no_grad()
    def forward(
        self, words: Words, rng: Random, height: int, width: int, autoencoding: Autoencoding,
        underlay: Underlay | Region | None = None,
    ) -> Cond:  # fmt: skip
        """The conditioning (1 row) of a picture of height x width latents, both even.

        What words leave open, the style and the exact places, `rng` decides. With an `underlay` the draft goes on from
        that picture; what goes into a region of it stands on its ground, unless words name another. A `Region` instead
        is what the things are to fill together.
        """
        understood, new = self.understand(words), [one.thing for one in words.new]
        nothing = not understood.things and understood.ground == self.cfg.grounds
        size = height, width
        if isinstance(underlay, Region):
            told = self.things([understood], [rng], new=new, fitted=lambda found: filling(found, underlay))
            return self.compose(told, *size, autoencoding)
        if underlay is None or (nothing and not underlay.goes_on):
            return self.compose(self.things([understood], [rng], new=new), *size, autoencoding)
        latents = underlay.latents.to(self.memory.codes.device)
        if underlay.region is None:
            told = self.things([understood], [rng], new=new)
            own = self.composer.drafted(told, *size, autoencoding) if underlay.strength else latents.float()
            return replace(self.composer(told, own), concat=latents.float().lerp(own, underlay.strength))
        if nothing or understood.ground == self.cfg.grounds - 1:
            middle = latents[0].flatten(1).median(1).values[None, :, None, None]
            plain = autoencoding.decode(middle.expand(1, -1, *size))
            understood = replace(understood, ground=self.composer.nearest_ground(plain))
        region, groups = underlay.region, len(understood.things)
        told = self.things([understood], [rng], new=new, fitted=lambda found: _inside(found, region, groups))
        return self.compose(told, *size, autoencoding, latents)

    def compose(
        self, things: Things, height: int, width: int, autoencoding: Autoencoding, on: Tensor | None = None
    ) -> Cond:
        """The conditioning of things, with their draft; the arguments are those of `Composer.drafted`."""
        return self.composer(things, self.composer.drafted(things, height, width, autoencoding, on))

    def understand(self, words: Words) -> Understood:
        """Reads what a prompt asks for. New things have the numbers after those of all concepts, in their order."""
        found = self.lexicon.find(words.text, words.lengths).with_names([one.tokens for one in words.new])
        phrases = Phrases.of([found]).to(words.states.device)
        reading = self.reader(words.states, words.embeddings, words.weights, phrases)
        known = [self.memory.known > 0, *(one.thing.known[None].to(self.memory.known) > 0 for one in words.new)]
        return decided(reading, self.cfg, torch.cat(known))

    def things(
        self, asked: Sequence[Understood], rngs: Sequence[Random], new: Sequence[NewThing] = (),
        fitted: Callable[[list[Spot]], list[Spot]] = lambda found: found,
    ) -> Things:  # fmt: skip
        """The things of B pictures in their places, of which `fitted` may make others; `new` are those that the memory
        does not hold."""
        memory = self.memory.extended(new)
        cfg, device, n = self.cfg, self.memory.codes.device, len(asked)
        out = Things(
            torch.zeros(n, MAX_THINGS, cfg.code + sum(cfg.detail), device=device),
            torch.zeros(n, MAX_THINGS, dtype=torch.int64, device=device),
            torch.tensor([0.5, 0.5, 1.0, 0.0, 0.0], device=device).repeat(n, MAX_THINGS, 1),
            torch.zeros(n, MAX_THINGS, dtype=torch.bool, device=device),
            torch.tensor([one.ground for one in asked], device=device),
        )
        for i, (one, rng) in enumerate(zip(asked, rngs, strict=True)):
            if not one.things:
                continue
            concepts = [thing.concept for thing in one.things]
            style = rng.choice(memory.styles_of(concepts)) if one.style is None else one.style
            codes = memory(torch.tensor(concepts), torch.tensor([style] * len(concepts)))
            found = spots(one.arrangement, one.place, [t.group for t in one.things], rng)
            for k, spot in enumerate(fitted(found)):
                out.codes[i, k], out.tint[i, k] = codes[spot.group], one.things[spot.group].tint
                out.spot[i, k] = torch.tensor([spot.x, spot.y, spot.side, spot.angle, float(spot.mirrored)])
                out.present[i, k] = True
        return out

    def nothing(self, height: int, width: int) -> Cond:
        """The conditioning of a picture of which nothing is known: what guidance leads away from."""
        nothing = self.things([Understood((), "one", None, None, self.cfg.grounds)], [Random(0)])
        return self.composer(nothing, self.composer.unknown[:, None, None].expand(1, -1, height, width))


def decided(reading: Reading, cfg: PriorConfig, known: Tensor) -> Understood:
    """The most likely request of a reading of one prompt, made consistent: as many groups as its arrangement takes."""
    ground, style = int(reading.ground[0].argmax()), int(reading.style[0].argmax())
    count = reading.count[0].float()
    if int(count[0].argmax()) == 0:
        unsaid = ground == cfg.grounds - 1
        return Understood((), "one", None, None, cfg.grounds if unsaid else ground)
    arrangement, groups, place = _arranged(reading)
    allowed = reading.concept[0].float().masked_fill(~known.any(1), float("-inf"))
    counts = [1 + int(count[k, 1:].argmax()) for k in range(groups)]
    while sum(counts) > MAX_THINGS:
        counts[counts.index(max(counts))] -= 1
    things: list[Named] = []
    for k in range(groups):
        if groups > 1 and things:  # several groups are of several things
            allowed[k, [thing.concept for thing in things]] -= REPEATED
        size, pose = int(reading.size[0, k].argmax()), int(reading.pose[0, k].argmax())
        group = Group(counts[k], SIZES[size - 1] if size else None, POSES[pose - 1] if pose else None)
        things.append(Named(int(allowed[k].argmax()), int(reading.tint[0, k].argmax()), group))
    return Understood(tuple(things), arrangement, place, None if style == cfg.styles else style, ground)


def _arranged(reading: Reading) -> tuple[Arrangement, int, Place | None]:
    """The arrangement of a prompt that names something, how many groups it has, and where one that is alone lies.

    Of all that go together, these are the likeliest: the reader says of each by itself how likely it is.
    """
    arrangements, places = (
        logits[0].float().log_softmax(-1).tolist() for logits in (reading.arrangement, reading.place)
    )
    absent = reading.count[0].float().log_softmax(-1)[:, 0]
    present = torch.log1p(-absent.exp().clamp(max=1 - 1e-6)).tolist()
    best_place = max(range(len(places)), key=lambda k: places[k])

    def likely(arrangement: Arrangement, groups: int) -> float:
        place = places[best_place if arrangement == "one" else 0]
        own = arrangements[ARRANGEMENTS.index(arrangement)]
        return own + place + sum(present[:groups]) + sum(absent[groups:].tolist())

    choices = [(one, groups) for one in ARRANGEMENTS for groups in GROUPS_OF.get(one, (2,))]
    arrangement, groups = max(choices, key=lambda choice: likely(*choice))
    place = PLACES[best_place - 1] if best_place and arrangement == "one" else None
    return arrangement, groups, place


def _inside(found: Sequence[Spot], region: Region, groups: int) -> list[Spot]:
    """The spots of what is drawn into a part of a picture. A single group goes there whole. Of several, which then
    describe the whole picture, those that lie there by themselves; if none does, all go there."""
    inside = [
        spot
        for spot in found
        if 2 * abs(spot.x - region.x) <= region.width and 2 * abs(spot.y - region.y) <= region.height
    ]
    return inside if inside and groups > 1 else [_moved(spot, region) for spot in found]


def _moved(spot: Spot, region: Region) -> Spot:
    """A spot of the whole picture as one of a part of it."""
    return replace(
        spot,
        x=region.x + (spot.x - 0.5) * region.width,
        y=region.y + (spot.y - 0.5) * region.height,
        side=spot.side * min(region.width, region.height),
    )
