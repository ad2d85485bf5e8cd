"""The emoji set as training methods see it: `protocol.TrainingSet` with backgrounds, captions and composed scenes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data.emoji import captions, scene_captions
from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLES
from sfumato.data.emoji.concept_scenes import ConceptScenes
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.labelled_pictures import LabelledEmoji
from sfumato.data.emoji.labelled_scenes import LabelledConceptScenes
from sfumato.data.emoji.noun_scenes import NounScene, NounScenes
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.emoji.prompts import EmojiPrompts
from sfumato.data.emoji.scenes import WHITE, named_colour
from sfumato.data.pictures.examples import ExampleOptions, ExamplePictures
from sfumato.data.protocol import Example, PictureList, Rgb
from sfumato.errors import SfumatoError
from sfumato.images.tensors import compose
from sfumato.nets.layout import Spot
from sfumato.seeding import shuffled, stream
from sfumato.typed import build

FLAT_SHARE = 0.1  # of scenes without overlap, where depth is to be learnt


@dataclass(frozen=True)
class EmojiOptions:
    """The table [data] in a denoiser's recipe.

    Each picture is encoded on white and on `backgrounds` named colours, and `background_share` is how often captions
    ask for one of these. `styles` says how often pictures of a style come in an epoch (default 1), `subgroups` the same
    for Unicode's subgroups of concepts, of which `only` these are learnt (empty: all), and `languages` how often
    captions of a language are drawn. With `scenes`, the
    first so many scenes of `noun_scenes` are the share `scene_share` of every batch. Raises SfumatoError for unknown
    names and shares.
    """

    backgrounds: int = 3
    background_share: float = captions.BACKGROUND_SHARE
    styles: dict[str, int] = field(default_factory=dict)
    subgroups: dict[str, int] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    languages: dict[str, float] = field(default_factory=dict)
    scenes: int = 0
    scene_share: float = 0.4

    def __post_init__(self) -> None:
        for given, known, what in ((self.styles, STYLES, "style"), (self.languages, LANGUAGES, "language")):
            unknown = sorted(given.keys() - set(known))
            if unknown:
                raise SfumatoError(f"unknown {what} '{unknown[0]}'; choose from {', '.join(known)}")
        if not 0 <= self.scene_share <= 1:
            raise SfumatoError(f"scene_share is {self.scene_share}; expected 0 to 1")


class EmojiTrainingSet(EmojiData):
    """The emoji set for training: a `protocol.TrainingSet`."""

    def captioned(self, options: Mapping[str, Any], seed: int, held_out: int) -> CaptionedEmoji:
        """See `protocol.TrainingSet`; `options` are those of `EmojiOptions`."""
        return CaptionedEmoji(self, build(EmojiOptions, dict(options), "[data]"), seed, held_out)

    def examples(self, seed: int, single: float, deep: bool = False) -> EmojiExamples:
        """See `protocol.TrainingSet`."""
        return EmojiExamples(self, seed, single, deep)

    def samples(self, options: Mapping[str, Any], seed: int, resolution: int, multiple: int) -> ExamplePictures:
        """See `pictures.protocol.SampleSource`; `options` are those of `ExampleOptions`."""
        return ExamplePictures(self, build(ExampleOptions, dict(options), "[data]"), seed, resolution, multiple)

    def caption(self, rng: Random, composed: float) -> str:
        """See `protocol.TrainingSet`."""
        language = captions.language(rng)
        if rng.random() < composed:
            return scene_captions.caption(self._scenes[rng.randrange(1 << 30)], language, rng)
        train = self.splits["train"]
        i = int(train[rng.randrange(len(train))])
        return captions.caption(self.concept(i), self.style(i), language, rng, captions.background(rng))

    def scenes(self, seed: int) -> LabelledConceptScenes:
        """See `protocol.TrainingSet`."""
        return LabelledConceptScenes(self, seed)

    def labelled(self, seed: int) -> LabelledEmoji:
        """See `protocol.TrainingSet`."""
        return LabelledEmoji(self, seed)

    @property
    def tints(self) -> list[tuple[Rgb, Rgb]]:
        """See `protocol.TrainingSet`."""
        return [(colour.low, colour.high) for colour in map(named_colour, TINTS)]

    def prompts(self) -> EmojiPrompts:
        """See `protocol.TrainingSet`."""
        return EmojiPrompts(self)

    def alone(self, spot: Spot, ground: Rgb = WHITE) -> AloneOnGround:
        """See `protocol.TrainingSet`."""
        return AloneOnGround(self, spot, ground)

    @cached_property
    def _scenes(self) -> NounScenes:
        return NounScenes(self)


class OnBackgrounds:
    """Pictures of the set on white and on some named colours: a `protocol.PictureList`.

    `chosen` are their numbers in the set (None: all). Variant 0 of a picture is on white, which captions do not name.
    """

    name = "pictures"

    def __init__(self, data: EmojiData, backgrounds: int, chosen: Sequence[int] | None = None) -> None:
        self.data, self.variants = data, 1 + backgrounds
        self._chosen = np.array(range(len(data)) if chosen is None else chosen, np.int64)
        self._place = {int(i): place for place, i in enumerate(self._chosen)}
        rng = stream(0, "backgrounds", 0)
        places = rng.permuted(np.tile(np.arange(len(COLOURS)), (len(data), 1)), axis=1)[:, :backgrounds]
        low, high = (np.array([getattr(colour, end) for colour in COLOURS], np.float32) for end in ("low", "high"))
        where = rng.random((len(data), backgrounds, 3), np.float32)
        white = np.full((len(data), 1, 3), 255, np.float32)
        self._places = places
        self._rgb = np.concatenate([white, (low[places] + where * (high - low)[places]).round()], 1)
        some = "" if len(self._chosen) == len(data) else f" of {_hash(self._chosen.tobytes())}"
        self.fingerprint = f"{_hash(data.manifest)} on {backgrounds}{some}"

    def __len__(self) -> int:
        return len(self._chosen) * self.variants

    def number(self, i: int, variant: int = 0) -> int:
        """Returns the number that a variant of the set's picture i has in this list."""
        return self._place[i] * self.variants + variant

    def draw(self, numbers: np.ndarray) -> Tensor:
        """Returns the pictures with these numbers, (B, 3, S, S) in [-1, 1]."""
        places, variants = np.divmod(numbers, self.variants)
        pictures = self._chosen[places]
        return compose(self.data.pictures(pictures), self._rgb[pictures, variants])

    def colour(self, i: int, variant: int) -> captions.Colour | None:
        """Returns the named colour of a variant of picture i, None for white."""
        return COLOURS[int(self._places[i, variant - 1])] if variant else None


