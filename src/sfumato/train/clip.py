"""Contrastive training of a text and an image tower in six languages (Radford et al. 2021, section 2.3).

A batch holds several styles of each of its concepts, so that style and background words must be read too. A caption
may then be true of more than its own picture; such pairs count neither as right nor as wrong.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sfumato.data.emoji import captions
from sfumato.data.emoji.dataset import EmojiData, corpus
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.images.tensors import compose
from sfumato.nets.clip import CLIPText
from sfumato.nets.image_tower import ImageTower, ImageTowerConfig
from sfumato.seeding import shuffled, stream
from sfumato.spec import CLIPTextConfig
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.clip_token_init import associations
from sfumato.train.config import LoopConfig, build
from sfumato.train.loop import Batch
from sfumato.train.sheet import sheet

FILE = "clip.safetensors"
MAX_LOGIT_SCALE = math.log(100)
UNKNOWN = -1


@dataclass(frozen=True)
class TextSize:
    """Sizes of the text tower; its vocabulary is learnt from the captions."""

    vocab_size: int = 8000
    width: int = 192
    layers: int = 4
    heads: int = 6
    max_length: int = 48


@dataclass(frozen=True)
class CLIPTraining:
    """Recipe of a text-and-image model.

    `styles` pictures of each concept share a batch. `shift` moves pictures by up to so many pixels and `blur` is the
    share of pictures that are softened, as drawn ones are. `classes` weighs the classification beside the contrast.
    The first `words_first` steps are about words alone, `words_batch` captions each: they cost a fraction of a step
    with pictures.
    """

    loop: LoopConfig
    text: TextSize = field(default_factory=TextSize)
    image: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    embedding: int = 256
    styles: int = 2
    shift: int = 3
    blur: float = 0.3
    classes: float = 0.5
    words_first: int = 0
    words_batch: int = 512


class CLIP(nn.Module):
    """Two towers and their projections into one space; `embed_*` return unit vectors (B, E)."""

    def __init__(self, text: CLIPTextConfig, image: ImageTowerConfig, embedding: int):
        super().__init__()
        self.text = CLIPText(text)
        self.image = ImageTower(image)
        self.text_projection = nn.Linear(text.hidden_size, embedding, bias=False)
        self.visual_projection = nn.Linear(image.channels[-1], embedding, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def project_text(self, ids: Tensor) -> Tensor:
        """Token ids (B, L) -> (B, E), not normalised."""
        return self.text_projection(self.text(ids).pooled).float()

    def project_image(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1], of the tower's size or a multiple of it -> (B, E), not normalised."""
        factor = x.shape[-1] // self.image.cfg.size
        x = F.avg_pool2d(x, factor) if factor > 1 else x
        return self.visual_projection(self.image(x)).float()

    def embed_text(self, ids: Tensor) -> Tensor:
        """Unit vectors of `project_text`."""
        return F.normalize(self.project_text(ids), dim=1)

    def embed_image(self, x: Tensor) -> Tensor:
        """Unit vectors of `project_image`."""
        return F.normalize(self.project_image(x), dim=1)


