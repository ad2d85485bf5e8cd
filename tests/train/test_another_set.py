"""Training methods learn from any set that keeps to the protocols, here from shapes that are made when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.data.protocol import Example, LabelledPicture, Prompt, RequestedThing, Rgb, TrainingSet
from sfumato.images.tensors import compose
from sfumato.nets.image_tower import ImageTowerConfig
from sfumato.nets.layout import MAX_THINGS, Spot
from sfumato.spec import DepthNetConfig, MMDiTConfig, UNetConfig, VAEConfig
from sfumato.train.config import LoopConfig
from sfumato.train.loop import train
from sfumato.train.methods import clip, codes, concat, depth_net, distil, ldm, reader, scenes, vae
from sfumato.train.text_tower import TowerSize

CPU, SIDE = torch.device("cpu"), 32
NAMES, GROUPS, GROUNDS = ("disc", "square", "bar"), ("plain", "soft"), ((255, 255, 255), (40, 40, 200))
LOOP = LoopConfig(steps=2, batch=4, lr=1e-3, warmup=1, log_every=1, validate_every=9, sample_every=9, ema=0.5)
NET = UNetConfig(channels=(16, 32), blocks=1, depth=(0, 1), heads=2, groups=8)


@dataclass(frozen=True)
class Shown:
    """Pictures of the set on white: a `PictureList`."""

    data: Shapes
    name: str = "shapes"
    ground: Rgb = (255, 255, 255)

    @property
    def fingerprint(self) -> str:
        return f"shapes on {self.ground}"

    def __len__(self) -> int:
        return len(self.data)

    def draw(self, numbers: np.ndarray) -> Tensor:
        return compose(self.data.pictures(numbers), self.ground)


@dataclass(frozen=True)
class Captions:
    data: Shapes

    @property
    def parts(self) -> list[Shown]:
        return [Shown(self.data)]

    def batch(self, step: int, count: int) -> tuple[np.ndarray, list[str]]:
        numbers = (step + np.arange(count)) % len(self.data)
        return numbers, [self.data.prompt(self.data.subject(int(i)), "plain", "en") for i in numbers]

    def validation(self) -> dict[str, tuple[np.ndarray, list[str]]]:
        return {"seen": self.batch(0, 2)}


@dataclass(frozen=True)
class Scenes:
    """One thing to a scene, alone in the middle."""

    data: Shapes

    def draw(self, numbers: Sequence[int]) -> Tensor:
        return Shown(self.data).draw(np.array([n % len(self.data) for n in numbers]))

    def labels(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        n = len(numbers)
        found = {name: torch.zeros(n, MAX_THINGS, dtype=torch.int64) for name in ("picture", "tint")}
        found["ground"] = torch.zeros(n, dtype=torch.int64)
        found["group"] = torch.full((n, MAX_THINGS), -1)
        found["group"][:, 0] = 0
        found["spot"] = torch.zeros(n, MAX_THINGS, 5)
        found["spot"][:, 0] = torch.tensor([0.5, 0.5, 0.9, 0, 0])
        found["picture"][:, 0] = torch.tensor([number % len(self.data) for number in numbers])
        return found


@dataclass(frozen=True)
class Examples:
    data: Shapes

    def __getitem__(self, number: int) -> Example:
        i = number % len(self.data)
        mask = torch.from_numpy(self.data.picture(i)[..., 3] > 127)
        picture = compose(self.data.picture(i), (255, 255, 255))
        return Example(picture, mask[None], mask.float(), lambda rng: NAMES[self.data.subject(i)])


@dataclass(frozen=True)
class Labels:
    """What a shape is, and its group, which texts leave open."""

    data: Shapes
    kinds: Mapping[str, tuple[int, int]] = field(
        default_factory=lambda: {"concept": (1, len(NAMES)), "style": (1, len(GROUPS) + 1)}
    )
    numbers: np.ndarray = field(default_factory=lambda: np.arange(20))
    held_out: np.ndarray = field(default_factory=lambda: np.arange(20, 24))

    def picture(self, number: int, rng: Random) -> LabelledPicture:
        shown = [self.data.subject(number), GROUPS.index(self.data.group(number))]
        return LabelledPicture(self.data.picture(number), rng.choice(GROUNDS), shown, True, True, False)

    def text(self, rng: Random) -> tuple[str, list[int]]:
        subject = rng.randrange(len(NAMES))
        return NAMES[subject], [subject, len(GROUPS)]

    def corpus(self, count: int) -> Sequence[str]:
        return NAMES * count

    def pictures(self, numbers: np.ndarray) -> np.ndarray:
        return self.data.pictures(numbers)

    def name(self, subject: int, language: str) -> str:
        return NAMES[subject]

    def key(self, number: int) -> str:
        return str(number)


@dataclass(frozen=True)
class Words:
    """Names of the shapes, in a style or not."""

    subjects: Sequence[int] = range(len(NAMES))
    tests: Sequence[str] = ("bare",)

    def training(self, rng: Random) -> Prompt:
        subject, style = rng.randrange(len(NAMES)), rng.choice((None, 0, 1))
        text = NAMES[subject] if style is None else f"{NAMES[subject]}, {GROUPS[style]}"
        return Prompt(text, (RequestedThing(subject),), style=style, fitting=(subject,))

    def held_out(self, kind: str, language: str, rng: Random) -> Prompt:
        return self.training(rng)

    def handwritten(self, language: str) -> list:
        return [("a disc", lambda found: [thing.concept for thing in found.things] == [0])]

    def words(self) -> Sequence[str]:
        return NAMES

    def sayings(self, rng: Random) -> list[Prompt]:
        return [self.training(rng) for _ in range(20)]

    def phrases(self) -> list[tuple[str, int, bool]]:
        return [(name, number, True) for number, name in enumerate(NAMES)]

    def values(self) -> list[tuple[str, str, int]]:
        return [("two", "count", 1), *((name, "style", place) for place, name in enumerate(GROUPS))]


class Shapes:
    """Three shapes in two groups, four of each, made when asked for: a `TrainingSet` that is no emoji set."""

    path, size, manifest, languages = Path("shapes"), SIDE, b"shapes", ("en",)
    subjects, groups, grounds, tints = len(NAMES), GROUPS, [(rgb, rgb) for rgb in GROUNDS], []
    splits: Mapping[str, np.ndarray] = {
        "train": np.arange(20), "unseen_picture": np.arange(20, 24), "unseen_concept": np.arange(0),
    }  # fmt: skip

    def __len__(self) -> int:
        return 24

    def picture(self, i: int) -> np.ndarray:
        y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
        radius = 0.2 + 0.01 * (i // 6)
        inside = (x**2 + y**2 < radius**2, np.maximum(abs(x), abs(y)) < radius, abs(y) < radius / 3)[self.subject(i)]
        rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
        rgba[inside] = (200, 30 * (i % 6), 60, 255)
        return rgba

    def pictures(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.stack([self.picture(int(i)) for i in indices])

    def subject(self, i: int) -> int:
        return i % 3

    def group(self, i: int) -> str:
        return GROUPS[i % 2]

    def prompt(self, subject: int, group: str, language: str) -> str:
        return f"{NAMES[subject]}, {group}"

    def captioned(self, options: Mapping[str, Any], seed: int, held_out: int) -> Captions:
        return Captions(self)

    def examples(self, seed: int, single: float, deep: bool) -> Examples:
        return Examples(self)

    def caption(self, rng: Random, composed: float) -> str:
        return rng.choice(NAMES)

    def scenes(self, seed: int) -> Scenes:
        return Scenes(self)

    def labelled(self, seed: int) -> Labels:
        return Labels(self)

    def prompts(self) -> Words:
        return Words()

    def alone(self, spot: Spot, ground: Rgb = (255, 255, 255)) -> Shown:
        return Shown(self, ground=ground)


DATA: TrainingSet = Shapes()
VAE_RECIPE = vae.VAETraining(
    LOOP, VAEConfig(latent_channels=4, channels=(8, 8), blocks=1, groups=1), crop=16, scenes_every=2, held_out=4
)


def run(task: Any, folder: Path) -> Path:
    train(task, replace(task.cfg.loop, lr_schedule="constant"), folder, record=task.cfg, device=CPU)
    assert any((folder / "export").iterdir())
    return folder / "export"


@pytest.mark.parametrize("method", ["clip", "ldm", "concat", "depth-net", "distil", "reader", "scenes"])
def test_a_method_learns_from_a_set_that_it_does_not_know(method: str, model: str, tmp_path: Path) -> None:
    match method:
        case "clip":
            size, tower = TowerSize(520, 16, 1, 2, 16), ImageTowerConfig(size=32, channels=(16, 32), blocks=(1, 1))
            task = clip.make(
                clip.CLIPTraining(LOOP, size, tower, embedding=16, texts=8, corpus=20), DATA, tmp_path, CPU
            )
        case "ldm":
            recipe = ldm.LDMTraining(LOOP, NET, length=16, held_out=2, sheet_steps=1, prompts=("disc",))
            task = ldm.make(recipe, DATA, tmp_path, CPU, parts=model)
        case "concat":
            recipe = concat.ConcatTraining(LOOP, "inpainting", rank=2, examples=8, held_out=2, sheet_steps=1)
            task = concat.make(recipe, DATA, tmp_path, CPU, init=model)
        case "depth-net":
            net = DepthNetConfig((8, 8, 16), groups=4, side=32)
            task = depth_net.make(depth_net.DepthNetTraining(LOOP, net, examples=8, held_out=4), DATA, tmp_path, CPU)
        case "distil":
            recipe = distil.DistilTraining(LOOP, rank=2, paths=8, held_out=2, teacher_steps=4, prompts=("disc",))
            task = distil.make(recipe, DATA, tmp_path, CPU, init=model)
        case "reader":
            size = TowerSize(vocab_size=520, width=16, layers=1, heads=2, max_length=16)
            task = reader.make(reader.ReaderTraining(LOOP, size, corpus=20, tests=2), DATA, tmp_path, CPU)
        case _:
            net = MMDiTConfig(patch=2, hidden=32, heads=2, depth=1, positions=8)
            recipe = scenes.SceneTraining(LOOP, net, scenes=8, held_out=2, sheet_steps=1)
            short = codes.CodesTraining(LOOP, code=8, detail=(4, 3, 5), pictures=8, held_out=2)
            encoder = run(vae.make(VAE_RECIPE, DATA, tmp_path, CPU), tmp_path / "vae")
            known = run(codes.make(short, DATA, tmp_path, CPU, vae=encoder), tmp_path / "codes")
            task = scenes.make(recipe, DATA, tmp_path, CPU, vae=encoder, codes=known)
    run(task, tmp_path / "run")
