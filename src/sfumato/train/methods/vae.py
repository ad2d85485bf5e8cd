"""Trains the KL autoencoder (Rombach et al. 2022, section 3.1) on pictures laid over plain colours.

The reconstruction loss is L1 plus squared error plus L1 of the differences between neighbours. That keeps outlines
sharp without the adversary and the pretrained features of the original.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.data.pictures.protocol import SampleSource
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.data.pictures.square_set import SquareSet
from sfumato.data.protocol import LabelledScenes, TrainingSet
from sfumato.errors import SfumatoError
from sfumato.images.tensors import compose
from sfumato.loading.exports import VAE_FILE, load_vae, write_export
from sfumato.nets.vae import VAE
from sfumato.pipeline.load import load
from sfumato.seeding import stream
from sfumato.spec import VAEConfig
from sfumato.train.config import LoopConfig
from sfumato.train.own_set import training_set
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch


@dataclass(frozen=True)
class VAETraining:
    """Recipe of an autoencoder.

    Most steps see crops of side `crop`. Every `full_every`-th step sees whole pictures, as many as have the pixels of
    `loop.batch` crops (0: crops only). Every `scenes_every`-th step sees composed scenes, in which things are small (0:
    none). `white` is the share of white backgrounds. `mse`, `edges` and `kl` are weights in the loss, in which L1
    counts 1 and the KL divergence, in nats, is divided by the number of values of the picture. `decoder_of` names the
    export of an earlier run, or a model: its encoder and its scale stay as they are, so that latents do not change, and
    its decoder learns on. A model brings its own sizes, `net` is not read then. One's own pictures are made squares of
    `side` pixels, by the options of [data].
    """

    loop: LoopConfig
    net: VAEConfig = field(default_factory=VAEConfig)
    crop: int = 64
    full_every: int = 4
    scenes_every: int = 0
    white: float = 0.3
    mse: float = 2.0
    edges: float = 0.5
    kl: float = 1e-4
    held_out: int = 192
    decoder_of: str = ""
    side: int = 256
    data: dict[str, Any] = field(default_factory=dict)


def make(cfg: VAETraining, data: SampleSource, folder: Path, device: torch.device) -> VAETask:
    """Returns the task of a run; it needs neither `folder` nor `device`.

    Raises SfumatoError for scenes that one's own pictures do not have.
    """
    earlier = _earlier(cfg.decoder_of) if cfg.decoder_of else None
    if earlier is not None and not _is_export(cfg.decoder_of):
        cfg = dataclasses.replace(cfg, net=earlier.cfg)
    options = {"caption_missing": "allow", **cfg.data} if isinstance(data, OwnPictures) else cfg.data
    found = training_set(data, options, cfg.loop.seed, cfg.side, cfg.net.factor)
    if cfg.scenes_every and isinstance(found, SquareSet):
        raise SfumatoError(f"scenes_every is {cfg.scenes_every}, but your own pictures are not composed; leave it out")
    return VAETask(cfg, found, earlier)


class VAETask:
    """Trains the autoencoder, see `task.Task`."""

    def __init__(self, cfg: VAETraining, data: TrainingSet, earlier: VAE | None = None):
        if cfg.crop % cfg.net.factor or cfg.crop > data.size:
            raise SfumatoError(f"crop is {cfg.crop}; expected a multiple of {cfg.net.factor} up to {data.size}")
        self.cfg, self.data = cfg, data
        torch.manual_seed(cfg.loop.seed)
        self.networks = VAE(cfg.net)
        self._scale: float | None = None
        if cfg.decoder_of:
            earlier = earlier or _earlier(cfg.decoder_of)
            self._scale = earlier.cfg.scale
            _freeze_encoder(self.networks, earlier)
        else:
            _init_weights(self.networks)
        if cfg.loop.compile:
            self.networks.encoder.compile()
            self.networks.decoder.compile()
        self._train = data.splits["train"]
        self._scenes = data.scenes(cfg.loop.seed) if cfg.scenes_every else None
        held_out = np.concatenate([data.splits["unseen_concept"], data.splits["unseen_picture"]])
        spread = np.linspace(0, len(held_out) - 1, min(cfg.held_out, len(held_out))).astype(int)
        self._held_out = held_out[spread]

    def batch(self, step: int) -> Batch:
        """Returns `rgba` (B, s, s, 4), uint8, and the colours `rgb` (B, 3) that it is laid over."""
        cfg, size = self.cfg, self.data.size
        whole = cfg.full_every > 0 and step % cfg.full_every == 0
        side = size if whole else cfg.crop
        count = max(1, cfg.loop.batch * cfg.crop**2 // side**2)
        rng = stream(cfg.loop.seed, "vae", step)
        scenes = self._scenes if cfg.scenes_every and step % cfg.scenes_every == 0 else None
        corners = rng.integers(0, size - side + 1, (count, 2))
        flips = rng.random(count) < 0.5
        rgba = np.empty((count, side, side, 4), np.uint8)
        for row, i in enumerate(rng.choice(self._train, count)):
            y, x = corners[row]
            whole_picture = self.data.picture(int(i)) if scenes is None else _opaque(scenes, int(rng.integers(1 << 40)))
            cut = whole_picture[y : y + side, x : x + side]
            rgba[row] = cut[:, ::-1] if flips[row] else cut
        rgb = rng.integers(0, 256, (count, 3))
        rgb[rng.random(count) < cfg.white] = 255
        return {"rgba": torch.from_numpy(rgba), "rgb": torch.from_numpy(rgb)}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of the reconstruction plus the weighted KL divergence."""
        cfg, x = self.cfg, compose(batch["rgba"], batch["rgb"])
        mean, logvar = self.networks.encode(x).float().chunk(2, 1)
        logvar = logvar.clamp(-30, 20)
        std = (logvar / 2).exp()
        y = self.networks.decode(mean + std * torch.randn_like(mean)).float()
        l1, mse = (y - x).abs().mean(), (y - x).square().mean()
        edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (2, 3))
        kl = (mean.square() + logvar.exp() - 1 - logvar).sum() / 2 / x.numel()
        loss = l1 + cfg.mse * mse + cfg.edges * edges + cfg.kl * kl
        extras = {"l1": l1, "mse": mse, "kl": kl, "noise": std.mean() / mean.std()}
        return loss, {name: value.detach() for name, value in extras.items()}

    def validate(self) -> dict[str, float]:
        """Returns the PSNR in dB of held-out pictures on white, on colours and of both, and the latents' scale."""
        figures = {}
        for name, rgb in (("white", _white(len(self._held_out))), ("colours", self._colours(len(self._held_out)))):
            scores = []
            for rows in torch.arange(len(self._held_out)).split(16):
                x = self._compose(self._held_out[rows.numpy()], rgb[rows])
                y = self.networks.decode(self.networks.encode(x).chunk(2, 1)[0]).clamp(-1, 1)
                scores.append(-10 * ((y - x) / 2).square().mean((1, 2, 3)).log10())
            figures[f"psnr_{name}"] = torch.cat(scores).mean().item()
        return figures | {"psnr": sum(figures.values()) / 2, "scale": self.scale()}

    def scale(self, count: int = 256) -> float:
        """Returns 1 over the standard deviation of the latent means of training pictures on white and on colours."""
        spread = np.linspace(0, len(self._train) - 1, min(count, len(self._train))).astype(int)
        rgb = torch.cat([_white(len(spread) // 2), self._colours(len(spread) - len(spread) // 2)])
        means = [
            self.networks.encode(self._compose(self._train[spread[rows.numpy()]], rgb[rows])).chunk(2, 1)[0]
            for rows in torch.arange(len(spread)).split(16)
        ]
        return 1 / torch.cat(means).std().item()

    def samples(self) -> Image.Image:
        """Returns rows of held-out originals, each above its reconstruction."""
        rows = []
        for indices in np.array_split(self._held_out[: min(48, len(self._held_out))], 4):
            x = self._compose(
                indices, torch.cat([_white(len(indices) // 2), self._colours(len(indices))])[: len(indices)]
            )
            rows += [x, self.networks.decode(self.networks.encode(x).chunk(2, 1)[0])]
        return sheet([row for row in rows if len(row)])

    def export(self, folder: Path) -> None:
        """Writes weights and config to one file."""
        cfg = dataclasses.replace(self.cfg.net, scale=self._scale or self.scale())
        write_export(folder / VAE_FILE, self.networks, dataclasses.asdict(cfg))

    def _colours(self, count: int) -> Tensor:
        """Returns the middles of the set's plain colours, repeated: (count, 3)."""
        middles = torch.tensor(self.data.grounds).float().mean(1)
        return middles[torch.arange(count) % len(middles)]

    def _compose(self, indices: np.ndarray, rgb: Tensor) -> Tensor:
        """Returns pictures of the set over plain colours, (B, 3, S, S) in [-1, 1], on the networks' device."""
        device = next(self.networks.parameters()).device
        return compose(torch.from_numpy(self.data.pictures(indices)).to(device), rgb.to(device))


def _init_weights(net: VAE) -> None:
    """Sets first weights that let a small network learn at once; with torch's defaults the first thousand steps are
    lost.

    Signals keep their size from layer to layer, residual branches start at a fifth of it, and latents carry little
    noise.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            branch_end = name.endswith(("conv2", "to_out.0"))
            nn.init.normal_(module.weight, std=(0.2 if branch_end else 1.0) / module.weight[0].numel() ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    logvar = slice(net.cfg.latent_channels, None)
    last = net.quant_conv if net.cfg.quant_convs else net.encoder.conv_out
    with torch.no_grad():
        last.weight[logvar] *= 0.1
        if last.bias is not None:
            last.bias[logvar] = -6.0


def _is_export(name: str) -> bool:
    return (Path(name) / VAE_FILE).is_file()


def _earlier(name: str) -> VAE:
    """The autoencoder of an earlier run's export, or of a model."""
    return load_vae(name) if _is_export(name) else load(name, "cpu", "float32").vae


def _freeze_encoder(net: VAE, earlier: VAE) -> None:
    """Copies an earlier autoencoder and freezes its encoder. Raises SfumatoError if its sizes differ."""
    if dataclasses.replace(earlier.cfg, scale=net.cfg.scale) != net.cfg:
        raise SfumatoError("decoder_of names an autoencoder of other sizes; give net the sizes it was trained with")
    net.load_state_dict(earlier.state_dict())
    net.encoder.requires_grad_(False)
    if net.cfg.quant_convs:
        net.quant_conv.requires_grad_(False)


def _opaque(scenes: LabelledScenes, number: int) -> np.ndarray:
    """Returns a composed scene as opaque RGBA, uint8 (S, S, 4)."""
    rgb = ((scenes.draw([number])[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])


def _white(count: int) -> Tensor:
    """Returns `count` times white, (count, 3)."""
    return torch.full((count, 3), 255)