class Lesson(nn.Module):
    """A CLIP with what only training needs: a class vector for every concept, style and background colour.

    Both towers are asked for the same classes. Against all concepts at once a tower learns words and shapes many times
    faster than against the other pictures of a batch; the contrast then has to align what is left.
    """

    def __init__(self, clip: CLIP, concepts: int):
        super().__init__()
        self.clip = clip
        self.counts = [concepts, len(captions.STYLES), len(captions.COLOURS)]
        self.classes = nn.Linear(clip.text_projection.out_features, sum(self.counts), bias=False)

    def classify(self, projected: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy summed over the three kinds; labels (B, 3), UNKNOWN where there is nothing to say."""
        heads = self.classes(projected).split(self.counts, 1)
        terms = [
            F.cross_entropy(head, labels[:, k], ignore_index=UNKNOWN, reduction="sum") for k, head in enumerate(heads)
        ]
        return torch.stack(terms).sum() / len(labels)


class CLIPTask:
    """See `loop.Task`."""

    def __init__(self, cfg: CLIPTraining, data: EmojiData, tokenizer: CLIPTokenizer | None = None):
        if cfg.loop.batch % cfg.styles:
            raise SfumatoError(f"batch is {cfg.loop.batch}; expected a multiple of styles, {cfg.styles}")
        if data.size % cfg.image.size:
            raise SfumatoError(f"image size is {cfg.image.size}; expected a divisor of {data.size}")
        self.cfg, self.data = cfg, data
        self.tokenizer = tokenizer or CLIPTokenizer.train(
            corpus(data), cfg.text.vocab_size, max_length=cfg.text.max_length
        )
        torch.manual_seed(cfg.loop.seed)
        self.clip = CLIP(text_config(cfg.text, self.tokenizer), cfg.image, cfg.embedding)
        self.clip.text.apply(_init_as_clip)
        self.networks = Lesson(self.clip, len(data.concepts))
        self._start_words()
        self._small = _premultiplied(data, cfg.image.size)
        members: dict[int, list[int]] = defaultdict(list)
        for i in data.splits["train"]:
            members[data.concept_index(int(i))].append(int(i))
        self._members = list(members.values())

    def batch(self, step: int) -> Batch:
        cfg, data, seed = self.cfg, self.data, self.cfg.loop.seed
        words_only = step < cfg.words_first
        count = (cfg.words_batch if words_only else cfg.loop.batch) // cfg.styles
        rng = Random(int(stream(seed, "captions", step).integers(2**63)))
        numbers = []
        for concept in shuffled(seed, "words" if words_only else "concepts", step * count, count, len(self._members)):
            members = self._members[concept]
            chosen = rng.sample(members, min(cfg.styles, len(members)))
            numbers += chosen + rng.choices(members, k=cfg.styles - len(chosen))
        texts, said, rgb = self._captions(numbers, rng)
        batch = {"ids": trim(self.tokenizer(texts), self.tokenizer), "said": said}
        if words_only:
            return batch
        concepts = torch.tensor([data.concept_index(i) for i in numbers])
        styles = torch.tensor([captions.STYLES.index(data.style(i)) for i in numbers])
        return batch | {
            "rgba": torch.from_numpy(self._shifted(np.array(numbers), step)),
            "rgb": rgb,
            "true": _true_pairs(concepts, styles, said[:, 1] != UNKNOWN, said[:, 2]),
            "seen": torch.stack([concepts, styles, said[:, 2]], 1),
        }

    def _captions(self, numbers: Sequence[int], rng: Random) -> tuple[list[str], Tensor, Tensor]:
        """A caption for each picture; the concept, style and colour it names (B, 3), or UNKNOWN; the ground (B, 3)."""
        texts, said, rgb = [], [], []
        for i in numbers:
            concept, style = self.data.concept(i), self.data.style(i)
            language, colour = captions.language(rng), captions.background(rng)
            text = captions.caption(concept, style, language, rng, colour)
            styled = any(word in text for word in captions.STYLE_WORDS[language][style])
            texts.append(text)
            said.append(
                (
                    self.data.concept_index(i),
                    captions.STYLES.index(style) if styled else UNKNOWN,
                    captions.COLOURS.index(colour) if colour else UNKNOWN,
                )
            )
            rgb.append(colour.sample(rng) if colour else (255, 255, 255))
        return texts, torch.tensor(said), torch.tensor(rgb)

    def _start_words(self, rounds: int = 8) -> None:
        """Token embeddings from `rounds` captions of every training picture, see `clip_token_init.associations`."""
        rng = Random(self.cfg.loop.seed)
        texts, said, _ = self._captions([int(i) for i in self.data.splits["train"]] * rounds, rng)
        offsets = torch.tensor([0, *self.networks.counts]).cumsum(0)[:3]
        labels = [[int(x) for x in row[row >= 0]] for row in torch.where(said == UNKNOWN, UNKNOWN, said + offsets)]
        ids = [self.tokenizer.encode(text) for text in texts]
        table = self.clip.text.text_model.embeddings.token_embedding.weight
        table.data.copy_(associations(ids, labels, *table.shape))

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        net = self.clip
        if "rgba" not in batch:
            said = self.networks.classify(net.project_text(batch["ids"]).float(), batch["said"])
            return said, {"said": said.detach()}
        x = _over(batch["rgba"], batch["rgb"])
        soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < self.cfg.blur, soft, x)
        images, texts = net.project_image(x), net.project_text(batch["ids"])
        with torch.autocast(x.device.type, enabled=False):
            logits = F.normalize(texts, dim=1) @ F.normalize(images, dim=1).T
            logits = logits * net.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
            own = torch.arange(len(x), device=x.device)
            others_true = batch["true"] & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
            logits = logits.masked_fill(others_true, float("-inf"))
            contrast = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
            said = self.networks.classify(texts, batch["said"])
            seen = self.networks.classify(images, batch["seen"])
        hits = (logits.argmax(1) == own).float().mean()
        extras = {"contrast": contrast, "said": said, "seen": seen, "r1_batch": hits, "scale": net.logit_scale.exp()}
        loss = contrast + self.cfg.classes * (said + seen) / 2
        return loss, {name: value.detach() for name, value in extras.items()}

    def validate(self) -> dict[str, float]:
        """R@1 in percent of canonical prompts over all pictures of a split on white; a known concept's unseen picture,
        then unseen concepts, each per language; `train` is the same for as many known pictures."""
        figures = self._named()
        held_out = {"picture": self.data.splits["unseen_picture"], "concept": self.data.splits["unseen_concept"]}
        train = self.data.splits["train"]
        held_out["train"] = train[np.linspace(0, len(train) - 1, min(200, len(train))).astype(int)]
        for split, indices in held_out.items():
            if not len(indices):
                continue
            images = self._embed(indices)
            for language in captions.LANGUAGES if split != "train" else ("en",):
                texts = [captions.prompt(self.data.concept(int(i)), self.data.style(int(i)), language) for i in indices]
                figures[f"r1_{split}_{language}"] = 100 * recall(self.embed_texts(texts), images, 1)
        return figures

    def _named(self) -> dict[str, float]:
        """Share in percent of training concepts whose bare name is classified as itself, per language."""
        known = sorted({self.data.concept_index(int(i)) for i in self.data.splits["train"]})
        figures = {}
        for language in captions.LANGUAGES:
            ids = self.tokenizer([self.data.concepts[i].names[language] for i in known])
            device = self.clip.logit_scale.device
            scores = self.networks.classes(self.clip.project_text(trim(ids, self.tokenizer).to(device)))
            guesses = scores[:, : self.networks.counts[0]].argmax(1).cpu()
            figures[f"named_{language}"] = 100 * (guesses == torch.tensor(known)).float().mean().item()
        return figures

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        device = self.clip.logit_scale.device
        return self.clip.embed_text(trim(self.tokenizer(texts), self.tokenizer).to(device))

    def samples(self) -> Image.Image:
        """Pictures of the held-out splits, each above the three training pictures that are nearest to its prompt."""
        held_out = np.concatenate([self.data.splits["unseen_picture"][:12], self.data.splits["unseen_concept"][:12]])
        train = self.data.splits["train"][::4]
        texts = [
            captions.prompt(self.data.concept(int(i)), self.data.style(int(i)), captions.LANGUAGES[k % 6])
            for k, i in enumerate(held_out)
        ]
        nearest = train[(self.embed_texts(texts) @ self._embed(train).T).topk(3, 1).indices.cpu().numpy()]
        white = torch.full((len(held_out), 3), 255)
        return sheet([_over(torch.from_numpy(self._small[row]), white) for row in (held_out, *nearest.T)])

    def export(self, folder: Path) -> None:
        save_clip(folder, self.clip, self.tokenizer)

    def _embed(self, indices: np.ndarray) -> Tensor:
        device = self.clip.logit_scale.device
        parts = []
        for rows in np.array_split(indices, math.ceil(len(indices) / 256)):
            x = _over(torch.from_numpy(self._small[rows]), torch.full((len(rows), 3), 255))
            parts.append(self.clip.embed_image(x.to(device)))
        return torch.cat(parts)

    def _shifted(self, numbers: np.ndarray, step: int) -> np.ndarray:
        """Pictures moved by up to `shift` pixels; what comes in is transparent."""
        size, most = self.cfg.image.size, self.cfg.shift
        moves = stream(self.cfg.loop.seed, "shift", step).integers(-most, most + 1, (len(numbers), 2))
        moved = np.zeros((len(numbers), size, size, 4), np.uint8)
        for row, (i, (dy, dx)) in enumerate(zip(numbers, moves, strict=True)):
            moved[row, max(dy, 0) : size + min(dy, 0), max(dx, 0) : size + min(dx, 0)] = self._small[
                i, max(-dy, 0) : size + min(-dy, 0), max(-dx, 0) : size + min(-dx, 0)
            ]
        return moved


def recall(texts: Tensor, images: Tensor, k: int) -> float:
    """Share of texts (N, E) whose own image, of (N, E), is among the k nearest."""
    nearest = (texts @ images.T).topk(k, 1).indices
    return (nearest == torch.arange(len(texts), device=texts.device)[:, None]).any(1).float().mean().item()


def trim(ids: Tensor, tokenizer: CLIPTokenizer) -> Tensor:
    """Drop columns that are padding in every row: nothing before the end token changes, as attention is causal."""
    ends = (ids == tokenizer.eos_token_id).int().argmax(1)
    return ids[:, : int(ends.max()) + 1]


def text_config(size: TextSize, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """The text tower's full description."""
    return CLIPTextConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        layers=size.layers,
        heads=size.heads,
        max_length=size.max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def save_clip(folder: Path, net: CLIP, tokenizer: CLIPTokenizer) -> None:
    """Both towers with their sizes in one file, and the tokenizer's folder."""
    sizes = {
        "text": dataclasses.asdict(net.text.cfg),
        "image": dataclasses.asdict(net.image.cfg),
        "embedding": net.text_projection.out_features,
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    tokenizer.save(folder / "tokenizer")
    with atomic_write(folder / FILE) as file:
        file.write(save(weights, {"config": json.dumps(sizes)}))


def load_clip(folder: str | Path) -> tuple[CLIP, CLIPTokenizer]:
    """What `sfumato train clip` left in RUN/export. Raises SfumatoError for a folder without it."""
    path = Path(folder) / FILE
    if not path.is_file():
        raise SfumatoError(f"{folder} holds no {FILE}; give the export folder of `sfumato train clip`")
    with safe_open(path, "pt") as file:
        sizes = json.loads(file.metadata()["config"])
        net = CLIP(
            build(
                CLIPTextConfig, {name: value for name, value in sizes["text"].items() if value is not None}, str(path)
            ),
            build(ImageTowerConfig, sizes["image"], str(path)),
            sizes["embedding"],
        )
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
    return net.eval().requires_grad_(False), CLIPTokenizer.from_folder(Path(folder) / "tokenizer")


def _init_as_clip(module: nn.Module) -> None:
    """Small embeddings (Radford et al. 2021 take .02 and .01); torch's unit normal would drown the layers' outputs."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


def _true_pairs(concepts: Tensor, styles: Tensor, styled: Tensor, colours: Tensor) -> Tensor:
    """Whether caption i is true of picture j, bool (B, B): same concept, and the style and colour that it names."""
    same = concepts[:, None] == concepts
    style = (styles[:, None] == styles) | ~styled[:, None]
    colour = (colours[:, None] == colours) | (colours[:, None] == UNKNOWN)
    return same & style & colour


def _premultiplied(data: EmojiData, size: int) -> np.ndarray:
    """All pictures at `size` by area means, colours multiplied by alpha: uint8 (N, size, size, 4)."""
    factor = data.size // size
    small = np.empty((len(data), size, size, 4), np.uint8)
    for rows in np.array_split(np.arange(len(data)), math.ceil(len(data) / 256)):
        rgba = torch.from_numpy(data.pictures(rows)).float().movedim(-1, 1)
        rgba[:, :3] *= rgba[:, 3:] / 255
        small[rows] = F.avg_pool2d(rgba, factor).round().byte().movedim(1, -1).numpy()
    return small


def _over(premultiplied: Tensor, rgb: Tensor) -> Tensor:
    """Lay premultiplied uint8 RGBA (B, H, W, 4) over plain colours (B, 3): (B, 3, H, W) in [-1, 1]."""
    opaque = torch.cat([torch.zeros_like(premultiplied[..., :3]), premultiplied[..., 3:]], -1)
    ground = compose(opaque, rgb)  # the background, black where the picture covers it
    return ground + premultiplied[..., :3].float().movedim(-1, 1) / 127.5
