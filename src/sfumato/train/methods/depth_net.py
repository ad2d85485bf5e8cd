"""Training the small depth network on composed scenes, whose true order in depth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.data.protocol import Example, TrainingSet
from sfumato.loading.exports import DEPTH_NET_FILE, write_export
from sfumato.nets.depth_net import DepthNet
from sfumato.seeding import shuffled
from sfumato.spec import DepthNetConfig
from sfumato.train.config import LoopConfig
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch


@dataclass(frozen=True)
class DepthNetTraining:
    """Recipe of a depth network. The share `blur` of the `examples` is blurred, as drawn pictures are softer."""

    loop: LoopConfig
    net: DepthNetConfig = field(default_factory=DepthNetConfig)
    examples: int = 1536
    single: float = 0.2
    blur: float = 0.5
    held_out: int = 64


def make(cfg: DepthNetTraining, data: TrainingSet, folder: Path, device: torch.device) -> DepthNetTask:
    """Returns the task of a run; it needs neither `folder` nor `device`."""
    return DepthNetTask(cfg, data)


class DepthNetTask:
    """Trains the depth network, see `task.Task`."""

    def __init__(self, cfg: DepthNetTraining, data: TrainingSet):
        torch.manual_seed(cfg.loop.seed)
        self.cfg = cfg
        self.networks = DepthNet(cfg.net)
        self._example = lru_cache(cfg.examples)(data.examples(cfg.loop.seed, cfg.single, True).__getitem__)
        self._held_out = data.examples(cfg.loop.seed + 1, cfg.single, True)

    def batch(self, step: int) -> Batch:
        """Returns pictures (B, 3, S, S) and their depth (B, S, S)."""
        count = self.cfg.loop.batch
        numbers = shuffled(self.cfg.loop.seed, "examples", step * count, count, self.cfg.examples)
        return _stacked([self._example(int(n)) for n in numbers])

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the L1 distance of the depth, and of its differences between neighbours."""
        x = resized(batch["picture"], self.cfg.net.side)
        soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < self.cfg.blur, soft, x)
        depth = self.networks(x).float()
        true = F.adaptive_avg_pool2d(batch["depth"], depth.shape[1:])
        error = (depth - true).abs().mean()
        edges = sum((depth.diff(dim=d) - true.diff(dim=d)).abs().mean() for d in (1, 2))
        return error + edges, {"error": error.detach()}

    def validate(self) -> dict[str, float]:
        """Returns two figures on examples that training does not see.

        "error" is the mean absolute error of depth, which runs from 0 (background) to 1 (nearest). "order" is the share
        of pairs of things at different depths of which the nearer one is estimated nearer, left out without such pairs.
        """
        errors, right = [], []
        for number in range(self.cfg.held_out):
            example = self._held_out[number]
            depth = self._depth(example.picture[None])[0].cpu()
            errors.append((depth - example.depth).abs().mean())
            of = [(example.depth[mask].mean(), depth[mask].mean()) for mask in example.masks if mask.any()]
            right += [(a - b) * (x - y) > 0 for k, (a, x) in enumerate(of) for b, y in of[:k] if a != b]
        figures = {"error": torch.stack(errors).mean().item()}
        return figures | ({"order": torch.stack(right).float().mean().item()} if right else {})

    def samples(self) -> Image.Image:
        """Returns pictures that training does not see, their true depth, and the estimates."""
        batch = _stacked([self._held_out[n] for n in range(min(12, self.cfg.held_out))])
        rows = (batch["depth"], self._depth(batch["picture"]).cpu())
        return sheet([batch["picture"], *((2 * row - 1)[:, None].expand(-1, 3, -1, -1) for row in rows)])

    def export(self, folder: Path) -> None:
        """Writes weights and config to one file."""
        write_export(folder / DEPTH_NET_FILE, self.networks, dataclasses.asdict(self.cfg.net))

    def _depth(self, pictures: Tensor) -> Tensor:
        """Returns the depth (B, S, S) of pictures (B, 3, S, S)."""
        weight = next(self.networks.parameters())
        depth = self.networks(resized(pictures, self.cfg.net.side).to(weight))[:, None]
        return F.interpolate(depth, pictures.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def resized(pictures: Tensor, side: int) -> Tensor:
    """Returns pictures (B, 3, S, S) with sides of `side`, which is how large the network sees them."""
    return F.interpolate(pictures, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _stacked(examples: Sequence[Example]) -> Batch:
    return {name: torch.stack([getattr(one, name) for one in examples]) for name in ("picture", "depth")}
