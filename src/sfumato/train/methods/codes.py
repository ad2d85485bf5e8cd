"""Makes the codes by which a scene prior remembers pictures, and trains the network that cuts things out of them.

Codes are computed, not trained (see `train.codes`). They stand for pictures on a green ground, and come back with
errors. So the cutter learns from the pictures that codes bring back: which pixels are the thing's, and what colour they
have without the green.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.protocol import Rgb, TrainingSet
from sfumato.errors import SfumatoError
from sfumato.loading.exports import load_vae, write_export
from sfumato.nets.composer import Composer
from sfumato.nets.vae import VAE
from sfumato.pipeline.batch import decoded
from sfumato.pipeline.load import load
from sfumato.seeding import shuffled, stream
from sfumato.spec import PriorConfig
from sfumato.train.assemble import CODES_FILE, remembered
from sfumato.train.cache import add_weights
from sfumato.train.codes import Codes
from sfumato.train.config import LoopConfig
from sfumato.train.cutouts import CANONICAL, GREEN
from sfumato.train.latents import cached, identity
from sfumato.train.precision import arithmetic
from sfumato.train.preparation import Tensors, prepared
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch

BLUE = (0.14, 0.4, 0.9)  # a ground to show cut-out things on, red, green and blue from 0 to 1
CHUNK = 64  # pictures in a file
ALPHA_WEIGHT, ABSOLUTE_WEIGHT = 0.5, 0.05  # of the error of alpha, and of absolute errors, beside squared ones


@dataclass(frozen=True)
class CodesTraining:
    """Recipe of codes of `code` numbers and `detail` smaller ones (see `PriorConfig.detail`), and of the cutter.

    The cutter learns from `pictures` of the training split; `held_out` more are for validation.
    """

    loop: LoopConfig
    code: int = 192
    detail: tuple[int, ...] = (160, 504, 520)
    pictures: int = 2048
    held_out: int = 64


def make(
    cfg: CodesTraining, data: TrainingSet, folder: Path, device: torch.device, *, vae: Path | None = None,
    init: str | None = None, latents: Path | None = None,
) -> CodesTask:  # fmt: skip
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    if init is not None and vae is not None:
        raise SfumatoError("--init brings its autoencoder; leave --vae out")
    if vae is not None:
        return CodesTask(cfg, data, load_vae(vae), latents or folder, device)
    model = load(init, device, "float32")
    prior = None if init is None else model.prior
    known = None if prior is None else remembered(prior, data)[:, : prior.cfg.code]
    return CodesTask(cfg, data, model.vae, latents or folder, device, known)


class CodesTask:
    """Trains the cutter, see `task.Task`.

    `known` (N, K) are codes of all pictures that are kept, with a new basis and new details; None: new ones.
    """

    def __init__(
        self, cfg: CodesTraining, data: TrainingSet, vae: VAE, latents: Path, device: torch.device,
        known: Tensor | None = None,
    ):  # fmt: skip
        self.cfg, self.data, self.device, self.vae = cfg, data, device, vae.to(device)
        train = data.splits["train"]
        x = cached(latents, data.alone(CANONICAL, GREEN), self.vae)
        self._codes = Codes.of(x, train, cfg.code, cfg.detail, known)
        prior = PriorConfig(
            data.subjects, len(data.groups), cfg.code, cfg.detail, tints=1 + len(data.tints),
            grounds=1 + len(data.grounds), latent_channels=vae.cfg.latent_channels, side=x.shape[-1],
        )  # fmt: skip
        torch.manual_seed(cfg.loop.seed)
        self.composer = Composer(prior).to(device)
        self._codes.fill(self.composer)
        self.composer.tint_colours[1:].copy_(middles(data.tints))
        self.composer.ground_colours[:-1].copy_(middles(data.grounds))
        self.networks = self.composer.cutter
        count = min(cfg.pictures + cfg.held_out, len(train))
        self._count = max(1, count - cfg.held_out)
        self._numbers = train[shuffled(cfg.loop.seed, "cut out", 0, count, len(train))]
        digest = hashlib.sha256()
        add_weights(digest, {"codes": self._codes.whole})
        made_from = identity(data, vae, cfg.code, cfg.detail, cfg.loop.seed, digest.hexdigest())
        self._kept = prepared(latents / f"green-{made_from}", count, self._rows, CHUNK, "bring pictures back")

    def batch(self, step: int) -> Batch:
        """Returns the `rows` of pictures, and the colours of the `grounds` (B, 3) that things are laid on."""
        count, seed = self.cfg.loop.batch, self.cfg.loop.seed
        return {
            "rows": torch.from_numpy(shuffled(seed, "pictures", step * count, count, self._count)),
            "grounds": torch.from_numpy(stream(seed, "grounds", step).random((count, 3), np.float32)),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the error of the pictures in which things lie on the grounds, and of their alpha."""
        found, true = self._cut(batch["rows"]), self._true(batch["rows"])
        ground = batch["grounds"].to(self.device)
        error = _on(found, ground) - _on(true, ground)
        alpha = (found[:, 3:] - true[:, 3:]).square().mean()
        squared = error.square().mean()
        return squared + ALPHA_WEIGHT * alpha + ABSOLUTE_WEIGHT * error.abs().mean(), {"squared": squared.detach()}

    def validate(self) -> dict[str, float]:
        """Returns the PSNR of held-out pictures on white and on blue, and the mean error of their alpha."""
        rows = torch.arange(self._count, len(self._numbers))
        with arithmetic(self.cfg.loop, self.device):
            found, true = self._cut(rows), self._true(rows)
        result = {"alpha": (found[:, 3:] - true[:, 3:]).abs().mean().item()}
        for name, colour in (("white", (1.0, 1.0, 1.0)), ("blue", BLUE)):
            ground = torch.tensor(colour, device=self.device).expand(len(rows), 3)
            error = (_on(found, ground) - _on(true, ground)).square().mean()
            result[f"{name}_psnr"] = -10 * error.log10().item()
        return result

    def samples(self) -> Image.Image:
        """Returns held-out pictures on green as codes bring them back; cut out, on blue; and the real ones on blue."""
        rows = torch.arange(self._count, min(len(self._numbers), self._count + 12))
        blue = torch.tensor(BLUE, device=self.device).expand(len(rows), 3)
        with arithmetic(self.cfg.loop, self.device):
            found = self._cut(rows)
        pictures = [self._green(rows), _on(found, blue), _on(self._true(rows), blue)]
        return sheet([2 * each.float().cpu() - 1 for each in pictures])

    def export(self, folder: Path) -> None:
        """Writes the composer, as far as it is known, and the codes of all pictures."""
        config = {"prior": dataclasses.asdict(self.composer.cfg)}
        write_export(folder / CODES_FILE, self.composer, config, {"codes": self._codes.whole})

    def _rows(self, numbers: range) -> Tensors:
        """Returns pictures as codes bring them back, uint8 (n, 3, S, S), and as they are, uint8 RGBA (n, 4, S, S)."""
        which = self._numbers[np.array(numbers)]
        with torch.no_grad(), arithmetic(self.cfg.loop, self.device):
            back = decoded(self.vae, self.composer.alone(self._codes.whole[which].to(self.device)))
        # On black and on white a picture shows its alpha: what differs is the ground.
        black, white = (self.data.alone(CANONICAL, ground).draw(which) for ground in ((0, 0, 0), (255, 255, 255)))
        alpha = 1 - (white - black).mean(1, keepdim=True) / 2
        return {"green": _bytes((back.float() + 1) / 2), "true": _bytes(torch.cat([(black + 1) / 2, alpha], 1))}

    def _green(self, rows: Tensor) -> Tensor:
        return self._kept["green"][rows].to(self.device).float() / 255

    def _true(self, rows: Tensor) -> Tensor:
        return self._kept["true"][rows].to(self.device).float() / 255

    def _cut(self, rows: Tensor) -> Tensor:
        return self.networks(self._green(rows))


def middles(ranges: Sequence[tuple[Rgb, Rgb]]) -> Tensor:
    """Returns the middles (n, 3), from 0 to 1, of ranges of 8-bit colours."""
    return torch.tensor(np.reshape(ranges, (-1, 2, 3)).mean(1) / 255, dtype=torch.float32)


def _on(thing: Tensor, ground: Tensor) -> Tensor:
    """Returns pictures (N, 3, H, W) of things (N, 4, H, W), premultiplied, on grounds (N, 3)."""
    return thing[:, :3] + (1 - thing[:, 3:]) * ground[:, :, None, None]


def _bytes(x: Tensor) -> Tensor:
    return (255 * x).round().clamp(0, 255).byte().cpu()
