"""Latent consistency distillation (Luo et al. 2023): a guided model becomes one that draws in a few steps.

On the way from noise to a picture, which one step of a solver follows by the guided teacher, the student's estimates of
the picture are to be the same before and after that step. After it, a slow average of the student estimates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.data.pictures.protocol import Sample, SampleSource
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.process import per_row
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.errors import SfumatoError
from sfumato.families.ldm import guidance_distilled
from sfumato.nets.unet import UNet
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.pipeline.model import Model
from sfumato.seeding import stream
from sfumato.spec import ID_WIDTH
from sfumato.train.few_steps import SCHEDULE, sheet_settings
from sfumato.train.fine_tuning import FineTuning, FineTuningTask, by_size
from sfumato.train.learnt import Learnt, LoraOrWhole, with_parts
from sfumato.train.objective import Objective, pseudo_huber, stratified, whole_steps
from sfumato.train.precision import arithmetic
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch

OWN = ("times", "shift", "scale", "zero_terminal_snr", "offset_noise", "pyramid_noise")  # of [objective], used here
MEASURED = 4  # noise levels


@dataclass(frozen=True, kw_only=True)
class LcmTraining(FineTuning, LoraOrWhole):
    """Recipe of a model that draws in a few steps; see also `LoraOrWhole`.

    The teacher's way has so many `solver_steps`. Its guidance is w, in x0 + w (x0 - x0 without words), drawn from the
    range `guidance`; when all weights of a U-Net learn it is told w, so that users choose it. The average that
    estimates after a step has the decay `target_ema`; 0 takes the student itself. Errors e cost sqrt(e^2 + c^2) - c,
    with c = `width`. Of [objective] only times and noise apply.
    """

    solver_steps: int = 50
    guidance: tuple[float, float] = (5.0, 15.0)
    target_ema: float = 0.95
    width: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        least, most = self.guidance
        if not 0 <= least <= most:
            raise SfumatoError(f"guidance is {least} to {most}; expected a range of numbers from 0")
        if self.solver_steps < 2:
            raise SfumatoError(f"solver_steps is {self.solver_steps}; expected a whole number from 2")
        if not 0 <= self.target_ema < 1:
            raise SfumatoError(f"target_ema is {self.target_ema}; expected at least 0 and less than 1")
        if not self.width > 0:
            raise SfumatoError(f"width is {self.width}; expected a positive number")
        plain = Objective(**{name: getattr(self.objective, name) for name in OWN})
        if self.objective != plain:
            raise SfumatoError(f"consistency has a loss of its own; of [objective] only {', '.join(OWN)} apply here")


def make(
    cfg: LcmTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> LcmTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return LcmTask(replace(cfg, model=model or cfg.model), data, folder, device)


class Followed:
    """What learns, and in `target` a slow average of it, which belongs to `networks` and does not learn."""

    def __init__(self, learnt: Learnt, target: Learnt):
        self.learnt, self.target, self.model = learnt, target, learnt.model
        target.networks.load_state_dict(learnt.networks.state_dict())
        target.networks.requires_grad_(False)
        self.networks = nn.ModuleDict({**learnt.networks, "target": target.networks})

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Moves the average towards what learns."""
        pairs = zip(self.target.networks.parameters(), self.learnt.networks.parameters(), strict=True)
        for average, value in pairs:
            average.lerp_(value.to(average.dtype), 1 - decay)

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """See `Learnt.write`."""
        self.learnt.write(folder, about)


