"""A training step of a LoRA and of all weights, ours beside diffusers' (with peft): seconds, and memory at the peak.

python bench/train_step.py [sd1 emoji] [--ways lora full] [--rank 16] [--rounds 3] [--threads 1] [--side 32]

Wants the package peft. Both train the same weights on the same noise with AdamW; the first losses must agree. `sd1` is
the U-Net of 1.5 at 256 pixels (`--side` counts latents), whose LoRA takes 5 GB; all of its weights take 14 GB, so that
way is left out unless it is asked for. `emoji` is the network of the embedded model.
"""

from __future__ import annotations

import argparse
import copy
import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from statistics import median

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor, nn

from common import interleaved, peak_memory, show, twins
from sfumato.adapters.learned import Shape, learning
from sfumato.checkpoint.diffusers_config import mmdit_to, unet_to
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import table_of
from sfumato.families import family
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.pipeline.load import load
from sfumato.spec import Spec
from sfumato.train.config import LoopConfig
from sfumato.train.learnt import BLOCKS
from sfumato.train.objective import Objective
from sfumato.train.optimizers import Optimizer
from sfumato.train.precision import arithmetic

LOOP = LoopConfig(steps=1, batch=1, lr=1e-4, ema=0.0, precision="fp32")
CPU = torch.device("cpu")


@dataclass
class Rivals:
    """Two networks on the same weights, and a batch."""

    spec: Spec
    ours: nn.Module
    theirs: nn.Module
    cond: Cond
    batch: dict[str, Tensor]

    @classmethod
    def of(cls, name: str, side: int) -> Rivals:
        """The rivals of a layout."""
        spec = family("sd1").spec if name == "sd1" else embedded()
        with torch.device("meta"):
            if spec.transformer is None:
                ours, theirs = UNet(spec.unet), UNet2DConditionModel.from_config(unet_to(spec.unet, side))
                cond, rows = Cond(torch.empty(1, 77, spec.unet.context_dim)), 1
            else:
                ours = MMDiT(spec.transformer)
                theirs = SD3Transformer2DModel.from_config(mmdit_to(spec.transformer, side))
                cond, rows = Cond(torch.empty(1, 16, spec.transformer.context_dim)), 8
        twins(ours, theirs)
        generator = torch.Generator().manual_seed(0)

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        cond = Cond(noise(rows, *cond.tokens.shape[1:]))
        if spec.transformer is not None:
            side = 16
            cond = replace(cond, pooled=noise(rows, spec.transformer.pooled_dim))
        if spec.prior is not None:
            cond = replace(cond, concat=noise(rows, spec.prior.latent_channels, side, side))
        shape = rows, spec.vae.latent_channels, side, side
        table = table_of(spec.prediction, spec.noise)
        sigma = table.sigmas[torch.linspace(100, 900, rows).long()]
        return cls(spec, ours, theirs, cond, {"x0": noise(*shape), "noise": noise(*shape), "sigma": sigma})

    def mine(self, way: str, rank: int) -> Callable[[], Tensor]:
        """Our step."""
        if way == "lora":
            network, learnt = learning(self.ours, Shape(rank=rank), BLOCKS)
        else:
            network = learnt = copy.deepcopy(self.ours).requires_grad_(True)
        denoiser = Denoiser(network, self.spec.prediction, table_of(self.spec.prediction, self.spec.noise))
        optimizer, objective = Optimizer(learnt, LOOP, CPU), Objective()

        def step() -> Tensor:
            with arithmetic(LOOP, CPU):
                loss = objective.losses(denoiser, self.batch, self.cond).mean()
            loss.backward()
            for one in optimizer.each:
                one.step()
            optimizer.zero_grad()
            return loss.detach()

        return step

    def other(self, way: str, rank: int) -> Callable[[], Tensor]:
        """The step of diffusers' training scripts."""
        network = copy.deepcopy(self.theirs) if way == "full" else self.theirs
        if way == "lora":
            layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
            chosen = [name for name in layers if any(fnmatchcase(name, pattern) for pattern in BLOCKS)]
            network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=chosen))
        else:
            network.requires_grad_(True)
        parameters = [one for one in network.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=LOOP.lr, weight_decay=LOOP.weight_decay)
        x0, noise, sigma = self.batch["x0"], self.batch["noise"], self.batch["sigma"].float()[:, None, None, None]
        flow = self.spec.prediction == "flow"
        x = (1 - sigma) * x0 + sigma * noise if flow else (x0 + sigma * noise) / (1 + sigma**2).sqrt()
        times = table_of(self.spec.prediction, self.spec.noise).network_time(self.batch["sigma"]).float()
        target = noise - x0 if flow else noise
        x = x if self.cond.concat is None else torch.cat([x, self.cond.concat], 1)

        def step() -> Tensor:
            if flow:
                output = network(x, self.cond.tokens, self.cond.pooled, times).sample
            else:
                output = network(x, times, self.cond.tokens).sample
            loss = F.mse_loss(output, target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return step


def embedded() -> Spec:
    """The embedded model's sizes."""
    return load("emoji", CPU, "float32").spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=["sd1", "emoji"], metavar="NAME")
    parser.add_argument("--ways", nargs="*", choices=["lora", "full"])
    for name, value in (("rank", 16), ("side", 32), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = []
    for name in given.names:
        for way in given.ways or (["lora"] if name == "sd1" else ["lora", "full"]):
            gc.collect()
            rivals = Rivals.of(name, given.side)
            memory, steps = {}, {"ours": rivals.mine(way, given.rank), "theirs": rivals.other(way, given.rank)}
            first = [step() for step in steps.values()]
            assert torch.allclose(*first, rtol=1e-3), f"{name}: the rivals compute different losses, {first}"
            for who, step in steps.items():
                memory[who] = peak_memory(step) / 1e6
            times = interleaved(steps, given.rounds)
            wall, cpu = times["ours"].ratio(times["theirs"])
            speeds = (f"{1 / median(times[who].wall):.2f}" for who in steps)
            taken = (f"{one:.0f}" for one in memory.values())
            rows.append([f"{name}, {way}", *speeds, f"{wall:.2f}", f"{cpu:.2f}", *taken])
    columns = ["", "steps/s", "diffusers", "time, ratio", "processor time", "peak MB", "diffusers"]
    show(f"training steps, float32, LoRA of rank {given.rank}", columns, rows)


if __name__ == "__main__":
    main()
