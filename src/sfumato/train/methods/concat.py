"""Concatenated conditioning: a model learns to read further channels beside its latents, a mask or depth.

The channels are those of Stable Diffusion 1.5 inpainting (the mask, then the latents of the picture with its masked
part in grey) and of 2.0 depth (nearness from -1 to 1). Their first weights are zero, so training starts with what the
base draws from words alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint.diffusers_config import depth_to
from sfumato.checkpoint.hashes import model_hash
from sfumato.data.protocol import Example, TrainingSet
from sfumato.families import ldm
from sfumato.images.mask import touched
from sfumato.loading.exports import load_depth_net
from sfumato.nets.prior import Underlay
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.pipeline.depth import normalised
from sfumato.pipeline.latents import encode
from sfumato.seeding import shuffled, stream
from sfumato.settings.settings import Settings
from sfumato.train.config import LoopConfig
from sfumato.train.drafts import DRAFT_ERROR
from sfumato.train.latents import identity
from sfumato.train.masks import random_mask
from sfumato.train.objective import denoising_losses, stratified, times, validation_errors, whole_steps
from sfumato.train.precision import arithmetic
from sfumato.train.preparation import Tensors, prepared
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch
from sfumato.train.variant import Condition, Variant
from sfumato.train.warp import warped

CHUNK = 32  # examples in one file
RATIOS = (0.5, 2.0, 10.0)  # of the validation's noise to its signal
SHEET = 8
PIPELINES = {"inpainting": ldm.INPAINT_PIPELINE, "depth": ldm.DEPTH_PIPELINE}


@dataclass(frozen=True)
class ConcatTraining:
    """Recipe of a variant whose `condition` is a picture with a masked part ("inpainting") or depth ("depth").

    The variant learns from `examples`, each in so many `views`, with a caption and a mask (or the depth) each.
    `held_out` more are for validation. The share `single` of them show a single thing. The share `drop` of captions is
    left empty, and `whole` is the share of samples whose mask covers everything.
    """

    loop: LoopConfig
    condition: Condition
    init: str = "emoji"
    rank: int = 6
    examples: int = 3072
    views: int = 2
    held_out: int = 64
    single: float = 0.3
    drop: float = 0.1
    whole: float = 0.0
    sheet_steps: int = 20

    RENAMED: ClassVar[dict[str, str]] = {"sees": "condition"}


def make(
    cfg: ConcatTraining,
    data: TrainingSet,
    folder: Path,
    device: torch.device,
    *,
    init: str | None = None,
    adapter: Path | None = None,
    depth_net: Path | None = None,
) -> ConcatTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return ConcatTask(replace(cfg, init=init or cfg.init), data, folder, device, adapter, depth_net)


class ConcatTask:
    """Trains an adapter by which a model reads a mask or depth, see `task.Task`.

    `adapter` is as in `Variant`. `depth_net` is the export folder of `sfumato train depth-net`, whose network becomes a
    part of the depth variant.
    """

    def __init__(
        self,
        cfg: ConcatTraining,
        data: TrainingSet,
        folder: Path,
        device: torch.device,
        adapter: Path | None = None,
        depth_net: Path | None = None,
    ):
        torch.manual_seed(cfg.loop.seed)
        self.cfg, self.device = cfg, device
        self._depth_net = None if depth_net is None else load_depth_net(depth_net)
        self.variant = Variant(cfg.init, cfg.rank, device, adapter, cfg.condition)
        self.networks: nn.Module = self.variant.adapter
        self._examples = data.examples(cfg.loop.seed, cfg.single, cfg.condition == "depth")
        side = data.size
        self._vae = self.variant.base.vae
        self._whole = self._masked(torch.zeros(3, side, side), torch.ones(1, 1, side, side)).cpu()
        made_from = identity(
            data,
            self._vae,
            cfg.condition,
            cfg.loop.seed,
            cfg.single,
            cfg.views,
            model_hash(self.variant.base.path),
            DRAFT_ERROR,
            "drafts are warped" if cfg.condition == "depth" else "",
        )
        self._empty_prompt = self.variant.conds([""], [0], side)
        self._kept = prepared(
            folder / f"{cfg.condition}-{made_from}", cfg.examples + cfg.held_out, self._rows, CHUNK, "encode examples"
        )

    @property
    def forwarded(self) -> nn.Module:
        """See `task.UsesFrozen`: the network that the adapter changes."""
        return self.variant.network

    def batch(self, step: int) -> Batch:
        """Returns latents `x0`, `noise`, times `t`, the `further` channels and the fields of the conditioning."""
        cfg, count, seed = self.cfg, self.cfg.loop.batch, self.cfg.loop.seed
        rows = torch.from_numpy(shuffled(seed, "examples", step * count, count, cfg.examples))
        chance = stream(seed, "concat", step)
        view = torch.from_numpy(chance.integers(cfg.views, size=count))
        dropped, whole = (torch.from_numpy(chance.random(count)) < share for share in (cfg.drop, cfg.whole))
        x0, further = self._kept["latents"][rows], self._kept["further"][rows, view]
        fields = {name: self._kept[name][rows, view] for name in self._empty_prompt}
        for name, value in self._empty_prompt.items():
            fields[name][dropped] = value
        if cfg.whole:
            further[whole] = self._whole.half()
        share = times("uniform", stratified(chance, count))
        return {
            "x0": x0.float(),
            "noise": torch.from_numpy(chance.standard_normal(tuple(x0.shape), np.float32)),
            "t": whole_steps(share, self.variant.base.spec.noise.steps),
            "further": further.float(),
        } | fields

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error of the network's output."""
        cond = self.variant.cond(batch, batch["further"])
        sigma = self.variant.base.table.sigmas[batch["t"].cpu()]
        return denoising_losses(self.variant.model.denoiser, batch["x0"], batch["noise"], sigma, cond).mean(), {}

    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate of x0 on held-out examples, by ratio of noise to signal.

        Of masked pictures only the masked part counts.
        """
        cfg, denoiser = self.cfg, self.variant.model.denoiser
        rows = slice(cfg.examples, cfg.examples + cfg.held_out)
        x0 = self._kept["latents"][rows].float().to(self.device)
        further = self._kept["further"][rows, 0].float().to(self.device)
        cond = self.variant.cond({name: self._kept[name][rows, 0] for name in self._empty_prompt}, further)
        counts = further[:, :1] if cfg.condition == "inpainting" else torch.ones_like(further)
        figures = {}
        for ratio in RATIOS:
            with arithmetic(cfg.loop, self.device):
                error = validation_errors(denoiser, x0, cond, ratio).mean(1, keepdim=True)
            figures[f"x0_{ratio:g}"] = ((error * counts).sum() / counts.sum()).item()
        return figures

    def samples(self) -> Image.Image:
        """Returns held-out pictures, what the network is shown of them, and what it draws from two seeds."""
        model, first = self.variant.model, self.cfg.examples
        numbers = range(first, first + min(SHEET, self.cfg.held_out))
        examples = [self._examples[n] for n in numbers]
        prompts = [one.caption(self._rng(n, 0)) for n, one in zip(numbers, examples, strict=True)]
        concat = self._kept["further"][numbers.start : numbers.stop, :1].float().to(self.device)
        side = examples[0].picture.shape[1]
        settings = Settings.of(model.spec, "-", steps=self.cfg.sheet_steps, width=side, height=side)
        requests = [
            [Request(prompt, n + shift, one) for prompt, n, one in zip(prompts, numbers, concat, strict=True)]
            for shift in (0, SHEET)
        ]
        new = [decoded(model.vae, trajectories(model, row, settings)[:, -1]) for row in requests]
        shown = [self._shown(one, n) for n, one in zip(numbers, examples, strict=True)]
        return sheet([torch.stack([one.picture for one in examples]), torch.stack(shown), *new])

    def export(self, folder: Path) -> None:
        """Writes the variant's file, `inpainting.safetensors` or `depth.safetensors`."""
        index: dict[str, Any] = {}
        if self.variant.part == "unet":  # the pipelines that diffusers has for it
            index["_class_name"] = PIPELINES[self.cfg.condition]["_class_name"]
        changes: dict[str, dict[str, Any]] = {
            f"{self.variant.part}/config.json": {"in_channels": self.variant.network.cfg.in_channels},
            "model_index.json": index,
        }
        brought: Tensors = {}
        if self._depth_net is not None:
            index["depth_estimator"] = ["sfumato", "DepthNet"]
            changes["depth_estimator/config.json"] = depth_to(self._depth_net.cfg)
            brought = {f"depth_estimator/{name}": value for name, value in self._depth_net.state_dict().items()}
        self.variant.export(folder / f"{self.cfg.condition}.safetensors", changes, brought)

    def _rows(self, numbers: range) -> Tensors:
        """Returns the examples with these numbers: latents, further channels, and the conditioning of every view."""
        examples = [self._examples[n] for n in numbers]
        with arithmetic(self.cfg.loop, self.device):
            x0 = encode(self._vae, torch.stack([one.picture for one in examples]).to(self.device))
            further = [self._further(one, n) for n, one in zip(numbers, examples, strict=True)]
            each = zip(numbers, examples, x0.split(1), strict=True)
            fields = [self._fields(one, n, latents) for n, one, latents in each]
        stacked = {name: torch.stack([one[name] for one in fields]) for name in fields[0]}
        return {"latents": x0.half(), "further": torch.stack(further).half()} | stacked

    def _further(self, example: Example, number: int) -> Tensor:
        """Returns the further channels (V, C, h, w) of an example, in each of its V views."""
        if self.cfg.condition == "inpainting":
            return torch.cat([self._masked(example.picture, mask) for mask in self._masks(example, number)])
        side = example.depth.shape[0] // self.variant.base.spec.vae.factor
        depth = normalised(F.adaptive_avg_pool2d(example.depth[None, None], side))
        return depth.expand(self.cfg.views, -1, -1, -1)

    def _fields(self, example: Example, number: int, latents: Tensor) -> Tensors:
        """Returns the conditioning of every view as `Variant.conds` does.

        A prior would lay out a caption in its own way, which is not how this picture is. So its draft is the picture
        itself, with errors as large as a draft has: what is learnt is to go on from the draft. For depth the picture is
        warped: what the draft shows is right, but where it ends only depth says.
        """
        base, side, views = self.variant.base, example.picture.shape[1], range(self.cfg.views)
        captions = [example.caption(self._rng(number, view)) for view in views]
        seeds = [number * self.cfg.views + view for view in views]
        generator = torch.Generator().manual_seed(number)
        underlays = []
        for seed in seeds if base.prior is not None else ():
            drafted = latents
            if self.cfg.condition == "depth":
                drafted = encode(self._vae, warped(example.picture, seed)[None].to(self.device))
            noise = torch.randn(latents.shape, generator=generator).to(latents)
            underlays.append(Underlay(drafted + DRAFT_ERROR * noise, strength=0.0, goes_on=True))
        return self.variant.conds(captions, seeds, side, underlays)

    def _rng(self, number: int, view: int) -> Random:
        return Random(f"{number}/{view}")

    def _shown(self, example: Example, number: int) -> Tensor:
        """Returns the first view of an example as a picture (3, S, S)."""
        if self.cfg.condition == "inpainting":
            return example.picture * (1 - self._masks(example, number)[0][0])
        return (2 * example.depth - 1).expand(3, -1, -1)

    def _masks(self, example: Example, number: int) -> list[Tensor]:
        rng = Random(f"mask {number}")
        return [random_mask(example.masks, rng) for _ in range(self.cfg.views)]

    def _masked(self, picture: Tensor, mask: Tensor) -> Tensor:
        """Returns mask and latents (1, 1 + C, h, w) of a picture (3, S, S) whose masked part (1, 1, S, S) is grey."""
        rest = encode(self._vae, (picture * (1 - mask)).to(self.device))
        return torch.cat([touched(mask, *rest.shape[2:]).to(rest), rest], 1)