class LcmTask(FineTuningTask):
    """Distils a model into one of a few steps, see `FineTuningTask`; the teacher is the model before training."""

    cfg: LcmTraining

    def __init__(self, cfg: LcmTraining, data: SampleSource, folder: Path, device: torch.device):
        super().__init__(cfg, data, folder, device)
        self._levels = sigma_list(SCHEDULE, self.base.table, cfg.solver_steps)  # the last is 0

    def _learnt(self) -> Learnt:
        start = self.base
        if self.cfg.lora is None and isinstance(start.denoiser.network, UNet):
            start = told_guidance(start)
        learnt = self.cfg.learnt(start)
        self._followed = Followed(learnt, self.cfg.learnt(start)) if self.cfg.target_ema else None
        return self._followed or learnt

    @property
    def target(self) -> Model:
        """The model that estimates after the teacher's step."""
        return self.model if self._followed is None else self._followed.target.model

    def stepped(self) -> None:
        """See `task.FollowsSteps`."""
        if self._followed is not None:
            self._followed.follow(self.cfg.target_ema)

    def batch(self, step: int) -> Batch:
        """Returns what `FineTuningTask` does, at levels of the teacher's way, the `lower` ones, and guidance `w`."""
        found, chance = super().batch(step), stream(self.cfg.loop.seed, "lcm", step)
        places = whole_steps(1 - self.cfg.objective.shares(chance, len(found["x0"])), self.cfg.solver_steps)
        least, most = self.cfg.guidance
        w = least + (most - least) * stratified(chance, len(places))
        return found | {"sigma": self._levels[places], "lower": self._levels[places + 1], "w": w.float()}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean pseudo-Huber distance of the student's estimate from the target's, weighed by samples."""
        rows = zip(batch["step"].tolist(), batch["place"].tolist(), strict=True)
        samples = [self._samples(step)[place] for step, place in rows]
        costs, errors = self._costs(batch, self.conditions(batch), samples)
        return (costs * batch["weight"]).mean(), {"mse": errors.detach().square().mean()}

    def _costs(self, batch: Mapping[str, Tensor], cond: Cond, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """What the errors of each row cost (B,), and the errors (B, C, h, w)."""
        sigma, lower, w = batch["sigma"].cpu(), batch["lower"].cpu(), batch["w"]
        x = self.base.denoiser.path.noised(batch["x0"], batch["noise"], sigma)
        told = replace(cond, guidance=w.to(self.device)) if self.model.spec.embeds_guidance else cond
        with torch.no_grad():
            plain = replace(cond, guidance=None)
            guided = self.base.denoiser(x, sigma, plain)
            guided = guided + per_row(w, x) * (guided - self.base.denoiser(x, sigma, self._wordless(plain, samples)))
            after = x + per_row((lower - sigma) / sigma, x) * (x - guided)
            known = per_row((lower == 0).float(), x)  # there the point is the picture itself
            asked = lower.where(lower > 0, self._levels[-2])
            estimate = known * after + (1 - known) * self.target.denoiser(after, asked, told)
        errors = self.model.denoiser(x, sigma, told) - estimate
        costs = pseudo_huber(errors.reshape(-1, 1), self.cfg.width).view_as(errors)
        return costs.flatten(1).mean(1), errors

    @torch.no_grad()
    def _wordless(self, cond: Cond, samples: Sequence[Sample]) -> Cond:
        """The conditioning of the same samples by an empty prompt."""
        if self.base.spec.zero_empty_negative:
            pooled = None if cond.pooled is None else torch.zeros_like(cond.pooled)
            return replace(cond, tokens=torch.zeros_like(cond.tokens), pooled=pooled)
        empty = self._conditions([replace(sample, caption="") for sample in samples])
        return replace(empty, guidance=None)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Returns the root mean square of the student's errors on fixed samples, noise and levels, with the mean w."""
        found: list[Tensor] = []
        for samples in by_size(self.pictures.validation()):
            x0, cond = self.latents(samples).to(self.device), self._measured(samples)
            for place in np.linspace(0, self.cfg.solver_steps - 1, MEASURED).astype(int).tolist():
                noise = stream(0, f"consistency {place}", 0).standard_normal(tuple(x0.shape), np.float32)
                rows: dict[str, Any] = {
                    "x0": x0, "noise": torch.from_numpy(noise).to(x0), "sigma": self._levels[place].expand(len(x0)),
                    "lower": self._levels[place + 1].expand(len(x0)),
                    "w": torch.full((len(x0),), sum(self.cfg.guidance) / 2, device=self.device),
                }  # fmt: skip
                with arithmetic(self.cfg.loop, self.device):
                    found.append(self._costs(rows, cond, samples)[1].square().flatten(1).mean(1))
        return {"consistency": torch.cat(found).mean().sqrt().item()}

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """Returns what the prompts draw in one, two and four steps; below them the teacher's, in its own way."""
        size, prompts = self.pictures.validation()[0].size, self.sheet_prompts
        requests = [Request(prompt, seed) for seed, prompt in enumerate(prompts)]
        few = [trajectories(self.model, requests, one) for one in sheet_settings(self.model.spec, *size)]
        rows = [decoded(self.model.vae, row[:, -1]) for row in few]
        return sheet([*rows, self.drawn(self.base, prompts)])


def told_guidance(base: Model) -> Model:
    """Returns the model with a U-Net that is told the guidance scale, which changes nothing yet."""
    network, spec = base.denoiser.network, base.spec
    assert isinstance(network, UNet)
    if network.cfg.guidance_dim is not None:
        return base
    told = UNet(replace(network.cfg, guidance_dim=ID_WIDTH)).to(base.device)
    told.time_embedding.cond_proj.weight.data.zero_()
    told.load_state_dict({**told.state_dict(), **network.state_dict()})
    spec = replace(spec, unet=told.cfg, defaults=guidance_distilled(spec.defaults))
    return with_parts(base, spec=spec, denoiser=replace(base.denoiser, network=told.eval().requires_grad_(False)))
