"""Trains a LoRA of a style: low-rank changes of a denoiser's matrices, from pictures that are redrawn in that style.

The pictures are examples of the data set with their captions, which do not name the style: whoever uses the LoRA gets
it whatever the prompt says, as strongly as the LoRA is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.adapters.lowrank import LowRank
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.hashes import model_hash
from sfumato.data.protocol import TrainingSet
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.pipeline.latents import encode
from sfumato.seeding import shuffled, stream
from sfumato.settings.settings import Settings
from sfumato.train.config import LoopConfig
from sfumato.train.latents import identity
from sfumato.train.objective import denoising_losses, stratified, times, validation_errors, whole_steps
from sfumato.train.precision import arithmetic
from sfumato.train.preparation import Tensors, prepared
from sfumato.train.restyle import Style, restyled
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch
from sfumato.train.variant import Variant

CHUNK = 32  # examples in one file
RATIOS = (0.5, 2.0, 10.0)  # of the validation's noise to its signal


@dataclass(frozen=True)
class LoraTraining:
    """Recipe of a LoRA of rank `rank` that draws in a `style`, see `train.restyle`.

    It learns from `examples`; `held_out` more are for validation. The share `single` of them show a single thing. Of
    the share `drop` the caption is left empty. Sheets draw the `prompts` in `sheet_steps` steps.
    """

    loop: LoopConfig
    style: Style
    name: str = "style"
    init: str = "emoji"
    rank: int = 8
    examples: int = 512
    held_out: int = 32
    sheet_steps: int = 12
    single: float = 0.5
    drop: float = 0.1
    prompts: tuple[str, ...] = ("red apple", "cat face", "a rocket and a house", "two fish")


def make(
    cfg: LoraTraining, data: TrainingSet, folder: Path, device: torch.device, *, init: str | None = None
) -> LoraTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return LoraTask(replace(cfg, init=init or cfg.init), data, folder, device)


class LoraTask:
    """Trains low-rank changes of a denoiser's matrices, see `task.Task`."""

    def __init__(self, cfg: LoraTraining, data: TrainingSet, folder: Path, device: torch.device):
        torch.manual_seed(cfg.loop.seed)
        self.cfg, self._data, self.device = cfg, data, device
        self.variant = Variant(cfg.init, cfg.rank, device, matrices=True)
        self.networks: nn.Module = self.variant.adapter
        self._examples = data.examples(cfg.loop.seed, cfg.single, False)
        base = self.variant.base
        made_from = identity(data, base.vae, cfg.style, cfg.loop.seed, cfg.single, cfg.drop, model_hash(base.path))
        total = cfg.examples + cfg.held_out
        self._kept = prepared(folder / f"lora-{made_from}", total, self._rows, CHUNK, "encode examples")

    def batch(self, step: int) -> Batch:
        """Returns the `rows` of examples, `noise` and times `t`."""
        count, seed = self.cfg.loop.batch, self.cfg.loop.seed
        chance = stream(seed, "lora", step)
        noise = chance.standard_normal((count, *self._kept["latents"].shape[1:]), np.float32)
        share = times("uniform", stratified(chance, count))
        return {
            "rows": torch.from_numpy(shuffled(seed, "examples", step * count, count, self.cfg.examples)),
            "noise": torch.from_numpy(noise),
            "t": whole_steps(share, self.variant.base.spec.noise.steps),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error of the network's output."""
        picked = {name: value[batch["rows"].cpu()] for name, value in self._kept.items()}
        x0, sigma = picked["latents"].float().to(self.device), self.variant.base.table.sigmas[batch["t"].cpu()]
        denoiser, cond = self.variant.model.denoiser, self.variant.cond(picked)
        return denoising_losses(denoiser, x0, batch["noise"], sigma, cond).mean(), {}

    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate of x0 on held-out examples, by ratio of noise to signal."""
        held = {name: value[self.cfg.examples :] for name, value in self._kept.items()}
        x0, cond = held["latents"].float().to(self.device), self.variant.cond(held)
        with arithmetic(self.cfg.loop, self.device):
            errors = [validation_errors(self.variant.model.denoiser, x0, cond, ratio) for ratio in RATIOS]
        return {f"x0_{ratio:g}": error.mean().item() for ratio, error in zip(RATIOS, errors, strict=True)}

    def samples(self) -> Image.Image:
        """Returns held-out pictures in the style; below them what the prompts draw with the LoRA, and without it."""
        model, base, side = self.variant.model, self.variant.base, self._data.size
        settings = Settings.of(model.spec, "-", steps=self.cfg.sheet_steps, width=side, height=side)
        requests = [Request(prompt, k) for k, prompt in enumerate(self.cfg.prompts)]
        given = self._kept["latents"][self.cfg.examples :][: len(requests)].float().to(self.device)
        drawn = [trajectories(one, requests, settings)[:, -1] for one in (model, base)]
        return sheet([decoded(base.vae, latents) for latents in (given, *drawn)])

    def export(self, folder: Path) -> None:
        """Writes NAME.safetensors in peft's names, as float16."""
        names = {"down": "lora_A", "up": "lora_B"}
        tensors: Tensors = {}
        for name, difference in self.variant.adapter.by_name.items():
            assert isinstance(difference, LowRank), "only matrices are changed"
            layer = f"{self.variant.part}.{name.removesuffix('.weight')}"
            for ours, theirs in names.items():
                tensors[f"{layer}.{theirs}.weight"] = difference.get_parameter(ours).detach().half().cpu().contiguous()
        heads = {name: (tuple(one.shape), one.dtype) for name, one in tensors.items()}
        said = {"ss_output_name": self.cfg.name, "ss_network_dim": str(self.cfg.rank),
                "sfumato_base": model_hash(self.variant.base.path) or ""}  # fmt: skip
        safetensors_file.write(folder / f"{self.cfg.name}.safetensors", heads, tensors.__getitem__, said)

    def _rows(self, numbers: range) -> Tensors:
        """Returns latents of the examples with these numbers in the style, and the conditioning by their captions."""
        examples = [self._examples[n] for n in numbers]
        pictures = torch.stack([one.picture for one in examples]).to(self.device)
        with arithmetic(self.cfg.loop, self.device):
            latents = encode(self.variant.base.vae, restyled(pictures, self.cfg.style))
        chances = [Random(f"lora {n}") for n in numbers]
        prompts = ["" if rng.random() < self.cfg.drop else one.caption(rng)
                   for rng, one in zip(chances, examples, strict=True)]  # fmt: skip
        return {"latents": latents.half()} | self.variant.conds(prompts, numbers, self._data.size)
