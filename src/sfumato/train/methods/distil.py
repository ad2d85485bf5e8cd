"""Distilling a guided sampler of many steps into a network that needs few of them and no guidance.

The teacher's paths are drawn beforehand: from noise, with guidance, along the deterministic way of its sampler. At
every noise level of a path the student learns where the path ends, which is what consistency models learn step by step
(Song et al. 2023; latents: Luo et al. 2023), here directly, as Luhman & Luhman 2021 do at the first level. That costs
the teacher a fraction of what consistency training asks of it, since every path is learnt from many times. The few
steps are those of consistency sampling: an estimate, noise up to the next level, an estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint.hashes import model_hash
from sfumato.data.protocol import TrainingSet
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.seeding import shuffled, stream
from sfumato.settings.settings import Settings
from sfumato.train.config import LoopConfig
from sfumato.train.few_steps import SCHEDULE, few_steps, sheet_settings
from sfumato.train.latents import identity
from sfumato.train.objective import pseudo_huber, stratified, x0_error
from sfumato.train.precision import arithmetic
from sfumato.train.preparation import Tensors, prepared
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch
from sfumato.train.variant import FIELDS, Variant

CHUNK = 32  # paths that are drawn side by side and kept in one file


@dataclass(frozen=True)
class DistilTraining:
    """Recipe of a variant that draws in few steps.

    `paths` are drawn by `init` in `teacher_steps` of `teacher_sampler`, with guidance `teacher_cfg`; `held_out` more
    are for validation. The share `composed` of them are of composed pictures, the others of single things. `steps`
    becomes the variant's default. The share `first_share` of samples are of the noisiest level, where one step has to
    do everything. Sheets draw the `prompts`.
    """

    loop: LoopConfig
    init: str = "emoji"
    rank: int = 7
    paths: int = 2048
    held_out: int = 64
    composed: float = 0.4
    teacher_sampler: str = "dpmpp_2m"
    teacher_steps: int = 8
    teacher_cfg: float = 4.0
    first_share: float = 0.25
    steps: int = 4
    prompts: tuple[str, ...] = ("red apple, 3d render", "cat face, 3d render", "rocket, 3d render", "house, 3d render")

    RENAMED: ClassVar[dict[str, str]] = {"scene_share": "composed"}


def make(
    cfg: DistilTraining, data: TrainingSet, folder: Path, device: torch.device, *, init: str | None = None,
    adapter: Path | None = None,
) -> DistilTask:  # fmt: skip
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return DistilTask(replace(cfg, init=init or cfg.init), data, folder, device, adapter)


class DistilTask:
    """Trains an adapter by which a model draws in few steps, see `task.Task`; `adapter` is as in `Variant`."""

    def __init__(
        self, cfg: DistilTraining, data: TrainingSet, folder: Path, device: torch.device, adapter: Path | None = None
    ):
        torch.manual_seed(cfg.loop.seed)
        self.cfg, self._data, self.device = cfg, data, device
        self.variant = Variant(cfg.init, cfg.rank, device, adapter)
        self.networks: nn.Module = self.variant.adapter
        self._teacher = Settings.of(
            self.variant.base.spec, "-", steps=cfg.teacher_steps, cfg=cfg.teacher_cfg, sampler=cfg.teacher_sampler,
            schedule=SCHEDULE, width=data.size, height=data.size,
        )  # fmt: skip
        self._sigmas = sigma_list(SCHEDULE, self.variant.base.table, cfg.teacher_steps)
        made_from = identity(
            data, self.variant.base.vae, model_hash(self.variant.base.path), cfg.loop.seed,
            cfg.composed, cfg.teacher_sampler, cfg.teacher_steps, cfg.teacher_cfg,
        )  # fmt: skip
        self._paths = prepared(folder / f"paths-{made_from}", cfg.paths + cfg.held_out, self._draw, CHUNK, "draw paths")

    @property
    def forwarded(self) -> nn.Module:
        """See `task.UsesFrozen`: the network that the adapter changes."""
        return self.variant.network

    def batch(self, step: int) -> Batch:
        """Returns the `rows` of kept paths, and at which of a path's noise `levels` each is seen."""
        cfg, count, seed = self.cfg, self.cfg.loop.batch, self.cfg.loop.seed
        rows = torch.from_numpy(shuffled(seed, "paths", step * count, count, cfg.paths))
        chance = stream(seed, "levels", step)
        share = stratified(chance, count)
        later = (share - cfg.first_share) / (1 - cfg.first_share) * (cfg.teacher_steps - 1) + 1
        return {"rows": rows, "levels": torch.where(share < cfg.first_share, 0, later).long()}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the pseudo-Huber distance of the estimates from where the paths end."""
        error = self._error(batch["rows"], batch["levels"])
        return pseudo_huber(error).mean(), {"mse": error.detach().square().mean()}

    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate at four levels of a path, by sigma."""
        rows, figures = torch.arange(self.cfg.paths, self.cfg.paths + self.cfg.held_out), {}
        for quarter in range(4):
            level = quarter * self.cfg.teacher_steps // 4
            with arithmetic(self.cfg.loop, self.device):
                error = self._error(rows, torch.full_like(rows, level))
            figures[f"x0_{self._sigmas[level]:.2f}"] = error.square().mean().item()
        return figures

    def samples(self) -> Image.Image:
        """Returns pictures drawn in one, two and four steps; below them the teacher's from the same noise."""
        model, requests = self.variant.model, [Request(prompt, k) for k, prompt in enumerate(self.cfg.prompts)]
        few = sheet_settings(model.spec, self._data.size, self._data.size)
        rows = [trajectories(model, requests, settings) for settings in few]
        rows.append(trajectories(self.variant.base, requests, self._teacher))
        return sheet([decoded(model.vae, row[:, -1]) for row in rows])

    def export(self, folder: Path) -> None:
        """Writes the variant's file, `fast.safetensors`."""
        defaults = dict(few_steps(self.variant.model.spec, self.cfg.steps))
        self.variant.export(folder / "fast.safetensors", {"sfumato.json": defaults}, {})

    def _error(self, rows: Tensor, levels: Tensor) -> Tensor:
        """Returns the student's estimates of the ends of the paths minus these ends, (B, C, h, w)."""
        kept, place = self._paths, (rows.cpu(), levels.cpu())
        x, end = (kept["latents"][place[0], level].float().to(self.device) for level in (place[1], -1))
        cond = self.variant.cond({name: kept[name][place[0]] for name in FIELDS if name in kept})
        return x0_error(self.variant.model.denoiser, x, self._sigmas[place[1]], cond, end)

    def _draw(self, seeds: range) -> Tensors:
        """Returns the teacher's paths from the noise of these seeds, and the conditioning of their prompts."""
        rng = Random(int(stream(self.cfg.loop.seed, "prompts", seeds.start // CHUNK).integers(2**63)))
        prompts = [self._data.caption(rng, self.cfg.composed) for _ in seeds]
        with arithmetic(self.cfg.loop, self.device):
            requests = [Request(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
            latents = trajectories(self.variant.base, requests, self._teacher)
        return {"latents": latents.half()} | self.variant.conds(prompts, seeds, self._data.size)
