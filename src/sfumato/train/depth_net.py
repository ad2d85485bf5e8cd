"""Training the small depth network on composed scenes, whose true order in depth is known."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from sfumato.data.dataset import EmojiData
from sfumato.data.scenes import Drawn
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.nets.depth_net import DepthNet
from sfumato.seeding import shuffled
from sfumato.spec import DepthNetConfig
from sfumato.train.config import LoopConfig
from sfumato.train.examples import Examples
from sfumato.train.loop import Batch
from sfumato.train.sheet import sheet
from sfumato.typed import build

FILE = "depth_net.safetensors"


@dataclass(frozen=True)
class DepthNetTraining:
    """Recipe of a depth network. The share `blur` of the `examples` is softened, as drawn pictures are."""

    loop: LoopConfig
    net: DepthNetConfig = field(default_factory=DepthNetConfig)
    examples: int = 1536
    single: float = 0.2
    blur: float = 0.5
    held_out: int = 64


class DepthNetTask:
    """See `loop.Task`."""

    def __init__(self, cfg: DepthNetTraining, data: EmojiData):
        torch.manual_seed(cfg.loop.seed)
        self.cfg = cfg
        self.networks = DepthNet(cfg.net)
        self._examples = Examples(data, cfg.loop.seed, cfg.single, deep=True)
        self._drawn = lru_cache(cfg.examples)(lambda number: self._examples[number].drawn)
        self._held_out = Examples(data, cfg.loop.seed + 1, cfg.single, deep=True)

    def batch(self, step: int) -> Batch:
        count = self.cfg.loop.batch
        numbers = shuffled(self.cfg.loop.seed, "examples", step * count, count, self.cfg.examples)
        return _stacked([self._drawn(int(n)) for n in numbers])

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        x = batch["picture"]
        soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < self.cfg.blur, soft, x)
        depth = self.networks(x).float()
        true = F.adaptive_avg_pool2d(batch["depth"], depth.shape[1:])
        error = (depth - true).abs().mean()
        edges = sum((depth.diff(dim=d) - true.diff(dim=d)).abs().mean() for d in (1, 2))
        return error + edges, {"error": error.detach()}

    def validate(self) -> dict[str, float]:
        """On scenes that training does not see: the mean error, where the background is 0 and the nearest thing 1; and
        how often, of two things at different depths, the nearer one is found so."""
        errors, right = [], []
        for number in range(self.cfg.held_out):
            drawn = self._held_out[number].drawn
            depth = self._seen(drawn.picture[None])[0].cpu()
            errors.append((depth - drawn.depth).abs().mean())
            of = [(drawn.depth[mask].mean(), depth[mask].mean()) for mask in drawn.masks if mask.any()]
            right += [(a - b) * (x - y) > 0 for k, (a, x) in enumerate(of) for b, y in of[:k] if a != b]
        return {"error": torch.stack(errors).mean().item(), "order": torch.stack(right).float().mean().item()}

    def samples(self) -> Image.Image:
        """Pictures that training does not see, their true depth, and what the network sees."""
        batch = _stacked([self._held_out[n].drawn for n in range(min(12, self.cfg.held_out))])
        rows = (batch["depth"], self._seen(batch["picture"]).cpu())
        return sheet([batch["picture"], *((2 * row - 1)[:, None].expand(-1, 3, -1, -1) for row in rows)])

    def export(self, folder: Path) -> None:
        """Weights and config in one file, so that the two belong together."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.networks.state_dict().items()}
        with atomic_write(folder / FILE) as file:
            file.write(save(weights, {"config": json.dumps(dataclasses.asdict(self.cfg.net))}))

    def _seen(self, pictures: Tensor) -> Tensor:
        """Depth (B, S, S) of pictures (B, 3, S, S)."""
        weight = next(self.networks.parameters())
        depth = self.networks(pictures.to(weight))[:, None]
        return F.interpolate(depth, pictures.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def load_depth_net(folder: Path) -> DepthNet:
    """The network that `sfumato train depth-net` left in RUN/export. Raises SfumatoError for a folder without one."""
    path = folder / FILE
    if not path.is_file():
        raise SfumatoError(f"{folder} holds no {FILE}; give the export folder of `sfumato train depth-net`")
    with safe_open(path, "pt") as file:
        net = DepthNet(build(DepthNetConfig, json.loads(file.metadata()["config"]), str(path)))
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
    return net.eval().requires_grad_(False)


def _stacked(drawn: Sequence[Drawn]) -> Batch:
    return {"picture": torch.stack([one.picture for one in drawn]), "depth": torch.stack([one.depth for one in drawn])}
