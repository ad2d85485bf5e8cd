"""Training a model to work from what it sees beside the latents: a picture with a hole, or depth.

The channels are those of Stable Diffusion 1.5 inpainting (the mask, then the latents of the picture with its hole in
grey) and of 2.0 depth (nearness from -1 to 1). They begin without weight, so that training starts with what the base
draws from words alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint.diffusers_config import depth_to
from sfumato.data.dataset import EmojiData
from sfumato.data.scenes import Drawn
from sfumato.diffusion import predict
from sfumato.families import ldm
from sfumato.images.mask import touched
from sfumato.pipeline.depth import normalised
from sfumato.pipeline.latents import encode
from sfumato.seeding import shuffled, stream
from sfumato.settings.settings import Settings
from sfumato.train.config import LoopConfig
from sfumato.train.depth_net import load_depth_net
from sfumato.train.examples import Examples
from sfumato.train.latents import identity
from sfumato.train.loop import Batch, arithmetic
from sfumato.train.masks import random_mask
from sfumato.train.sheet import sheet
from sfumato.train.variant import Tensors, Variant, decoded, paths

CHUNK = 32  # examples in one file
CAPTIONS = 6  # kept of each
RATIOS = (0.5, 2.0, 10.0)  # of the validation's noise to its signal
SHEET = 8
PIPELINES = {"inpainting": ldm.INPAINT_PIPELINE, "depth": ldm.DEPTH_PIPELINE}


@dataclass(frozen=True)
class BesideTraining:
    """Recipe of a variant that sees a picture with a hole ("inpainting") or depth ("depth") beside its latents.

    `examples` are learnt from, each with `views`: as many holes, or the one depth. `held_out` more are not. The share
    `single` of them are single emoji. The share `drop` of the captions is left out, and of `whole` samples all is to be
    painted.
    """

    loop: LoopConfig
    sees: Literal["inpainting", "depth"]
    init: str = "emoji"
    rank: int = 6
    examples: int = 3072
    views: int = 1
    held_out: int = 64
    single: float = 0.3
    drop: float = 0.1
    whole: float = 0.0
    sheet_steps: int = 20


class BesideTask:
    """See `loop.Task`; `networks` is the adapter.

    `adapter` is as in `Variant`; `depth_net` is the export folder of `sfumato train depth-net`, whose network the depth
    variant brings along.
    """

    def __init__(
        self,
        cfg: BesideTraining,
        data: EmojiData,
        run: Path,
        device: torch.device,
        adapter: Path | None = None,
        depth_net: Path | None = None,
    ):
        torch.manual_seed(cfg.loop.seed)
        self.cfg, self.device = cfg, device
        self._depth_net = None if depth_net is None else load_depth_net(depth_net)
        self.variant = Variant(cfg.init, cfg.rank, device, adapter, cfg.sees)
        self.networks: nn.Module = self.variant.adapter
        self._examples = Examples(data, cfg.loop.seed, cfg.single, deep=cfg.sees == "depth")
        side = data.size
        self._vae = self.variant.base.vae
        self._whole = self._hole(torch.zeros(3, side, side), torch.ones(1, 1, side, side)).cpu()
        chunks = math.ceil((cfg.examples + cfg.held_out) / CHUNK)
        made_from = identity(
            data, self._vae, cfg.sees, cfg.loop.seed, cfg.single, cfg.views, self.variant.tokens(["-"])
        )
        self._kept = self.variant.kept(run / f"{cfg.sees}-{made_from}", chunks, self._chunk)

    def batch(self, step: int) -> Batch:
        cfg, count, seed = self.cfg, self.cfg.loop.batch, self.cfg.loop.seed
        rows = torch.from_numpy(shuffled(seed, "examples", step * count, count, cfg.examples))
        chance = stream(seed, "beside", step)
        view, caption = (torch.from_numpy(chance.integers(n, size=count)) for n in (cfg.views, CAPTIONS))
        dropped, whole = (torch.from_numpy(chance.random(count)) < share for share in (cfg.drop, cfg.whole))
        x0, ids, beside = (
            self._kept["latents"][rows],
            self._kept["ids"][rows, caption],
            self._kept["beside"][rows, view],
        )
        ids[dropped] = self.variant.tokens([""])
        if cfg.whole:
            beside[whole] = self._whole.half()
        share = torch.from_numpy((chance.permutation(count) + chance.random(count)) / count)
        return {
            "x0": x0.float(),
            "noise": torch.from_numpy(chance.standard_normal(tuple(x0.shape), np.float32)),
            "t": (share * self.variant.base.spec.noise.steps).long(),
            "ids": ids,
            "beside": beside.float(),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        base, x0 = self.variant.base, batch["x0"]
        sigma = base.table.sigmas[batch["t"].cpu()]
        x = base.denoiser.path.noised(x0, batch["noise"], sigma)
        output = self.variant.output(x, sigma, self.variant.cond(batch["ids"], batch["beside"]))
        return (output - predict.target(base.spec.prediction, x0, x, sigma)).square().mean(), {}

    def validate(self) -> dict[str, float]:
        """Mean squared error of the estimate of x0 on examples that training does not see, by ratio of noise to signal;
        of pictures with holes only in these."""
        cfg, denoiser = self.cfg, self.variant.model.denoiser
        rows = slice(cfg.examples, cfg.examples + cfg.held_out)
        x0, beside = (self._kept[name][rows].float().to(self.device) for name in ("latents", "beside"))
        beside = beside[:, 0]
        cond = self.variant.cond(self._kept["ids"][rows, 0], beside)
        counts = beside[:, :1] if cfg.sees == "inpainting" else torch.ones_like(beside)
        figures = {}
        for ratio in RATIOS:
            noise = torch.from_numpy(stream(0, f"grid {ratio}", 0).standard_normal(tuple(x0.shape), np.float32))
            sigma = torch.full((len(x0),), denoiser.path.sigma_at(ratio), dtype=torch.float64)
            with arithmetic(cfg.loop, self.device):
                estimate = denoiser(denoiser.path.noised(x0, noise.to(x0), sigma), sigma, cond)
            error = (estimate - x0).square().mean(1, keepdim=True)
            figures[f"x0_{ratio:g}"] = ((error * counts).sum() / counts.sum()).item()
        return figures

    def samples(self) -> Image.Image:
        """Pictures that training does not see, what the network sees of them, and twice what it draws."""
        model, first = self.variant.model, self.cfg.examples
        numbers = range(first, first + min(SHEET, self.cfg.held_out))
        drawn = [self._examples[n].drawn for n in numbers]
        prompts = [self._examples[n].caption(Random(n)) for n in numbers]
        beside = self._kept["beside"][numbers.start : numbers.stop, :1].float().to(self.device)
        side = drawn[0].picture.shape[1]
        settings = Settings.of(model.spec, "-", steps=self.cfg.sheet_steps, width=side, height=side)
        new = [
            paths(model, prompts, [n + shift for n in numbers], settings, list(beside))[:, -1] for shift in (0, SHEET)
        ]
        seen = [self._shown(one, n) for n, one in zip(numbers, drawn, strict=True)]
        return sheet(
            [torch.stack([one.picture for one in drawn]), torch.stack(seen), *(decoded(model, z) for z in new)]
        )

    def export(self, folder: Path) -> None:
        """The variant's file, `inpainting.safetensors` or `depth.safetensors`."""
        index: dict[str, Any] = {"_class_name": PIPELINES[self.cfg.sees]["_class_name"]}
        changes: dict[str, dict[str, Any]] = {
            "unet/config.json": {"in_channels": self.variant.network.cfg.in_channels},
            "model_index.json": index,
        }
        brought: Tensors = {}
        if self._depth_net is not None:
            index["depth_estimator"] = ["sfumato", "DepthNet"]
            changes["depth_estimator/config.json"] = depth_to(self._depth_net.cfg)
            brought = {f"depth_estimator/{name}": value for name, value in self._depth_net.state_dict().items()}
        self.variant.export(folder / f"{self.cfg.sees}.safetensors", changes, brought)

    def _chunk(self, k: int) -> Tensors:
        numbers = range(k * CHUNK, (k + 1) * CHUNK)
        examples = [self._examples[n] for n in numbers]
        with arithmetic(self.cfg.loop, self.device):
            x0 = encode(self._vae, torch.stack([one.drawn.picture for one in examples]).to(self.device))
            beside = [self._beside(one.drawn, n) for n, one in zip(numbers, examples, strict=True)]
        ids = [
            self.variant.tokens([one.caption(rng) for rng in [Random(n)] for _ in range(CAPTIONS)])
            for n, one in zip(numbers, examples, strict=True)
        ]
        return {"latents": x0.half(), "beside": torch.stack(beside).half(), "ids": torch.stack(ids)}

    def _beside(self, drawn: Drawn, number: int) -> Tensor:
        """What the network sees of a picture (V, C, h, w), in every view."""
        if self.cfg.sees == "inpainting":
            return torch.cat([self._hole(drawn.picture, mask) for mask in self._masks(drawn, number)])
        side = drawn.depth.shape[0] // self.variant.base.spec.vae.factor
        return normalised(F.adaptive_avg_pool2d(drawn.depth[None, None], side))

    def _shown(self, drawn: Drawn, number: int) -> Tensor:
        """The first view as a picture (3, S, S)."""
        if self.cfg.sees == "inpainting":
            return drawn.picture * (1 - self._masks(drawn, number)[0][0])
        return (2 * drawn.depth - 1).expand(3, -1, -1)

    def _masks(self, drawn: Drawn, number: int) -> list[Tensor]:
        rng = Random(f"mask {number}")
        return [random_mask(drawn.masks, rng) for _ in range(self.cfg.views)]

    def _hole(self, picture: Tensor, mask: Tensor) -> Tensor:
        """Mask and latents (1, 1 + C, h, w) of a picture (3, S, S) whose masked part (1, 1, S, S) is grey."""
        rest = encode(self._vae, (picture * (1 - mask)).to(self.device))
        return torch.cat([touched(mask, *rest.shape[2:]).to(rest), rest], 1)