class AloneOnGround:
    """The thing of each picture, alone on a plain ground at a spot: a `protocol.PictureList`."""

    name = "things"

    def __init__(self, data: EmojiData, spot: Spot, ground: Rgb) -> None:
        self._scenes, self._spot, self._ground = ConceptScenes(data), spot, ground
        on = "" if ground == WHITE else f" on {ground}"
        self.fingerprint = f"{_hash(data.manifest)} alone at {spot}{on}"

    def __len__(self) -> int:
        return len(self._scenes.data)

    def draw(self, numbers: np.ndarray) -> Tensor:
        """Returns the pictures with these numbers, (B, 3, S, S) in [-1, 1]."""
        scenes = (replace(self._scenes.alone(int(n), self._spot), rgb=self._ground) for n in numbers)
        return torch.stack([self._scenes.draw(scene).picture for scene in scenes])


class SceneList:
    """The first `count` scenes of a seed: a `protocol.PictureList`."""

    name = "scenes"

    def __init__(self, scenes: NounScenes, count: int) -> None:
        self._scenes = scenes
        self.layouts: list[NounScene] = [scenes[k] for k in range(count)]
        drawn = [
            (s.rgb, [(p.picture, p.colour and p.colour.name, p.box, p.order) for p in s.objects]) for s in self.layouts
        ]
        self.fingerprint = f"{_hash(scenes.data.manifest)} scenes {_hash(repr(drawn).encode())}"

    def __len__(self) -> int:
        return len(self.layouts)

    def draw(self, numbers: np.ndarray) -> Tensor:
        """Returns the scenes with these numbers, (B, 3, S, S) in [-1, 1]."""
        return torch.stack([self._scenes.draw(self.layouts[int(k)]).picture for k in numbers])


