"""What the methods share that fine-tune a model of any family on pictures with captions.

A method says which of the model's networks learn and what is written of them. Here are the rest: the model, samples
and their conditioning as for drawing, the loss, the figures and the sheets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sfumato.data.pictures.protocol import CaptionedPictures, Sample, SampleSource
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.noise_schedule import table_of
from sfumato.errors import SfumatoError
from sfumato.images.tensors import to_images
from sfumato.nets.layout import Region
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.pipeline.underlay import filled_part
from sfumato.seeding import stream
from sfumato.settings.settings import Settings
from sfumato.train.cache import GIB, Cache, EncodedPictures
from sfumato.train.conditions import Conditions
from sfumato.train.config import LoopConfig
from sfumato.train.learnt import Learnt, with_parts
from sfumato.train.metadata import about
from sfumato.train.new_thing import PicturedConditions, PicturedWord
from sfumato.train.objective import Objective, geometric_mean, validation_errors, whole_steps
from sfumato.train.precision import arithmetic
from sfumato.train.sheet import sheet
from sfumato.train.task import ROWS, Batch

RATIOS = (0.5, 2.0, 10.0)  # of the validation's noise to its signal
SHOWN = 4  # pictures in a row of a sheet


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """What the recipes of all fine-tuning have.

    `model` is the name or path of the model that is tuned, in the precision `weights`. [data] is described with the
    sets (docs/data.md), [objective] in `train.objective`. Sheets draw the `prompts`, or captions of the set, in
    `sheet_steps` steps (0: as many as the model advises). Encoded pictures are kept for further runs, in at most
    `cache_gib` GiB of the user's cache folder.
    """

    loop: LoopConfig
    model: str = "emoji"
    weights: Literal["float32", "bfloat16", "float16"] = "float32"
    data: dict[str, Any] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    prompts: tuple[str, ...] = ()
    sheet_steps: int = 0
    cache_gib: float = 20.0


class FineTuningTask(ABC):
    """Trains something of a model, see `task.Task`. Methods say in `_learnt` what that is.

    Raises SfumatoError for a model that does not draw from words alone, and for data that cannot be read.
    """

    KIND: ClassVar[str] = "lora"
    """What modelspec calls files of the method."""

    def __init__(self, cfg: FineTuning, data: SampleSource, folder: Path, device: torch.device):
        torch.manual_seed(cfg.loop.seed)
        self.cfg, self.device = cfg, device
        self.base = self._fitted(on_schedule(load(cfg.model, device, cfg.weights), cfg.objective))
        cfg.objective.check(self.base.spec.prediction)
        self.cache = Cache(most=int(cfg.cache_gib * GIB))
        self.pictures = self._pictures(data, folder)
        for network in self.base.networks.values():
            network.requires_grad_(False)
        self.word: PicturedWord | None = self._word()
        self.learnt: Learnt = self._learnt()
        self.model = self.learnt.model
        self.networks: nn.Module = self.learnt.networks.to(device)
        self._latents = EncodedPictures(self.pictures, self.base.vae, self.cache)
        self._conditions = self._told()
        self._samples = lru_cache(maxsize=8)(lambda step: self.pictures.batch(step, cfg.loop.batch))

    def _fitted(self, base: Model) -> Model:
        """Returns the loaded model as the method tunes it. Raises SfumatoError for one that it cannot tune."""
        if base.spec.beside_latents or base.spec.low_res is not None:
            raise SfumatoError(f"{self.cfg.model} works from a picture; give a model that draws from words alone")
        return base

    @abstractmethod
    def _learnt(self) -> Learnt:
        """Returns what learns of the model; called once."""

    def _word(self) -> PicturedWord | None:
        """Returns a word that comes with what learns, for a thing that a scene prior does not remember; called once."""
        return None

    def _told(self) -> Conditions:
        """Returns what makes the conditioning of samples; called once."""
        if self.word is None:
            return Conditions(self.model, self.draft, cache=self.cache)
        return PicturedConditions(self.model, self.draft, self.word.styles)

    def draft(self, sample: Sample, turn: int) -> Tensor | Region | None:
        """Returns what a scene prior's draft of a sample is, see `conditions.Draft`.

        The things of a caption fill what the picture fills. A picture that the model drew to keep what it knows is its
        own draft.
        """
        if sample.regularisation:
            return self._latents(sample)
        return filled_part(to_images(self.pictures.pixels(sample)[None])[0])

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        """The pictures that are learnt from."""
        return self._opened(data, self.cfg.data)

    def _opened(self, data: SampleSource, options: Mapping[str, Any]) -> CaptionedPictures:
        """The pictures of a set by its options, in sizes that the model draws."""
        return data.samples(options, self.cfg.loop.seed, self.base.spec.defaults.width, self._multiple)

    @property
    def _multiple(self) -> int:
        """What the sides of pictures are multiples of."""
        return self.base.spec.multiple

    def prepare(self) -> None:
        """See `task.Prepares`: encodes the pictures, unless the run sees fewer views than there are."""
        self._latents.fill(self.cfg.loop.steps * self.cfg.loop.batch)

    def batch(self, step: int) -> Batch:
        """Returns what `objective.Noised` says of a step's samples, and their `weight`.

        `rows` are the pictures' numbers, `step` and `place` say which sample a row is.
        """
        samples, objective = self._samples(step), self.cfg.objective
        chance = stream(self.cfg.loop.seed, "fine-tuning", step)
        x0 = self.latents(samples)
        found = {
            ROWS: torch.tensor([sample.picture for sample in samples]),
            "step": torch.full((len(samples),), step),
            "place": torch.arange(len(samples)),
            "x0": x0,
            "sigma": self.sigmas(objective.shares(chance, len(samples))),
            **objective.noise(chance, tuple(x0.shape)),
            "weight": torch.tensor([sample.weight for sample in samples]),
        }
        if any(sample.masked for sample in samples):
            masks = torch.stack([self.pictures.mask(sample) for sample in samples])
            found["mask"] = F.interpolate(masks, x0.shape[2:], mode="area")
        return found

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean of the objective's losses, weighed by samples, and of its errors without weights."""
        errors = self.cfg.objective.errors(self.model.denoiser, batch, self.conditions(batch))
        weights = self.cfg.objective.weights(self.model.denoiser.prediction, batch["sigma"]).to(errors)
        return (errors * weights * batch["weight"]).mean(), {"mse": errors.detach().mean()}

    def batch_ids(self, step: int) -> list[str | int]:
        """Returns the numbers of a step's pictures with their captions."""
        return [f"{sample.picture}: {sample.caption}" for sample in self._samples(step)]

    def data_summary(self) -> dict[str, object]:
        """Returns the set's name, its samples an epoch, and how many of them have each size."""
        sizes = {f"{width} x {height}": count for (width, height), count in self.pictures.sizes.items()}
        return {"set": self.pictures.name, "samples an epoch": self.pictures.epoch} | sizes

    @property
    def forwarded(self) -> nn.Module:
        """The network that the loss calls."""
        return self.model.denoiser.network

    def conditions(self, batch: Batch, made: Conditions | None = None) -> Cond:
        """Returns the conditioning of a batch's rows, by the model that learns unless another one is given."""
        steps, places = batch["step"].tolist(), batch["place"].tolist()
        samples = [self._samples(step)[place] for step, place in zip(steps, places, strict=True)]
        return (made or self._conditions)(samples, steps)

    def _measured(self, samples: Sequence[Sample]) -> Cond:
        """The conditioning of samples to measure on, the same at each time."""
        return self._conditions(samples)

    def sigmas(self, share: Tensor) -> Tensor:
        """Returns the noise levels (B,), float64, of the model's own table at shares (B,) of its steps."""
        levels = self.base.table.sigmas
        return levels[whole_steps(share, len(levels))]

    def latents(self, samples: Sequence[Sample]) -> Tensor:
        """Returns the latents (B, C, h, w) of samples of one size, float32 on the CPU."""
        return torch.stack([self._latents(sample) for sample in samples]).float()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate of x0 on fixed samples and noise, by ratio of noise to
        signal, and as "x0" their geometric mean."""
        found: dict[float, list[float]] = {ratio: [] for ratio in RATIOS}
        for samples in by_size(self.pictures.validation()):
            x0, cond = self.latents(samples).to(self.device), self._measured(samples)
            with arithmetic(self.cfg.loop, self.device):
                for ratio in RATIOS:
                    errors = validation_errors(self.model.denoiser, x0, cond, ratio)
                    found[ratio] += errors.flatten(1).mean(1).tolist()
        means = {ratio: sum(errors) / len(errors) for ratio, errors in found.items()}
        return {"x0": geometric_mean([*means.values()])} | {f"x0_{ratio:g}": mean for ratio, mean in means.items()}

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """Returns what the prompts draw as trained, and below them what they drew before."""
        changed = self.model.denoiser.network is not self.base.denoiser.network or self.model.encode.learns
        shown = (self.model, self.base) if changed else (self.model,)
        return sheet([self.drawn(model, self.sheet_prompts) for model in shown])

    @property
    def sheet_prompts(self) -> tuple[str, ...]:
        """The prompts of sheets."""
        captions = dict.fromkeys(sample.caption for sample in self.pictures.validation())
        return self.cfg.prompts or tuple(captions)[:SHOWN]

    def drawn(self, model: Model, prompts: Sequence[str]) -> Tensor:
        """Returns the pictures (N, 3, H, W) that a model draws of prompts, of the size of the set's first sample."""
        width, height = self.pictures.validation()[0].size
        settings = settings_for(model, width, height, self.cfg.sheet_steps)
        requests = [Request(prompt, seed) for seed, prompt in enumerate(prompts)]
        return decoded(model.vae, trajectories(model, requests, settings)[:, -1])

    def export(self, folder: Path) -> None:
        """Writes what was learnt."""
        cfg = self.cfg
        self.learnt.write(folder, about(self.base, self.pictures, cfg.loop, cfg.objective, self.KIND))


def on_schedule(model: Model, objective: Objective) -> Model:
    """Returns the model with the noise schedule that the objective trains on, which is mostly its own."""
    noise = objective.schedule(model.spec.noise)
    if noise == model.spec.noise:
        return model
    denoiser = replace(model.denoiser, table=table_of(model.spec.prediction, noise))
    return with_parts(model, spec=replace(model.spec, noise=noise), denoiser=denoiser)


def settings_for(model: Model, width: int, height: int, steps: int) -> Settings:
    """Returns settings of pictures of this size in pixels, in so many steps (0: as many as the model advises)."""
    return Settings.of(model.spec, "-", width=width, height=height, steps=steps or model.spec.defaults.steps)


def by_size(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Returns the samples in lists of one size each."""
    found: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.size, []).append(sample)
    return list(found.values())
