"""Training of a text and an image encoder that can be compared, by what texts say and what pictures show.

Texts and pictures are not paired: both are asked for the same classes (see `nets.dual_encoder`), against all of which
at once they learn many times faster than by contrast with the other pictures of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.data.pictures.protocol import SampleSource
from sfumato.data.protocol import UNKNOWN, LabelledPicture, LabelledPictures, TrainingSet
from sfumato.errors import SfumatoError
from sfumato.loading.exports import save_clip
from sfumato.nets.dual_encoder import CLIP
from sfumato.nets.image_tower import ImageTowerConfig
from sfumato.pipeline.clip_scorer import first_of
from sfumato.seeding import shuffled, stream
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.augment import Augment, placed, recoloured, worn
from sfumato.train.clip_token_init import associations
from sfumato.train.config import LoopConfig
from sfumato.train.own_set import training_set
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch
from sfumato.train.text_tower import TowerSize, shrink_embeddings, tower_config

CHUNK = 32  # texts of like length
WEIGHTS = {"concept": 1.0, "style": 0.3, "ground": 0.3, "tint": 0.2, "count": 0.3, "arrangement": 0.2}
TEXTS_ALONE = 4


@dataclass(frozen=True)
class CLIPTraining:
    """Recipe of a text-and-image model. A batch has `texts` texts beside its pictures; `smoothing` is that of the
    labels of concepts of pictures. `corpus` texts teach the tokenizer and start the token embeddings.

    The last `texts_last` steps are of texts alone, TEXTS_ALONE times as many, and leave the classes as they are: texts
    need longer than pictures, and cost less. One's own pictures are made squares of `side` pixels (0: as the image
    encoder sees them), by the options of [data]; each different caption is a class.
    """

    loop: LoopConfig
    text: TowerSize = field(default_factory=lambda: TowerSize(4000, 128, layers=2, heads=4))
    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    augment: Augment = field(default_factory=Augment)
    embedding: int = 192
    texts: int = 128
    texts_last: int = 0
    corpus: int = 40000
    smoothing: float = 0.05
    side: int = 0
    data: dict[str, Any] = field(default_factory=dict)


class CLIPTask:
    """See `loop.Task`. `run` is the folder where the tokenizer is kept."""

    def __init__(self, cfg: CLIPTraining, data: TrainingSet, run: Path):
        self.cfg, self.data = cfg, data
        self.labelled = data.labelled(cfg.loop.seed)
        self.tokenizer = run_tokenizer(cfg, self.labelled, run / "tokenizer")
        torch.manual_seed(cfg.loop.seed)
        kinds = {name: classes for name, (_, classes) in self.labelled.kinds.items()}
        self.networks = CLIP(tower_config(cfg.text, self.tokenizer), cfg.image, cfg.embedding, kinds)
        shrink_embeddings(self.networks.text)
        self._start_tokens()

    def batch(self, step: int) -> Batch:
        cfg, seed, count = self.cfg, self.cfg.loop.seed, self.cfg.loop.batch
        rng = Random(int(stream(seed, "batch", step).integers(2**63)))
        alone = step >= cfg.loop.steps - cfg.texts_last
        texts = [self.labelled.text(rng) for _ in range(cfg.texts * (TEXTS_ALONE if alone else 1))]
        batch = {
            "ids": self.tokenizer.batch([text for text, _ in texts]),
            "said": torch.tensor([said for _, said in texts]),
        }
        if alone:
            return batch
        numbers = self.labelled.numbers[shuffled(seed, "pictures", step * count, count, len(self.labelled.numbers))]
        return _pictures([self.labelled.picture(int(number), rng) for number in numbers]) | batch

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        alone, device = "rgba" not in batch, batch["ids"].device.type
        texts = self._read(batch["ids"])
        with torch.autocast(device, enabled=False):
            losses = self._losses(texts, batch["said"], 0.0, fixed=alone)
        extras = {"read": losses["concept"]}
        if not alone:
            with torch.autocast(device, enabled=False):
                x = self._changed(batch)
            images = self.networks.image_features(x)
            with torch.autocast(device, enabled=False):
                seen = self._losses(images, batch["shown"], self.cfg.smoothing)
            extras |= {"seen": seen["concept"], "style": seen["style"]}
            losses = {name: losses[name] + seen[name] for name in losses}
        total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        return total, {name: value.detach() for name, value in extras.items()}

    def _read(self, ids: Tensor) -> Tensor:
        """Features of texts; those of like length go through the encoder together, which saves computing padding."""
        ends = (ids == self.tokenizer.eos_token_id).int().argmax(1)
        order = ends.argsort()
        parts = [self.networks.text_features(ids[rows, : int(ends[rows].max()) + 1]) for rows in order.split(CHUNK)]
        return torch.cat(parts)[order.argsort()]

    def _losses(self, features: Tensor, labels: Tensor, smoothing: float, fixed: bool = False) -> dict[str, Tensor]:
        """Cross-entropy by kind; of several labels in a row each is as right as the others. UNKNOWN does not count."""
        found, column = {}, 0
        for name, log_p in self.networks.log_probabilities(features, fixed).items():
            slots, _ = self.labelled.kinds[name]
            target = labels[:, column : column + slots]
            column += slots
            there = target != UNKNOWN
            each = -(log_p.gather(1, target.clamp(min=0)) * there).sum(1) / there.sum(1).clamp(min=1)
            if name == "concept":
                each = (1 - smoothing) * each - smoothing * log_p.mean(1)
            found[name] = (each * there.any(1)).sum() / len(each)
        return found

    def _changed(self, batch: Batch) -> Tensor:
        """The pictures of a batch on their grounds, each changed in its own way: (B, 3, H, W) in [-1, 1]."""
        cfg = self.cfg.augment
        rgba = batch["rgba"].movedim(-1, 1).float() / 255
        rgba = torch.cat([rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]], 1)
        rgba = placed(rgba, cfg, self.cfg.image.size, batch["movable"], batch["whole"])
        rgba = recoloured(rgba, cfg, batch["tintable"])
        ground = batch["rgb"].float()[:, :, None, None] / 255
        return worn((rgba[:, :3] + ground * (1 - rgba[:, 3:])) * 2 - 1, cfg)

    def validate(self) -> dict[str, float]:
        """Percent, on the pictures that are held out, on white: `r1_LANGUAGE` own captions that are ranked before 99
        random others; `concept` and `style` of the pictures that are named right, among all; `known` as `concept`, of
        as many known pictures; `named_LANGUAGE` bare names of concepts that are read right."""
        held, data = self.labelled.held_out, self.data
        subjects = torch.tensor([data.subject(int(i)) for i in held])
        own, images = torch.eye(len(held), dtype=torch.bool), self.embed_pictures(held)
        figures = {}
        for language in data.languages:
            texts = [data.prompt(data.subject(int(i)), data.group(int(i)), language) for i in held]
            figures[f"r1_{language}"] = 100 * first_of(images @ self.embed_texts(texts).T, own).mean().item()
        known = self.labelled.numbers[:: max(1, len(self.labelled.numbers) // max(1, len(held)))]
        others = self.embed_pictures(known)
        known_subjects = torch.tensor([data.subject(int(i)) for i in known])
        styles = torch.tensor([data.groups.index(data.group(int(i))) for i in held])
        figures["concept"] = self._share("concept", images, subjects)
        figures["style"] = self._share("style", images, styles)
        figures["known"] = self._share("concept", others, known_subjects)
        some = torch.arange(0, data.subjects, 4)
        for language in data.languages:
            names = self.embed_texts([self.labelled.name(k, language) for k in some.tolist()])
            figures[f"named_{language}"] = self._share("concept", names, some)
        return figures

    def _share(self, kind: str, vectors: Tensor, labels: Tensor) -> float:
        """Percent of vectors (N, V) whose most probable class is as labelled (N,)."""
        parts = dict(zip(self.networks.kinds, vectors.split(list(self.networks.kinds.values()), 1), strict=True))
        return 100 * (parts[kind].argmax(1).cpu() == labels).float().mean().item()

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, V)."""
        device, order = self.networks.classes.device, np.argsort([len(text) for text in texts])
        out = torch.empty(len(texts), self.networks.width)
        for rows in np.array_split(order, math.ceil(len(order) / 128)):
            ids = self.tokenizer.batch([texts[k] for k in rows])
            out[rows] = self.networks.embed_text(ids.to(device)).float().cpu()
        return out.to(device)

    def embed_pictures(self, numbers: np.ndarray) -> Tensor:
        """Unit vectors (N, V) of pictures on white."""
        self.networks.eval()
        device, parts = self.networks.classes.device, np.array_split(numbers, math.ceil(len(numbers) / 128))
        found = [self.networks.embed_image(self._on_white(rows).to(device)) for rows in parts]
        self.networks.train()
        return torch.cat(found)

    def _on_white(self, numbers: np.ndarray) -> Tensor:
        rgba = torch.from_numpy(self.labelled.pictures(numbers)).movedim(-1, 1).float() / 255
        rgb = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
        return F.interpolate(rgb, (self.cfg.image.size,) * 2, mode="bilinear", antialias=True) * 2 - 1

    def samples(self) -> Image.Image:
        """What training sees: changed pictures; below them held-out pictures above the known ones that are nearest."""
        torch.manual_seed(0)
        batch = self.batch(0)
        held = self.labelled.held_out[:: max(1, len(self.labelled.held_out) // 16)][:16]
        known = self.labelled.numbers[::4]
        nearest = known[
            (self.embed_pictures(held) @ self.embed_pictures(known).T).topk(min(3, len(known)), 1).indices.cpu().numpy()
        ]
        rows = [self._on_white(row) for row in (held, *nearest.T)]
        return sheet([*self._changed(batch)[: 4 * len(held)].cpu().split(len(held)), *rows])

    def export(self, folder: Path) -> None:
        held = [self.labelled.key(int(i)) for i in self.labelled.held_out]
        save_clip(folder, self.networks, self.tokenizer, held)

    def _start_tokens(self) -> None:
        """Token embeddings from what texts speak of, see `clip_token_init.associations`."""
        rng = Random(self.cfg.loop.seed)
        kinds = self.labelled.kinds.values()
        ends = np.cumsum([classes for _, classes in kinds])
        firsts = [end - classes for end, (slots, classes) in zip(ends, kinds, strict=True) for _ in range(slots)]
        texts = [self.labelled.text(rng) for _ in range(self.cfg.corpus)]
        rows = [[int(first) + k for first, k in zip(firsts, row, strict=True) if k != UNKNOWN] for _, row in texts]
        table = self.networks.text.text_model.embeddings.token_embedding.weight
        table.data.copy_(associations([self.tokenizer.encode(text) for text, _ in texts], rows, *table.shape))


def make(cfg: CLIPTraining, data: SampleSource, folder: Path, device: torch.device) -> CLIPTask:
    """The task of a run in `folder`, where its tokenizer is kept. Raises SfumatoError for sizes that do not fit."""
    found = training_set(data, cfg.data, cfg.loop.seed, cfg.side or cfg.image.size)
    if found.size < cfg.image.size:
        raise SfumatoError(f"image size is {cfg.image.size}; expected {found.size} at most, as large as the pictures")
    return CLIPTask(cfg, found, folder)


def run_tokenizer(cfg: CLIPTraining, labelled: LabelledPictures, folder: Path) -> CLIPTokenizer:
    """The run's own: of equally frequent merges another may come first each time, and weights go with their symbols."""
    if not (folder / "tokenizer_config.json").is_file():
        tokenizer = CLIPTokenizer.train(
            labelled.corpus(cfg.corpus), cfg.text.vocab_size, max_length=cfg.text.max_length
        )
        tokenizer.emoji = False  # they are read by their names
        tokenizer.save(folder)
    return CLIPTokenizer.from_folder(folder)


def _pictures(samples: Sequence[LabelledPicture]) -> Batch:
    return {
        "rgba": torch.from_numpy(np.stack([sample.rgba for sample in samples])),
        "rgb": torch.tensor([sample.rgb for sample in samples]),
        "shown": torch.tensor([sample.shown for sample in samples]),
        "movable": torch.tensor([sample.movable for sample in samples]),
        "tintable": torch.tensor([sample.tintable for sample in samples]),
        "whole": torch.tensor([sample.whole for sample in samples]),
    }