class CaptionedEmoji:
    """Single emoji, and composed scenes if the options ask for them: a `protocol.Captioned`."""

    def __init__(self, data: EmojiData, options: EmojiOptions, seed: int, held_out: int) -> None:
        self.data, self.options = data, options
        self._seed, self._held_out = seed, held_out
        chosen = [i for i in range(len(data)) if self._repeats(i)]
        self._pictures = OnBackgrounds(data, options.backgrounds, chosen)
        self._scenes = SceneList(NounScenes(data), options.scenes + held_out) if options.scenes else None
        self.parts: list[PictureList] = [self._pictures] if self._scenes is None else [self._pictures, self._scenes]
        train = data.splits["train"]
        self.epoch = np.repeat(train, [self._repeats(int(i)) for i in train])
        if not len(self.epoch):
            raise SfumatoError("no picture is left to learn from; see `only`, `styles` and `subgroups` in [data]")
        unseen = np.concatenate([data.splits["unseen_picture"], data.splits["unseen_concept"]])
        self._unseen = np.array([i for i in sorted(unseen) if self._repeats(int(i))], np.int64)
        weights = [options.languages.get(language, 1.0) for language in LANGUAGES]
        self._languages = weights if options.languages else list(captions.LANGUAGE_WEIGHTS)

    def batch(self, step: int, count: int) -> tuple[np.ndarray, list[str]]:
        """See `protocol.Captioned`; scenes come after single emoji."""
        options, seed = self.options, self._seed
        composed = round(options.scene_share * count) if self._scenes else 0
        single = count - composed
        rng = Random(int(stream(seed, "captions", step).integers(2**63)))
        numbers, texts = [], []
        for i in self.epoch[shuffled(seed, "pictures", step * single, single, len(self.epoch))].tolist():
            plain = options.backgrounds == 0 or rng.random() >= options.background_share
            variant = 0 if plain else rng.randint(1, options.backgrounds)
            numbers.append(self._pictures.number(i, variant))
            colour = self._pictures.colour(i, variant)
            texts.append(captions.caption(self.data.concept(i), self.data.style(i), self._language(rng), rng, colour))
        if self._scenes:
            for k in shuffled(seed, "scenes", step * composed, composed, options.scenes).tolist():
                numbers.append(len(self._pictures) + k)
                texts.append(scene_captions.caption(self._scenes.layouts[k], self._language(rng), rng))
        return np.array(numbers, np.int64), texts

    def validation(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        """See `protocol.Captioned`: pictures on white, "seen" and "unseen"; "scenes" that training does not see."""
        found = {}
        for name, some in {"seen": np.unique(self.epoch), "unseen": self._unseen}.items():
            if len(some):
                chosen = some[np.linspace(0, len(some) - 1, self._held_out).astype(int)]
                prompts = [
                    self.data.prompt(self.data.subject(i), self.data.style(i), LANGUAGES[k % len(LANGUAGES)])
                    for k, i in enumerate(chosen.tolist())
                ]
                found[name] = np.array([self._pictures.number(int(i)) for i in chosen], np.int64), prompts
        if self._scenes:
            new = self._scenes.layouts[self.options.scenes :]
            prompts = [scene_captions.prompt(scene, LANGUAGES[k % len(LANGUAGES)]) for k, scene in enumerate(new)]
            found["scenes"] = len(self._pictures) + self.options.scenes + np.arange(len(new)), prompts
        return found

    def _repeats(self, i: int) -> int:
        """Returns how often picture i comes in an epoch."""
        options, data = self.options, self.data
        if options.only and data.concept(i).subgroup not in options.only:
            return 0
        return options.styles.get(data.style(i), 1) * options.subgroups.get(data.concept(i).subgroup, 1)

    def _language(self, rng: Random) -> str:
        return rng.choices(LANGUAGES, self._languages)[0]


class EmojiExamples:
    """Composed scenes and single emoji: `protocol.Examples`, each a function of the set, the seed and its number.

    `single` is the share of single emoji. With `deep` most scenes show one thing in front of another.
    """

    def __init__(self, data: EmojiData, seed: int, single: float, deep: bool = False) -> None:
        self.data, self.seed, self.single, self.deep = data, seed, single, deep
        self._scenes = NounScenes(data, seed)
        self._train: Sequence[int] = data.splits["train"].tolist()

    def __getitem__(self, number: int) -> Example:
        rng = Random(f"{self.seed}/{number}")
        return self._one(rng) if rng.random() < self.single else self._scene(rng)

    def _one(self, rng: Random) -> Example:
        i, colour = rng.choice(self._train), captions.background(rng)
        rgba = self.data.picture(i).copy()
        thing = torch.from_numpy(rgba[..., 3] > 127)
        concept, style = self.data.concept(i), self.data.style(i)
        return Example(
            compose(rgba, colour.sample(rng) if colour else WHITE),
            thing[None],
            thing.float(),
            lambda rng: captions.caption(concept, style, captions.language(rng), rng, colour),
        )

    def _scene(self, rng: Random) -> Example:
        scene = self._scenes[rng.randrange(1 << 40)]
        while self.deep and scene.kind != "front" and rng.random() > FLAT_SHARE:
            scene = self._scenes[rng.randrange(1 << 40)]
        drawn = self._scenes.draw(scene)
        return Example(
            drawn.picture,
            drawn.masks,
            drawn.depth,
            lambda rng: scene_captions.caption(scene, captions.language(rng), rng),
        )


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
