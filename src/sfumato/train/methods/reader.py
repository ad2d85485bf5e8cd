"""Trains a text tower and its reader: from prompts in several languages to the things that they name.

No pictures take part. A keyword may belong to several concepts. Then each of them is right, and the loss is that of
their joint probability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sfumato.data.protocol import Prompt, TrainingSet
from sfumato.errors import SfumatoError
from sfumato.loading.exports import write_export
from sfumato.nets.clip import CLIPText
from sfumato.nets.layout import ARRANGEMENTS, MAX_GROUPS, PLACES, POSES, SIZES
from sfumato.nets.lexicon import Lexicon
from sfumato.nets.prior import Understood, decided
from sfumato.nets.reader import Phrases, Reader, Reading, value_count, value_ranges
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.seeding import stream
from sfumato.spec import PriorConfig
from sfumato.text.emoji import spelled_out
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.assemble import assemble, rewrite
from sfumato.train.clip_token_init import associations
from sfumato.train.config import LoopConfig
from sfumato.train.preparation import shown
from sfumato.train.task import Batch
from sfumato.train.text_tower import TowerSize, shrink_embeddings, tower_config

FILE = "reader.safetensors"
CHUNK = 32  # prompts of similar length that go through the tower together
UNSAID = -100  # the label of what a prompt leaves open, which is not learnt from
UNKNOWN, ALL_UNKNOWN = 0.12, 0.06  # shares of phrases, and of whole prompts, that the lexicon is kept from knowing
# How much a label counts in the loss, others half: how many groups there are is what goes wrong most.
WEIGHTS = {"concept": 1.0, "arrangement": 1.0, "count": 1.0, "tint": 1.0}
LABELS = ("arrangement", "place", "style", "ground", "concept", "count", "tint", "size", "pose")


@dataclass(frozen=True)
class ReaderTraining:
    """Recipe of a text tower and its reader.

    The tokenizer learns from `corpus` prompts. `tests` prompts of each kind and language are validated on.
    """

    loop: LoopConfig
    text: TowerSize = field(default_factory=TowerSize)
    corpus: int = 60000
    tests: int = 200


def make(
    cfg: ReaderTraining,
    data: TrainingSet,
    folder: Path,
    device: torch.device,
    *,
    init: str | None = None,
    scenes: Path | None = None,
    vae: Path | None = None,
) -> ReaderTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return ReaderTask(cfg, data, folder, init, scenes, vae)


class ReaderTask:
    """Trains the tower and the reader, see `task.Task`.

    Exports are complete models in two cases. `init` is a model whose tokenizer, tower and reader learn on, and whose
    other parts are kept. `scenes` is the export of `sfumato train scenes`; with it goes the export of the autoencoder
    `vae` (None: the one that ships). Raises SfumatoError if `init` has no scene prior.
    """

    def __init__(
        self,
        cfg: ReaderTraining,
        data: TrainingSet,
        run: Path,
        init: str | None = None,
        scenes: Path | None = None,
        vae: Path | None = None,
    ):
        self.cfg, self.data = cfg, data
        self._scenes, self._vae = scenes, vae
        self.prompts = data.prompts()
        self._init = None if init is None else load(init, "cpu", "float32")
        folder = run / "tokenizer"
        if self._init is not None:
            self._init.encode.tokenizer.save(folder)
        if not folder.is_dir():
            rng = Random(0)
            corpus = [self.prompts.training(rng).text for _ in shown(range(cfg.corpus), "write prompts")]
            texts = [*corpus, *self.prompts.words()]
            CLIPTokenizer.train(texts, cfg.text.vocab_size, max_length=cfg.text.max_length).save(folder)
        self.tokenizer = CLIPTokenizer.from_folder(folder)
        self.tokenizer.max_length = cfg.text.max_length
        self.tokenizer.emoji = False  # they are read by their names
        torch.manual_seed(cfg.loop.seed)
        self.text = CLIPText(tower_config(cfg.text, self.tokenizer))
        shrink_embeddings(self.text)
        self.prior = PriorConfig(
            data.subjects,
            len(data.groups),
            tints=1 + len(data.tints),
            grounds=1 + len(data.grounds),
            text_dim=cfg.text.width,
        )
        self.reader = Reader(self.prior)
        self.lexicon = Lexicon.of(self._phrases(), data.subjects, value_count(self.prior))
        self.networks = nn.ModuleDict({"text": self.text, "reader": self.reader})
        if self._init is None:
            self._start_words()
        else:
            self._carry_over(self._init)

    def batch(self, step: int) -> Batch:
        """Returns the `inputs` of new prompts and their labels, see `labels`."""
        rng = Random(int(stream(self.cfg.loop.seed, "texts", step).integers(2**63)))
        prompts = [self.prompts.training(rng) for _ in range(self.cfg.loop.batch)]
        inputs = self.inputs([prompt.text for prompt in prompts])
        for i in range(len(prompts)):
            unknown = [rng.random() < UNKNOWN for _ in range(inputs["phrases"].shape[1])]
            if rng.random() < ALL_UNKNOWN:
                unknown = [True] * len(unknown)
            for name in ("phrases", "scores", "named", "values"):
                inputs[name][i, unknown] = 0
        return inputs | labels(prompts, self.prior)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the sum of the labels' cross-entropies, weighted by `WEIGHTS`."""
        reading = self.read(batch)
        terms = {name: _cross_entropy(getattr(reading, name), batch[name]) for name in LABELS if name != "concept"}
        log_p = F.log_softmax(reading.concept.float(), -1)
        first = log_p[:, 0].masked_fill(~batch["fitting"], float("-inf")).logsumexp(1)
        has = batch["concept"] >= 0
        own = log_p.gather(2, batch["concept"].clamp(min=0)[..., None])[..., 0]
        own = torch.cat([first[:, None], own[:, 1:]], 1)
        terms["concept"] = -(own * has).nan_to_num(0.0, 0.0, 0.0).sum() / len(has)
        total = torch.stack([WEIGHTS.get(name, 0.5) * term for name, term in terms.items()]).sum()
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
        rest = (inputs[name][rows] for name in ("scores", "named", "values"))
        phrases = Phrases(inputs["phrases"][rows, :, :length], *rest)
        return self.reader(states.read(), self.text.text_model.embeddings.token_embedding(ids), weights, phrases)

    def inputs(self, texts: Sequence[str]) -> Batch:
        """Token `ids` (B, L), no longer than the longest text needs, and the known phrases, see `reader.Phrases`."""
        ids = self.tokenizer.batch(texts)
        lengths = map(self.tokenizer.byte_lengths, ids.tolist())
        known = [self.lexicon.find(spelled_out(text), each) for text, each in zip(texts, lengths, strict=True)]
        phrases = Phrases.of(known)
        values = {"scores": phrases.scores, "named": phrases.named, "values": phrases.values}
        return {"ids": ids, "phrases": phrases.tokens} | values

    def validate(self) -> dict[str, float]:
        """Returns percents of prompts that are read right, by kind and language.

        They are in wording that training never sees; "everyday" are prompts that people wrote.
        """
        found: dict[str, float] = {}
        for kind in self.prompts.tests:
            for language in self.data.languages:
                rng = Random(f"{kind}/{language}")
                prompts = [self.prompts.held_out(kind, language, rng) for _ in range(self.cfg.tests)]
                found |= {f"{kind}{what}_{language}": share for what, share in self.score(prompts, kind).items()}
        return found | {f"everyday_{language}": self._everyday(language) for language in self.data.languages}

    def _everyday(self, language: str) -> float:
        """Returns the percent of the handwritten prompts of which everything is understood."""
        written = self.prompts.handwritten(language)
        found = self.understand([text for text, _ in written])
        right = sum(met_by(understood) for understood, (_, met_by) in zip(found, written, strict=True))
        return 100 * right / max(len(written), 1)

    def score(self, prompts: Sequence[Prompt], kind: str) -> dict[str, float]:
        """Returns percents: of prompts whose only thing is read right; or of scenes, of which everything is, and of
        which each field is."""
        wrong = [
            misread(understood, prompt, self.prior.grounds)
            for understood, prompt in zip(self.understand([prompt.text for prompt in prompts]), prompts, strict=True)
        ]

        def right(*names: str) -> float:
            return 100 * sum(not found & set(names) for found in wrong) / len(prompts)

        if not kind.startswith("scene"):
            return {"": right("first")}
        return {"": right(*LABELS)} | {f"_{name}": right(name) for name in LABELS}

    def understand(self, texts: Sequence[str]) -> list[Understood]:
        """Reads texts as a model does that has learnt this far."""
        known = torch.zeros(self.data.subjects, 1, dtype=torch.bool)
        known[self.prompts.subjects] = True
        found: dict[int, Understood] = {}
        order = np.argsort([len(text) for text in texts])
        for start in range(0, len(texts), 100):
            part = order[start : start + 100].tolist()
            inputs = self.inputs([texts[k] for k in part])
            reading = self.read({name: value.to(self.reader.queries.device) for name, value in inputs.items()})
            for row, k in enumerate(part):
                found[k] = decided(reading.row(row), self.prior, known)
        return [found[k] for k in range(len(texts))]

    def samples(self) -> Image.Image:
        """Returns an empty sheet: this method draws nothing."""
        return Image.new("RGB", (8, 8))

    def export(self, folder: Path) -> None:
        """Writes a complete model, or without `init` and `scenes` the weights in one file and the tokenizer."""
        if self._init is not None:
            rewrite(folder, self._init, text=self.text, reader=self.reader, lexicon=self.lexicon)
            return
        self.tokenizer.save(folder / "tokenizer")
        if self._scenes is None:
            sizes = {"text": dataclasses.asdict(self.text.cfg), "prior": dataclasses.asdict(self.prior)}
            write_export(folder / FILE, self.networks, sizes)
            return
        assemble(folder, self.data, self._scenes, self.text, self.reader, self.lexicon, self._vae)

    def _phrases(self) -> list[tuple[str, int, bool]]:
        """All phrases of the lexicon; those for values are numbered after all concepts."""
        starts = {name: self.data.subjects + span.start for name, span in value_ranges(self.prior).items()}
        values = self.prompts.values()
        return [*self.prompts.phrases(), *((phrase, starts[name] + place, False) for phrase, name, place in values)]

    def _carry_over(self, model: Model) -> None:
        """Starts with the tower and the reader of a model."""
        if model.prior is None:
            raise SfumatoError(f"{model.path} has no scene prior; --init takes a model that has one, such as emoji")
        self.text.load_state_dict(model.encode.towers[0].state_dict())
        self.reader.load_state_dict(model.prior.reader.state_dict())

    def _start_words(self) -> None:
        """Sets the token embeddings by what short prompts speak of, see `clip_token_init.associations`."""
        offsets = np.cumsum((0, self.data.subjects, len(self.data.groups), 1 + len(self.data.tints))).tolist()
        rows, ids = [], []
        for prompt in self.prompts.sayings(Random(self.cfg.loop.seed)):
            said = [offsets[0] + prompt.things[0].subject]
            if prompt.style is not None:
                said.append(offsets[1] + prompt.style)
            if prompt.things[0].tint:
                said.append(offsets[2] + prompt.things[0].tint - 1)
            if prompt.ground is not None:
                said.append(offsets[3] + prompt.ground)
            ids.append(self.tokenizer.encode(prompt.text))
            rows.append(said)
        table = self.text.text_model.embeddings.token_embedding.weight
        table.data.copy_(associations(ids, rows, *table.shape))


