"""A set of plain squares whose concepts are colours, a model of random weights, and judges: one that knows, one not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.data.emoji import captions
from sfumato.data.emoji.build import FORMAT, MANIFEST
from sfumato.data.emoji.captions import Concept
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.labelled_pictures import LabelledEmoji
from sfumato.data.emoji.nouns import nouns
from sfumato.families import sd1
from sfumato.images.tensors import compose
from sfumato.loading.exports import save_clip
from sfumato.loading.save import save_folder
from sfumato.nets.dual_encoder import CLIP
from sfumato.nets.image_tower import ImageTowerConfig
from sfumato.spec import CLIPTextConfig, Defaults, Spec, UNetConfig, VAEConfig
from sfumato.text.tokenizer import CLIPTokenizer

SIZE = 32
RGB = np.array(list(product((0, 80, 160, 240), (20, 120, 220), (40, 200))), np.uint8)  # 24 concepts


def _write(folder: Path, concepts: list[Concept], pictures: dict[str, np.ndarray], holdout: dict) -> None:
    """A set with these pictures (N, S, S, 4) of the concepts in each style."""
    codes = [concept.hex for concept in concepts]
    files = {"concepts.json": [dataclasses.asdict(concept) for concept in concepts], "holdout.json": holdout}
    folder.mkdir(parents=True)
    for style, drawn in pictures.items():
        np.save(folder / f"images-{style}.npy", drawn)
        files[f"images-{style}.json"] = {"hex": codes}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    sizes = {path.name: {"bytes": path.stat().st_size} for path in folder.iterdir()}
    size = next(iter(pictures.values())).shape[1]
    (folder / MANIFEST).write_text(json.dumps({"format": FORMAT, "size": size, "files": sizes}))


def _concept(code: str, name: str) -> Concept:
    names = {language: f"{name} {language}" for language in captions.LANGUAGES}
    return Concept(code, "*", "objects", "things", names, dict.fromkeys(names, (name,)))


def _squares(style: int) -> np.ndarray:
    pictures = np.zeros((len(RGB), SIZE, SIZE, 4), np.uint8)
    inside = slice(4 + style, SIZE - 4 - style)
    pictures[:, inside, inside, :3] = RGB[:, None, None]
    pictures[:, inside, inside, 3] = 255
    return pictures


def _build(folder: Path) -> None:
    codes = [f"c{k:02}" for k in range(len(RGB))]
    pictures = {style: _squares(number) for number, style in enumerate(captions.STYLES)}
    holdout = {"concepts": codes[:2], "pictures": [f"3d/{codes[4]}", f"flat/{codes[7]}"]}
    _write(folder, [_concept(code, code) for code in codes], pictures, holdout)


def _forms(style: int) -> np.ndarray:
    """FORMS in red, 64 pixels a side: what a thing is shows in its outline alone."""
    y, x = np.mgrid[:64, :64] - 31.5
    reach = 28 - style
    radius = np.hypot(x, y)
    inside = [
        radius < reach,
        (abs(x) < reach) & (abs(y) < reach / 3),
        (abs(y) < reach) & (abs(x) < reach / 3),
        (radius < reach) & (radius > reach / 2),
        (abs(y) < reach) & (2 * abs(x) < reach + y),
        (np.minimum(abs(x), abs(y)) < reach / 5) & (np.maximum(abs(x), abs(y)) < reach),
    ]
    pictures = np.zeros((len(inside), 64, 64, 4), np.uint8)
    pictures[..., :3] = (220, 30 + 5 * style, 30)
    pictures[..., 3] = 255 * np.stack(inside)
    return pictures


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory) -> EmojiData:
    """Disc, bar, pole, ring, triangle and cross under the codes of the first things that scenes are composed of."""
    folder = tmp_path_factory.mktemp("data") / "forms"
    things = [_concept(noun.hex, noun.names["en"]) for noun in nouns()[:6]]
    _write(folder, things, {s: _forms(k) for k, s in enumerate(captions.STYLES)}, {"concepts": [], "pictures": []})
    return EmojiData(folder)


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> EmojiData:
    folder = tmp_path_factory.mktemp("data") / "squares"
    _build(folder)
    return EmojiData(folder)


class Connoisseur:
    """A judge that reads a caption's concept and sees it in the picture's middle, whatever the style."""

    width = 4

    held_out = frozenset({"3d/c04", "flat/c07"})

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._unit(torch.from_numpy(RGB[[int(text[1:3]) for text in texts]]).float())

    def encode_image(self, x: Tensor) -> Tensor:
        return self._unit((x[:, :, SIZE // 2, SIZE // 2] + 1) * 127.5)

    @staticmethod
    def _unit(rgb: Tensor) -> Tensor:
        """On a ball, so that every colour's own direction is the nearest."""
        return torch.nn.functional.normalize(torch.cat([rgb - 127.5, torch.full_like(rgb[:, :1], 90.0)], 1), dim=1)


class FormKnower:
    """A judge that knows things by their outline, whatever their colour, as the set has them in one style."""

    def __init__(self, data: EmojiData) -> None:
        numbers = [next(i for i in range(len(data)) if data.concept_index(i) == k) for k in range(data.subjects)]
        self._forms = self.encode_image(compose(data.pictures(numbers), (255, 255, 255)))
        self._names = [concept.names["en"] for concept in data.concepts]
        self.width = self._forms.shape[1]

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return self._forms[[next(k for k, name in enumerate(self._names) if text.startswith(name)) for text in texts]]

    def encode_image(self, x: Tensor) -> Tensor:
        seen = torch.nn.functional.adaptive_avg_pool2d(((x - 1).abs().amax(1, keepdim=True) > 0.1).float(), 12)
        return torch.nn.functional.normalize(seen.flatten(1) - 0.3, dim=1)


@pytest.fixture(scope="session")
def form_knower(forms: EmojiData) -> FormKnower:
    return FormKnower(forms)


@pytest.fixture
def connoisseur() -> Connoisseur:
    return Connoisseur()


@pytest.fixture(scope="session")
def tokenizer(squares: EmojiData) -> CLIPTokenizer:
    return CLIPTokenizer.train([*LabelledEmoji(squares, 0).corpus(200)], 600, max_length=32)


def _text(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        layers=1,
        heads=2,
        max_length=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


@pytest.fixture(scope="session")
def model(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder that draws noise in milliseconds."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    spec = Spec(
        family="sd1",
        title="tiny",
        unet=UNetConfig(channels=(32,), depth=(1,), blocks=1, context_dim=32, heads=2),
        vae=VAEConfig(channels=(32, 32), blocks=1),
        text=_text(tokenizer),
        defaults=Defaults(width=SIZE, height=SIZE),
    )
    tokenizer.save(folder / "words")
    save_folder(folder / "tiny", spec, sd1.networks(spec), tokenizer_folder=folder / "words")
    return folder / "tiny"


@pytest.fixture(scope="session")
def judge(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a judge of random weights in half precision."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("judge")
    image = ImageTowerConfig(size=16, stem=8, channels=(16,), blocks=(1,))
    clip = CLIP(_text(tokenizer), image, 24, {"concept": 12, "style": 7})
    save_clip(folder, clip, tokenizer, ["3d/c04", "flat/c07"])
    return folder
