"""Distilling a guided sampler of many steps into a network that needs few of them and no guidance.

The teacher's paths are drawn beforehand: from noise, with guidance, along the deterministic way of its sampler. At
every noise level of a path the student learns where the path ends, which is what consistency models learn step by step
(Song et al. 2023; latents: Luo et al. 2023), here directly, as Luhman & Luhman 2021 do at the first level. That costs
the teacher a fraction of what consistency training asks of it, since every path is learnt from many times. The few
steps are those of consistency sampling: an estimate, noise up to the next level, an estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint.hashes import model_hash
from sfumato.data import captions, scene_captions
from sfumato.data.dataset import EmojiData
from sfumato.data.scenes import Scenes
from sfumato.diffusion import predict
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.seeding import shuffled, stream
from sfumato.settings.settings import Options, Settings, sized
from sfumato.train.config import LoopConfig
from sfumato.train.latents import identity
from sfumato.train.loop import Batch, arithmetic
from sfumato.train.sheet import sheet
from sfumato.train.variant import Tensors, Variant, decoded, paths

CHUNK = 32  # paths that are drawn side by side and kept in one file
SHEET_STEPS = (1, 2, 4)
HUBER = 0.00054  # times the root of the number of values: the width of the loss's round bottom
SCHEDULE = "trailing"  # from the noisiest level, in even times: the levels of 1, 2 and 4 steps are among those of 8


@dataclass(frozen=True)
class DistilTraining:
    """Recipe of a variant that draws in few steps.

    `paths` are drawn by `init` in `teacher_steps` of `teacher_sampler`, with guidance `teacher_cfg`; `held_out` more
    are never learnt from. `scene_share` of them are of composed scenes, the others of single emoji. `steps` becomes the
    variant's default. `first_share` of the samples are of the noisiest level, where one step has to do all.
    """

    loop: LoopConfig
    init: str = "emoji"
    rank: int = 7
    paths: int = 2048
    held_out: int = 64
    scene_share: float = 0.4
    teacher_sampler: str = "dpmpp_2m"
    teacher_steps: int = 8
    teacher_cfg: float = 4.0
    first_share: float = 0.25
    steps: int = 4
    prompts: tuple[str, ...] = ("red apple", "cat face", "rocket", "house", "two hearts", "pizza", "octopus", "robot")


class DistilTask:
    """See `loop.Task`; `networks` is the adapter, `adapter` as in `Variant`."""

    def __init__(
        self, cfg: DistilTraining, data: EmojiData, run: Path, device: torch.device, adapter: Path | None = None
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
        made_from = (
            model_hash(self.variant.base.path), cfg.loop.seed, cfg.scene_share,
            cfg.teacher_sampler, cfg.teacher_steps, cfg.teacher_cfg,
        )  # fmt: skip
        folder = run / f"paths-{identity(data, self.variant.base.vae, *made_from)}"
        chunks = math.ceil((cfg.paths + cfg.held_out) / CHUNK)
        self._paths = self.variant.kept(folder, chunks, self._draw)

    def batch(self, step: int) -> Batch:
        cfg, count, seed = self.cfg, self.cfg.loop.batch, self.cfg.loop.seed
        rows = torch.from_numpy(shuffled(seed, "paths", step * count, count, cfg.paths))
        chance = stream(seed, "levels", step)
        share = torch.from_numpy((chance.permutation(count) + chance.random(count)) / count)
        later = (share - cfg.first_share) / (1 - cfg.first_share) * (cfg.teacher_steps - 1) + 1
        return {"rows": rows, "levels": torch.where(share < cfg.first_share, 0, later).long()}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        error = self._error(batch["rows"], batch["levels"])
        # Pseudo-Huber (Song & Dhariwal 2024, section 3.3): a path that cannot be known yet does not drown the others.
        root = math.sqrt(error[0].numel())
        distance = (error.square().sum((1, 2, 3)) + (HUBER * root) ** 2).sqrt() - HUBER * root
        return distance.mean() / root, {"mse": error.detach().square().mean()}

    def validate(self) -> dict[str, float]:
        """Mean squared error of the path's end, from the levels that four steps ask at."""
        rows, figures = torch.arange(self.cfg.paths, self.cfg.paths + self.cfg.held_out), {}
        for quarter in range(4):
            level = quarter * self.cfg.teacher_steps // 4
            with arithmetic(self.cfg.loop, self.device):
                error = self._error(rows, torch.full_like(rows, level))
            figures[f"x0_{self._sigmas[level]:.2f}"] = error.square().mean().item()
        return figures

    def samples(self) -> Image.Image:
        """Pictures drawn in one step, in two, in four; below them the teacher's, from the same noise."""
        prompts = [f"{prompt}, {captions.STYLE_WORDS['en']['3d'][0]}" for prompt in self.cfg.prompts]
        model, seeds = self.variant.model, range(len(prompts))
        side = self._data.size
        few = [Settings.of(model.spec, "-", **sized(self._habits(steps), side, side)) for steps in SHEET_STEPS]
        rows = [paths(model, prompts, seeds, settings) for settings in few]
        rows.append(paths(self.variant.base, prompts, seeds, self._teacher))
        return sheet([decoded(model, row[:, -1]) for row in rows])

    def export(self, folder: Path) -> None:
        """The variant's file, `fast.safetensors`."""
        self.variant.export(folder / "fast.safetensors", {"sfumato.json": dict(self._habits(self.cfg.steps))}, {})

    def _habits(self, steps: int) -> Options:
        return {"steps": steps, "cfg": 1.0, "sampler": "lcm", "schedule": SCHEDULE}

    def _error(self, rows: Tensor, levels: Tensor) -> Tensor:
        """The student's estimates of where paths end, less where they do (B, C, h, w)."""
        kind, kept = self.variant.base.spec.prediction, self._paths
        place = rows.cpu(), levels.cpu()
        sigma = self._sigmas[place[1]]
        x, end = (kept["latents"][place[0], level].float().to(self.device) for level in (place[1], -1))
        output = self.variant.output(x, sigma, self.variant.cond(kept["ids"][place[0]]))
        return predict.from_output(kind, output, x, sigma) - end

    def _draw(self, k: int) -> Tensors:
        rng = Random(int(stream(self.cfg.loop.seed, "prompts", k).integers(2**63)))
        prompts = [self._prompt(rng) for _ in range(CHUNK)]
        with arithmetic(self.cfg.loop, self.device):
            latents = paths(self.variant.base, prompts, range(k * CHUNK, (k + 1) * CHUNK), self._teacher)
        return {"latents": latents.half(), "ids": self.variant.tokens(prompts)}

    def _prompt(self, rng: Random) -> str:
        """A caption as the base has learnt them."""
        language = captions.language(rng)
        if rng.random() < self.cfg.scene_share:
            return scene_captions.caption(Scenes(self._data)[rng.randrange(1 << 30)], language, rng)
        train = self._data.splits["train"]
        i = int(train[rng.randrange(len(train))])
        return captions.caption(self._data.concept(i), self._data.style(i), language, rng, captions.background(rng))