def misread(found: Understood, asked: Prompt, grounds: int) -> set[str]:
    """Returns which fields of a prompt are not understood, by the names in `LABELS`; "first" besides where the first
    thing is not. `grounds` is the number of grounds, of which the last is "not said"."""
    pairs = list(zip_longest(found.things, asked.things))
    both = [(thing, want) for thing, want in pairs if thing and want]
    firsts = [thing.concept for thing in found.things[:1]]
    right = {
        "arrangement": found.arrangement == asked.arrangement,
        "place": found.place == asked.place,
        "style": found.style == asked.style,
        "ground": found.ground in ({grounds - 1, grounds} if asked.ground is None else {asked.ground}),
        "first": bool(set(firsts) & set(asked.fitting)),
        "concept": all(
            thing.concept == want.subject or (k == 0 and thing.concept in asked.fitting)
            for k, (thing, want) in enumerate(both)
        ),
        "count": len(both) == len(pairs) and all(thing.group.count == want.count for thing, want in both),
        "tint": all(thing.tint == want.tint for thing, want in both),
        "size": all(thing.group.size == want.size for thing, want in both),
        "pose": all(thing.group.pose == want.pose for thing, want in both),
    }
    return {name for name, good in right.items() if not good}


def labels(prompts: Sequence[Prompt], sizes: PriorConfig) -> Batch:
    """Returns the right places in the logits of a `Reading` for B prompts.

    Of the whole, (B,), and of up to `nets.layout.MAX_GROUPS` things, (B, 4); UNSAID where a prompt leaves it open.
    `fitting` (B, C), bool, says which concepts are right for the first thing.
    """
    n = len(prompts)
    found = {name: torch.zeros(n, dtype=torch.int64) for name in ("arrangement", "place", "style", "ground")}
    found |= {name: torch.full((n, MAX_GROUPS), UNSAID) for name in ("concept", "tint", "size", "pose")}
    found["count"] = torch.zeros(n, MAX_GROUPS, dtype=torch.int64)
    found["fitting"] = torch.zeros(n, sizes.concepts, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        found["arrangement"][i] = ARRANGEMENTS.index(prompt.arrangement) if prompt.things else UNSAID
        found["place"][i] = 1 + PLACES.index(prompt.place) if prompt.place else 0
        found["style"][i] = sizes.styles if prompt.style is None else prompt.style
        found["ground"][i] = sizes.grounds - 1 if prompt.ground is None else prompt.ground
        for k, thing in enumerate(prompt.things):
            found["concept"][i, k], found["count"][i, k], found["tint"][i, k] = thing.subject, thing.count, thing.tint
            found["size"][i, k] = 1 + SIZES.index(thing.size) if thing.size else 0
            found["pose"][i, k] = 1 + POSES.index(thing.pose) if thing.pose else 0
        found["fitting"][i, list(prompt.fitting)] = True
    return found


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the mean over the labels that are not UNSAID."""
    return F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=UNSAID)
