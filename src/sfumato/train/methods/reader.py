"""Training a text tower and its reader: from free wording in six languages to the things that a prompt names.

No pictures take part. A keyword may be said of several concepts; then any of these is right, and the loss is that of
their joint probability.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sfumato.data import wording
from sfumato.data.emoji import captions
from sfumato.data.emoji.captions import LANGUAGES, STYLES
from sfumato.data.emoji.concept_scenes import Kind, invent_request
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.everyday import everyday
from sfumato.data.emoji.labelled_scenes import COLOUR_NAMES, NO_GROUND
from sfumato.data.emoji.nouns import TINTS, nouns
from sfumato.data.wording import Asked, Thing
from sfumato.errors import SfumatoError
from sfumato.loading.exports import write_export
from sfumato.nets.clip import CLIPText
from sfumato.nets.layout import ARRANGEMENTS, MAX_GROUPS, PLACES, POSES, SIZES
from sfumato.nets.lexicon import Lexicon
from sfumato.nets.prior import decided
from sfumato.nets.reader import Phrases, Reader, Reading
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.seeding import stream
from sfumato.spec import PriorConfig
from sfumato.text.emoji import spelled_out
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.assemble import assemble, rewrite
from sfumato.train.clip_token_init import associations
from sfumato.train.config import LoopConfig
from sfumato.train.loop import Batch
from sfumato.train.text_tower import TowerSize, tower_config

FILE = "reader.safetensors"
CHUNK = 32  # texts of like length
UNSAID = -100  # what a text leaves open is not learnt from
# Shares of the texts; the rest are requests. Plain requests say nothing but what is asked for, and seldom a style or a
# ground: the shortest texts are not all names.
BARE, KEYWORDS, NOTHING, PLAIN = 0.12, 0.15, 0.03, 0.3
EVERYDAY = 0.35  # share of the requests that are for things of `data.nouns`, which people ask for most
PLAIN_STYLE, PLAIN_GROUND = 0.3, 0.4  # shares of the styles and grounds that plain requests keep
# How often requests are of each kind: more of several things than pictures have, since they are harder to read.
KINDS: dict[Kind, float] = {"one": 0.36, "count": 0.16, "left": 0.18, "above": 0.14, "front": 0.06, "row": 0.1}
UNKNOWN, ALL_UNKNOWN = 0.2, 0.08  # shares of phrases, and of whole texts, that the lexicon is kept from knowing


@dataclass(frozen=True)
class ReaderTraining:
    """Recipe of a text tower and its reader. `tests` texts of each kind and language are judged as it goes."""

    loop: LoopConfig
    text: TowerSize = field(default_factory=TowerSize)
    corpus: int = 60000
    tests: int = 200


@dataclass(frozen=True)
class Example:
    """A text, what it asks for, and the numbers of the concepts that its first thing may be (None: its own)."""

    text: str
    asked: Asked
    fitting: tuple[int, ...] | None = None


def make(
    cfg: ReaderTraining,
    data: EmojiData,
    folder: Path,
    device: torch.device,
    *,
    init: str | None = None,
    scenes: Path | None = None,
    vae: Path | None = None,
) -> ReaderTask:
    """The task of a run in `folder`; the inputs are those of `train.registry`."""
    return ReaderTask(cfg, data, folder, init, scenes, vae)


class ReaderTask:
    """See `loop.Task`; `networks` are the tower and the reader.

    Exports are complete models in two cases. `init` is a model whose tokenizer, tower and reader learn on, and whose
    other parts are kept. `scenes` is the export of the run that learnt to draw; with it goes the export of the
    autoencoder `vae` (None: that of the model that ships).
    """

    def __init__(
        self,
        cfg: ReaderTraining,
        data: EmojiData,
        run: Path,
        init: str | None = None,
        scenes: Path | None = None,
        vae: Path | None = None,
    ):
        self.cfg, self.data = cfg, data
        self._scenes, self._vae = scenes, vae
        self.texts = Texts(data)
        self._init = None if init is None else load(init, "cpu", "float32")
        folder = run / "tokenizer"
        if self._init is not None:
            self._init.encode.tokenizer.save(folder)
        if not folder.is_dir():
            rng = Random(0)
            corpus = [self.texts.example(rng).text for _ in range(cfg.corpus)]
            names = [c.names[language] for c in self.texts.known for language in LANGUAGES] * 3
            words = [word for c in self.texts.known for language in LANGUAGES for word in c.keywords[language]]
            tokenizer = CLIPTokenizer.train(
                [*corpus, *names, *words], cfg.text.vocab_size, max_length=cfg.text.max_length
            )
            tokenizer.save(folder)
        self.tokenizer = CLIPTokenizer.from_folder(folder)
        self.tokenizer.max_length = cfg.text.max_length
        self.tokenizer.emoji = False  # they are read by their names
        torch.manual_seed(cfg.loop.seed)
        self.text = CLIPText(tower_config(cfg.text, self.tokenizer))
        self.text.apply(_small_init)
        self.prior = PriorConfig(len(data.concepts), text_dim=cfg.text.width)
        self.reader = Reader(self.prior)
        self.lexicon = lexicon_of(data)
        self.networks = nn.ModuleDict({"text": self.text, "reader": self.reader})
        if self._init is None:
            self._start_words()
        else:
            self._carry_over(self._init)

    def batch(self, step: int) -> Batch:
        rng = Random(int(stream(self.cfg.loop.seed, "texts", step).integers(2**63)))
        examples = [self.texts.example(rng) for _ in range(self.cfg.loop.batch)]
        inputs = self.inputs([example.text for example in examples])
        for i in range(len(examples)):
            unknown = [rng.random() < UNKNOWN for _ in range(inputs["phrases"].shape[1])]
            if rng.random() < ALL_UNKNOWN:
                unknown = [True] * len(unknown)
            for name in ("phrases", "scores", "named"):
                inputs[name][i, unknown] = 0
        return inputs | self.texts.labels(examples)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        reading = self.read(batch)
        terms = {name: _cross_entropy(getattr(reading, name), batch[name]) for name in LABELS if name != "concept"}
        log_p = F.log_softmax(reading.concept.float(), -1)
        first = log_p[:, 0].masked_fill(~batch["fitting"], float("-inf")).logsumexp(1)
        has = batch["concept"] >= 0
        own = log_p.gather(2, batch["concept"].clamp(min=0)[..., None])[..., 0]
        own = torch.cat([first[:, None], own[:, 1:]], 1)
        terms["concept"] = -(own * has).nan_to_num(0.0, 0.0, 0.0).sum() / len(has)
        total = terms["concept"] + 0.5 * sum(term for name, term in terms.items() if name != "concept")
        return total, {name: term.detach() for name, term in terms.items()}

    def read(self, inputs: Batch) -> Reading:
        """Reads texts given as `inputs`. Those of like length go through the tower together, which saves computing
        padding."""
        ends = (inputs["ids"] == self.tokenizer.eos_token_id).int().argmax(1)
        order = ends.argsort()
        parts = [self._read(inputs, rows, int(ends[rows].max()) + 1) for rows in order.split(CHUNK)]
        back = order.argsort()
        names = (f.name for f in dataclasses.fields(Reading))
        return Reading(**{name: torch.cat([getattr(part, name) for part in parts])[back] for name in names})

    def _read(self, inputs: Batch, rows: Tensor, length: int) -> Reading:
        ids = inputs["ids"][rows, :length]
        states = self.text(ids)
        weights = (torch.arange(length, device=ids.device) <= states.ends[:, None]).float()
        phrases = Phrases(inputs["phrases"][rows, :, :length], inputs["scores"][rows], inputs["named"][rows])
        return self.reader(states.read(), self.text.text_model.embeddings.token_embedding(ids), weights, phrases)

    def inputs(self, texts: Sequence[str]) -> Batch:
        """Token `ids` (B, L), no longer than the longest text needs, and the known phrases, see `reader.Phrases`."""
        ids = self.tokenizer.batch(texts)
        lengths = map(self.tokenizer.byte_lengths, ids.tolist())
        known = [self.lexicon.find(spelled_out(text), each) for text, each in zip(texts, lengths, strict=True)]
        phrases = Phrases.of(known)
        return {"ids": ids, "phrases": phrases.tokens, "scores": phrases.scores, "named": phrases.named}

    def validate(self) -> dict[str, float]:
        """Percent of texts that training never sees and that are read right, by kind and language, with the lexicon."""
        found: dict[str, float] = {}
        for kind, make in self._kinds.items():
            for language in LANGUAGES:
                rng = Random(f"{kind}/{language}")
                examples = [make(language, rng) for _ in range(self.cfg.tests)]
                found |= {f"{kind}{what}_{language}": share for what, share in self.score(examples, kind).items()}
        return found | {f"everyday_{language}": self._everyday(language) for language in LANGUAGES}

    def _everyday(self, language: str) -> float:
        """Percent of the everyday requests of which all is understood."""
        known = torch.zeros(len(self.data.concepts), 1, dtype=torch.bool)
        known[[self.texts.number[concept.hex] for concept in self.texts.known]] = True
        right = [
            request.met_by(decided(self.read(self.inputs([request.texts[language]])), self.prior, known))
            for request in everyday()
        ]
        return 100 * sum(right) / len(right)

    def score(self, examples: Sequence[Example], kind: str) -> dict[str, float]:
        """Percent: the concept of what is alone, or whether all that was asked for is read."""
        labels = self.texts.labels(examples)
        order = np.argsort([len(example.text) for example in examples])
        guesses: dict[str, Tensor] = {}
        for part in np.array_split(order, max(1, len(examples) // 100)):
            inputs = self.inputs([examples[k].text for k in part])
            reading = self.read({name: value.to(self.reader.queries.device) for name, value in inputs.items()})
            for name in LABELS:
                value = getattr(reading, name).argmax(-1).cpu()
                guesses.setdefault(name, torch.zeros(len(examples), *value.shape[1:], dtype=torch.int64))[part] = value
        first = labels["fitting"][torch.arange(len(examples)), guesses["concept"][:, 0]]
        if not kind.startswith("scene"):
            return {"": 100 * first.float().mean().item()}
        right = {
            name: (guesses[name] == labels[name]) | (labels[name] < 0) | (name == "concept" and labels["count"] == 0)
            for name in LABELS
        }
        rows = {name: value.flatten(1).all(1) if value.dim() > 1 else value for name, value in right.items()}
        shares = {f"_{name}": 100 * rows[name].float().mean().item() for name in ("concept", "tint", "count")}
        return {"": 100 * torch.stack(list(rows.values())).all(0).float().mean().item()} | shares

    def samples(self) -> Image.Image:
        return Image.new("RGB", (8, 8))

    def export(self, folder: Path) -> None:
        """A complete model as a folder, or without `scenes` the weights in one file; the tokenizer."""
        if self._init is not None:
            rewrite(folder, self._init, text=self.text, reader=self.reader)
            return
        self.tokenizer.save(folder / "tokenizer")
        if self._scenes is None:
            sizes = {"text": dataclasses.asdict(self.text.cfg), "prior": dataclasses.asdict(self.prior)}
            write_export(folder / FILE, self.networks, sizes)
            return
        assemble(folder, self.data, self._scenes, self.text, self.reader, self.lexicon, self._vae)

    @cached_property
    def _kinds(self) -> dict[str, Callable[[str, Random], Example]]:
        texts = self.texts

        def bare(language: str, rng: Random) -> Example:
            concept = rng.choice(texts.known)
            return Example(concept.names[language], Asked((Thing(concept),)))

        def held(language: str, rng: Random) -> Example:
            style = rng.choice((*STYLES, *[None] * len(STYLES)))
            asked = Asked((Thing(rng.choice(texts.known)),), style=style)
            return Example(wording.say(asked, language, rng, held=True), asked)

        def scene(language: str, rng: Random) -> Example:
            asked = invent_request(texts.known, rng)
            return Example(wording.say(asked, language, rng, held=True), asked)

        def plain(language: str, rng: Random) -> Example:
            asked = invent_request(texts.known, rng)
            return Example(wording.canonical(asked, language), asked)

        def keywords(language: str, rng: Random) -> Example:
            return texts.keywords(language, rng, held=True)

        return {"bare": bare, "held": held, "keywords": keywords, "scene": scene, "scene_plain": plain}

    def _carry_over(self, model: Model) -> None:
        """Begin with the tower and the reader of a model."""
        if model.prior is None:
            raise SfumatoError(f"{model.path} has no scene prior; --init takes a model that has one, such as emoji")
        self.text.load_state_dict(model.encode.towers[0].state_dict())
        self.reader.load_state_dict(model.prior.reader.state_dict())

    def _start_words(self) -> None:
        """Token embeddings from what texts speak of, see `clip_token_init.associations`."""
        rng = Random(self.cfg.loop.seed)
        rows, ids = [], []
        groups = (len(self.data.concepts), len(STYLES), len(TINTS) + 1, NO_GROUND)
        offsets = np.cumsum((0, *groups))
        for concept in self.texts.known:
            for language in LANGUAGES:
                for k in range(4):
                    style, asked = rng.choice((*STYLES, None)), None
                    if k == 0:
                        asked = Asked((Thing(concept),))
                        text_ = concept.names[language]
                    elif k == 1 and concept.keywords[language]:
                        asked = Asked((Thing(concept),))
                        text_ = " ".join(concept.keywords[language][:6])
                    else:
                        colour = rng.choice((None, *(c for c in captions.COLOURS if c.name in TINTS)))
                        ground = rng.choice((None, *captions.COLOURS))
                        asked = Asked((Thing(concept, colour=colour),), style=style, ground=ground)
                        text_ = wording.say(asked, language, rng)
                    said = [offsets[0] + self.texts.number[concept.hex]]
                    if asked.style:
                        said.append(offsets[1] + STYLES.index(asked.style))
                    if (colour := asked.things[0].colour) is not None:
                        said.append(offsets[2] + TINTS.index(colour.name))
                    if asked.ground is not None:
                        said.append(offsets[3] + COLOUR_NAMES.index(asked.ground.name))
                    ids.append(self.tokenizer.encode(text_))
                    rows.append([int(x) for x in said])
        table = self.text.text_model.embeddings.token_embedding.weight
        table.data.copy_(associations(ids, rows, *table.shape))


LABELS = ("arrangement", "place", "style", "ground", "concept", "count", "tint", "size", "pose")


class Texts:
    """Texts that ask for pictures of a set, and what they ask for as numbers."""

    def __init__(self, data: EmojiData):
        self.number = {concept.hex: k for k, concept in enumerate(data.concepts)}
        train = sorted({data.concept_index(int(i)) for i in data.splits["train"]})
        self.known = [data.concepts[k] for k in train]
        everyday = {noun.hex for noun in nouns()}
        self.everyday = [concept for concept in self.known if concept.hex in everyday] or self.known
        self._said_of: dict[tuple[str, str], set[int]] = defaultdict(set)
        for concept in self.known:
            for language in LANGUAGES:
                for word in concept.keywords[language]:
                    self._said_of[language, word].add(self.number[concept.hex])
        self._named: dict[tuple[str, str], list[int]] = defaultdict(list)
        for concept in self.known:
            for language in LANGUAGES:
                self._named[language, concept.names[language]].append(self.number[concept.hex])

    def example(self, rng: Random) -> Example:
        """One text for training."""
        language, u = captions.language(rng), rng.random()
        if u < BARE:
            concept = rng.choice(self.known)
            name = concept.names[language]
            return Example(name, Asked((Thing(concept),)), tuple(self._named[language, name]))
        if u < BARE + KEYWORDS:
            return self.keywords(language, rng)
        if u < BARE + KEYWORDS + NOTHING:
            return Example(wording.nothing(language, rng), Asked(()))
        plain = u < BARE + KEYWORDS + NOTHING + PLAIN
        concepts = self.everyday if rng.random() < EVERYDAY else self.known
        asked = invent_request(concepts, rng, KINDS)
        if plain:
            style = asked.style if rng.random() < PLAIN_STYLE else None
            ground = asked.ground if rng.random() < PLAIN_GROUND else None
            asked = dataclasses.replace(asked, style=style, ground=ground)
        return Example(wording.say(asked, language, rng, plain=plain), asked)

    def keywords(self, language: str, rng: Random, held: bool = False) -> Example:
        """Keywords of a concept; whatever has them all fits."""
        while True:
            concept = rng.choice(self.known)
            words = wording.keywords(concept, language, rng, held)
            if words:
                first, *others = (self._said_of[language, word] for word in words)
                fitting = tuple(sorted(first.intersection(*others)))
                return Example(wording.say_keywords(words, language, rng), Asked((Thing(concept),)), fitting)

    def labels(self, examples: Sequence[Example]) -> Batch:
        """Places in `Reading`'s logits: (B,) or (B, 4), UNSAID where a text leaves it open; `fitting` (B, C), bool."""
        n = len(examples)
        out = {name: torch.zeros(n, dtype=torch.int64) for name in ("arrangement", "place", "style", "ground")}
        out |= {
            name: torch.zeros(n, MAX_GROUPS, dtype=torch.int64) for name in ("count", "concept", "tint", "size", "pose")
        }
        out["fitting"] = torch.zeros(n, len(self.number), dtype=torch.bool)
        for name in ("concept", "tint", "size", "pose"):
            out[name] += UNSAID
        for i, example in enumerate(examples):
            asked = example.asked
            out["arrangement"][i] = ARRANGEMENTS.index(asked.arrangement) if asked.things else UNSAID
            out["place"][i] = 1 + PLACES.index(asked.place) if asked.place else 0
            out["style"][i] = STYLES.index(asked.style) if asked.style else len(STYLES)
            out["ground"][i] = COLOUR_NAMES.index(asked.ground.name) if asked.ground else NO_GROUND
            for k, thing in enumerate(asked.things):
                out["concept"][i, k], out["count"][i, k] = self.number[thing.concept.hex], thing.count
                out["tint"][i, k] = 1 + TINTS.index(thing.colour.name) if thing.colour else 0
                out["size"][i, k] = 1 + SIZES.index(thing.size) if thing.size else 0
                out["pose"][i, k] = 1 + POSES.index(thing.pose) if thing.pose else 0
            if asked.things:
                own = (self.number[asked.things[0].concept.hex],)
                out["fitting"][i, list(example.fitting or own)] = True
        return out


def lexicon_of(data: EmojiData) -> Lexicon:
    """The phrases for everything that has a training picture."""
    known = sorted({data.concept_index(number) for number in data.splits["train"].tolist()})
    said = list(wording.phrases({number: data.concepts[number] for number in known}))
    lexicon = Lexicon(len(said), len(data.concepts))
    lexicon.fill(said)
    return lexicon


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over what is said."""
    return F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=UNSAID)


def _small_init(module: nn.Module) -> None:
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
