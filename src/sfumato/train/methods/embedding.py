"""Teaches a model with a scene prior a new thing from a few pictures of it, and gives it a word.

Textual inversion (Gal et al. 2022) searches a frozen model's space of words for a vector that stands for pictures. In a
model with a scene prior, what a thing looks like stands in the code that its memory has of it, and not in a word's
vector. So the code is what is searched for: by the same loss, that of the frozen denoiser, told where in each picture
the thing lies. The word's own vectors are those of a word that is used alike; only its name and its code are new.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.hashes import model_hash
from sfumato.data.protocol import TrainingSet
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.nets.composer import OUTLINE, Things
from sfumato.nets.layout import Spot
from sfumato.nets.prior import NewThing
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.pipeline.latents import autoencoding, encode
from sfumato.pipeline.load import load
from sfumato.seeding import shuffled, stream
from sfumato.settings.settings import Settings, sized
from sfumato.train.config import LoopConfig
from sfumato.train.cutouts import load_cutouts, placed, spots_of
from sfumato.train.new_thing import alone_on_green, fitted, new_thing, prior_of, vectors_of
from sfumato.train.objective import denoising_losses, geometric_mean, stratified, times, validation_errors
from sfumato.train.precision import arithmetic
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch

RATIOS = (0.5, 2.0, 10.0)  # of the validation's noise to its signal
SMALLEST = 0.3  # longer edge of the thing in a picture
CHUNK = 16  # pictures that are encoded at once


@dataclass(frozen=True)
class EmbeddingTraining:
    """Recipe of a word for a new thing.

    The thing is called `word` and read like the known word `like`. A picture whose file is called as a group of the
    data set, such as flat.png or flat-2.png, is of that style, others are of `style`. Each is laid at `views` places,
    on grounds of the data set, of which the first is where a thing's code has it; `held_out` further ones are for
    validation. Codes begin as those that spell out the pictures best and stay near them: `anchor` weighs their squared
    distance. Sheets draw the `prompts`, in which {} is the word, in `sheet_steps` steps.
    """

    loop: LoopConfig
    word: str
    like: str
    style: str = ""
    init: str = "emoji"
    views: int = 32
    held_out: int = 8
    sheet_steps: int = 12
    anchor: float = 0.0
    prompts: tuple[str, ...] = ("{}", "two {}", "a {} on a blue background", "a {} and a red apple")


def make(
    cfg: EmbeddingTraining, data: TrainingSet, folder: Path, device: torch.device, *, pictures: Path | None = None,
    init: str | None = None,
) -> EmbeddingTask:  # fmt: skip
    """Returns the task of a run; the inputs are described in `train.registry`."""
    if pictures is None:
        raise SfumatoError("give --pictures, a folder with pictures of the new thing")
    return EmbeddingTask(replace(cfg, init=init or cfg.init), data, pictures, device)


class Codes(nn.Module):
    """The codes (S, K) that are learnt, one of each style, and those (S, K + D) that they began as."""

    first: Tensor

    def __init__(self, first: Tensor, width: int):
        super().__init__()
        self.codes = nn.Parameter(first[:, :width].clone())
        self.register_buffer("first", first)

    @property
    def moved(self) -> Tensor:
        """The mean squared distance from where they began."""
        return (self.codes - self.first[:, : self.codes.shape[1]]).square().mean()

    def forward(self) -> Tensor:
        """The codes with their details, (S, K + D)."""
        return torch.cat([self.codes, self.first[:, self.codes.shape[1] :]], 1)


class EmbeddingTask:
    """Trains the code of a thing, see `task.Task`. Raises SfumatoError for a model without a scene prior, and for a
    style or a word that it does not know."""

    def __init__(self, cfg: EmbeddingTraining, data: TrainingSet, pictures: Path, device: torch.device):
        self.cfg, self._data, self.device = cfg, data, device
        self.model = load(cfg.init, device, "float32")
        self.prior = prior_of(self.model)
        self._size = self.prior.cfg.side * self.model.spec.vae.factor
        cutouts = load_cutouts(pictures)
        styles = [self._style_of(name) for name in cutouts]
        self._styles = sorted(set(styles))
        self._things = [*zip(cutouts.values(), map(self._styles.index, styles), strict=True)]
        self._vectors = vectors_of(self.model, cfg.like)
        self._views = self._encoded(cfg.views, "views")
        self._new = self._encoded(cfg.held_out, "held out")
        alone = alone_on_green(self.model.vae, [thing for thing, _ in self._things], self._size)
        style = torch.tensor([place for _, place in self._things])
        self._alone = [alone[style == place] for place in range(len(self._styles))]
        first = torch.stack([fitted(self.prior.composer, one) for one in self._alone]).to(device)
        cut = self.prior.composer.cut_out(first, autoencoding(self.model.vae))
        for views in (self._views, self._new):
            views["draft"] = self._drafts(views, first, cut)
        self.networks = Codes(first, self.prior.cfg.code).to(device)

    def batch(self, step: int) -> Batch:
        """Returns the `rows` of the views, `noise`, and levels `sigma`."""
        count, seed, rows = self.cfg.loop.batch, self.cfg.loop.seed, len(self._views["x0"])
        chance = stream(seed, "noise", step)
        shape = (count, *self._views["x0"].shape[1:])
        return {
            "rows": torch.from_numpy(shuffled(seed, "views", step * count, count, rows)),
            "noise": torch.from_numpy(chance.standard_normal(shape, np.float32)),
            "sigma": times("logit_normal", stratified(chance, count)).clamp(1e-4, 1 - 1e-3),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error of the flow, plus that of the code from its beginning times its weight."""
        rows, moved = batch["rows"].cpu(), self.networks.moved
        x0, cond = self._views["x0"][rows].to(self.device), self._cond(self._views, rows)
        errors = denoising_losses(self.model.denoiser, x0, batch["noise"], batch["sigma"].cpu(), cond)
        return errors.mean() + self.cfg.anchor * moved, {"moved": moved.detach().sqrt()}

    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate of x0 in places that training does not see, as the geometric
        mean over noise levels, and that of the draft."""
        rows = torch.arange(len(self._new["x0"]))
        x0 = self._new["x0"].to(self.device)
        with arithmetic(self.cfg.loop, self.device):
            cond = self._cond(self._new, rows)
            errors = [validation_errors(self.model.denoiser, x0, cond, ratio).mean().item() for ratio in RATIOS]
        assert cond.concat is not None, "composers draft"
        return {"x0": geometric_mean(errors), "draft": (cond.concat - x0).square().mean().item()}

    def samples(self) -> Image.Image:
        """Returns the given pictures, and below them what the prompts draw with the word."""
        settings = Settings.of(self.model.spec, "-", **sized({"steps": self.cfg.sheet_steps}, self._size, self._size))
        requests = [Request(prompt.format(self.cfg.word), k) for k, prompt in enumerate(self.cfg.prompts)]
        given = self._views["x0"][:: self.cfg.views][: len(requests)].to(self.device)
        with TemporaryDirectory() as folder:
            self.export(Path(folder))
            with self.model.adapters.using(Path(folder, f"{self.cfg.word}.safetensors")):
                drawn = trajectories(self.model, requests, settings)[:, -1]
        return sheet([decoded(self.model.vae, given), decoded(self.model.vae, drawn)])

    def export(self, folder: Path) -> None:
        """Writes WORD.safetensors: the vectors under their usual name, and the thing beside them."""
        thing = self._thing()
        tensors = {
            "emb_params": self._vectors.cpu(), "thing_codes": thing.codes.cpu(), "thing_known": thing.known.cpu(),
        }  # fmt: skip
        heads = {name: (tuple(one.shape), one.dtype) for name, one in tensors.items()}
        said = {"like": self.cfg.like, "base": model_hash(self.model.path)}
        metadata = {"sfumato_embedding": json.dumps(said)}
        safetensors_file.write(folder / f"{self.cfg.word}.safetensors", heads, tensors.__getitem__, metadata)

    @torch.no_grad()
    def _thing(self) -> NewThing:
        """The thing with its codes in the styles of its pictures, and guesses for the others, without details."""
        composer = self.prior.composer
        own = self.networks.codes.to(torch.float8_e4m3fn).float()  # as a memory keeps them
        learnt = [fitted(composer, one, code) for one, code in zip(self._alone, own, strict=True)]
        return new_thing(self.prior.memory, dict(zip(self._styles, learnt, strict=True)))

    def _cond(self, views: Batch, rows: Tensor) -> Cond:
        """What the denoiser is told of views: the code, and where it lies on which ground."""
        picked = {name: value[rows] for name, value in views.items()}
        return self.prior.composer(self._told(picked, self.networks()), picked["draft"].to(self.device))

    def _told(self, views: Batch, codes: Tensor) -> Things:
        count = len(views["x0"])
        return Things(
            codes[views["style"].to(self.device), None],
            torch.zeros(count, 1, dtype=torch.int64, device=self.device),
            views["spot"][:, None].to(self.device),
            torch.ones(count, 1, dtype=torch.bool, device=self.device),
            views["ground"].to(self.device),
        )

    def _drafts(self, views: Batch, codes: Tensor, cut: Tensor) -> Tensor:
        """Returns the drafts of views, by the codes (S, K + D) that training begins with and their things cut out."""
        own = [cut[style : style + 1] for style in views["style"].tolist()]
        drawing, (height, width) = autoencoding(self.model.vae), views["x0"].shape[2:]
        told = self._told(views, codes)
        return self.prior.composer.drafted(told, height, width, drawing, cutouts=own).cpu()

    def _encoded(self, count: int, name: str) -> Batch:
        """Latents `x0` of every picture at `count` spots, with these spots and the numbers of the grounds."""
        rng, white = Random(f"{self.cfg.loop.seed} {name}"), len(self._data.grounds)
        spots, grounds, x0 = list[Spot](), list[int](), list[Tensor]()
        for thing, _ in self._things:
            own = [_spot(rng, view == 0 and name == "views") for view in range(count)]
            on = [rng.randrange(white + 1) if view else white for view in range(count)]
            laid = [placed(thing, spot, self._colour(rng, ground), self._size)
                    for spot, ground in zip(own, on, strict=True)]  # fmt: skip
            for part in torch.stack(laid).split(CHUNK):
                x0.append(encode(self.model.vae, part.to(self.device)).float().cpu())
            spots, grounds = spots + own, grounds + on
        styles = torch.tensor([style for _, style in self._things]).repeat_interleave(count)
        return {"x0": torch.cat(x0), "spot": spots_of(spots), "ground": torch.tensor(grounds), "style": styles}

    def _style_of(self, name: str) -> int:
        """The place of a picture's style among the groups of the data set, by its file's name or the recipe."""
        groups = list(self._data.groups)
        found = next((group for group in groups if re.fullmatch(rf"{re.escape(group)}(-.*)?", name)), self.cfg.style)
        if found not in groups:
            raise SfumatoError(
                f"no style is known of the picture {name}; call it as one of {', '.join(groups)}, or give the recipe "
                "a `style` of these"
            )
        return groups.index(found)

    def _colour(self, rng: Random, ground: int) -> tuple[int, int, int]:
        """A colour of a ground; the one after the last is the white that nobody mentions."""
        if ground == len(self._data.grounds):
            return 255, 255, 255
        low, high = self._data.grounds[ground]
        red, green, blue = (rng.randint(a, b) for a, b in zip(low, high, strict=True))
        return red, green, blue


def _spot(rng: Random, first: bool) -> Spot:
    """Where a view has the thing, whole; the first of a picture has it where a code does."""
    if first:
        return Spot(0.5, 0.5, OUTLINE)
    side = rng.uniform(SMALLEST, OUTLINE)
    x, y = (rng.uniform(side / 2, 1 - side / 2) for _ in range(2))
    return Spot(x, y, side)
