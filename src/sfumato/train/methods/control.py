"""ControlNets: a small network beside a frozen one learns to steer it by a hint (Zhang et al. 2023).

What it adds is zero at first, so training starts with what the model draws from words alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from sfumato.checkpoint.hashes import model_hash
from sfumato.data.protocol import Example, TrainingSet
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.images.tensors import to_images, to_pixels
from sfumato.nets.controlled import Controlled
from sfumato.nets.controlnet import ControlNet, MMDiTControlNet
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.pipeline.batch import decoded, latents_of
from sfumato.pipeline.conditioning import conditioning
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.hints import hint_input, hint_picture
from sfumato.pipeline.latents import encode
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.seeding import shuffled, stream
from sfumato.settings.control import Control
from sfumato.settings.settings import Settings
from sfumato.spec import ControlNetConfig, MMDiTConfig, MMDiTControlConfig
from sfumato.train.config import LoopConfig
from sfumato.train.latents import identity
from sfumato.train.objective import denoising_losses, stratified, times, validation_errors, whole_steps
from sfumato.train.precision import arithmetic
from sfumato.train.preparation import Tensors, prepared
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch
from sfumato.train.variant import words_of

FILE = "control.safetensors"
CHUNK = 32  # examples in one file
RATIOS = (0.5, 2.0, 10.0)  # of the validation's noise to its signal
SHEET = 8
HEAD = 64  # channels of a head of attention


@dataclass(frozen=True)
class ControlTraining:
    """Recipe of a ControlNet that is shown hints of a kind (see `settings.control.HINTS`); "depth" is the true depth.

    For a transformer it has so many `blocks` of the width `hidden`; for a U-Net it is a copy of its way down. It learns
    from `examples` with captions in so many `views`; `held_out` more are for validation. The share `single` of them
    show a single thing, the share `drop` of captions is left empty.
    """

    loop: LoopConfig
    hint: Literal["canny", "gradient", "scribble", "lineart", "tile", "colour", "depth"] = "canny"
    init: str = "emoji"
    hidden: int = 96
    blocks: int = 2
    examples: int = 3072
    views: int = 2
    held_out: int = 64
    single: float = 0.3
    drop: float = 0.1
    sheet_steps: int = 20


def make(
    cfg: ControlTraining, data: TrainingSet, folder: Path, device: torch.device, *, init: str | None = None
) -> ControlTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return ControlTask(replace(cfg, init=init or cfg.init), data, folder, device)


class Sizes(Protocol):
    """The sizes of a ControlNet for a transformer."""

    @property
    def hidden(self) -> int:
        """The width of its blocks."""

    @property
    def blocks(self) -> int:
        """How many there are."""


def fresh(base: nn.Module, cfg: Sizes, latent_channels: int) -> ControlNet | MMDiTControlNet:
    """Returns a ControlNet for a network that adds nothing yet. Raises SfumatoError for another kind of network."""
    if isinstance(base, UNet):
        copy = ControlNet(ControlNetConfig(base.cfg))
        ours = copy.state_dict()
        ours |= {name: value for name, value in base.state_dict().items() if name in ours}
        copy.load_state_dict(ours)
        network: ControlNet | MMDiTControlNet = copy
        last = [copy.controlnet_cond_embedding.conv_out, copy.controlnet_down_blocks, copy.controlnet_mid_block]
    elif isinstance(base, MMDiT):
        own = MMDiTConfig(
            in_channels=base.cfg.in_channels, patch=base.cfg.patch, hidden=cfg.hidden, heads=max(1, cfg.hidden // HEAD),
            depth=cfg.blocks, pooled_dim=base.cfg.pooled_dim,
        )  # fmt: skip
        sizes = MMDiTControlConfig(own, base.cfg.hidden, latent_channels, joint=False, positions=False)
        network = MMDiTControlNet(sizes)
        last = [network.controlnet_blocks]
    else:
        raise SfumatoError(f"a {type(base).__name__} cannot be steered by a ControlNet; give a model that draws itself")
    for layer in last:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return network


def steered(
    base: Model, denoiser: Denoiser, captions: Sequence[str], seeds: Sequence[int], size: tuple[int, int], steps: int,
    hinted: Callable[[int, Cond], Cond] | None,
) -> Tensor:  # fmt: skip
    """Returns pictures (N, 3, H, W) of captions, of `size` (width, height) in pixels, in so many steps (0: as many as
    the model advises).

    `hinted(place, cond)` adds the hint of a picture to its conditioning; None draws without hints.
    """
    width, height = size
    settings = Settings.of(base.spec, "-", steps=steps or base.spec.defaults.steps, width=width, height=height)
    run, jobs = SamplingRun.of(base, settings), []
    model = base
    if hinted is not None:
        model = Model(base.spec, denoiser, base.vae, base.encode, base.path, prior=base.prior)
    for place, (caption, seed) in enumerate(zip(captions, seeds, strict=True)):
        one = replace(settings, prompt=caption, prompt_syntax="plain", seed=seed)
        prompts = conditioning(base, one, run.sigmas)
        if hinted is not None:
            prompts = prompts.map(*[lambda cond, place=place: hinted(place, cond.to(base.device))] * 2)
        jobs.append(run.job(guided(model, one, run.sigmas, prompts), one))
    return decoded(base.vae, torch.cat([seen[-1] for seen in latents_of(jobs)]))


def write_control(folder: Path, control: nn.Module, hint: str, base: Model) -> None:
    """Writes a ControlNet in diffusers' names, float16; the metadata names the hint and the model."""
    tensors = {name: value.detach().half().cpu().contiguous() for name, value in control.state_dict().items()}
    about = {"hint": hint, "base": base.name, "base_hash": model_hash(base.path) or ""}
    with atomic_write(folder / FILE) as file:
        file.write(save(tensors, {"format": "pt", **{f"sfumato.{name}": text for name, text in about.items()}}))


class ControlTask:
    """Trains a ControlNet for a model that stays as it is, see `task.Task`."""

    def __init__(self, cfg: ControlTraining, data: TrainingSet, folder: Path, device: torch.device):
        torch.manual_seed(cfg.loop.seed)
        self.cfg, self.device = cfg, device
        self.base: Model = load(cfg.init, device, "float32")
        drawing, vae = self.base.denoiser.network, self.base.spec.vae
        self.control = fresh(drawing, cfg, vae.latent_channels).to(device)
        self.networks: nn.Module = self.control
        self.denoiser = replace(self.base.denoiser, network=Controlled(drawing, [self.control]))
        self._examples = data.examples(cfg.loop.seed, cfg.single, cfg.hint == "depth")
        self._empty_prompt = words_of(self.base, [""], [0], data.size)
        made_from = identity(
            data, self.base.vae, cfg.hint, cfg.loop.seed, cfg.single, cfg.views, model_hash(self.base.path)
        )
        count = cfg.examples + cfg.held_out
        self._kept = prepared(folder / f"control-{cfg.hint}-{made_from}", count, self._rows, CHUNK, "encode examples")

    def batch(self, step: int) -> Batch:
        """Returns latents `x0`, `noise`, times `t`, hints and the fields of the conditioning."""
        cfg, count = self.cfg, self.cfg.loop.batch
        chance = stream(cfg.loop.seed, "control", step)
        rows = torch.from_numpy(shuffled(cfg.loop.seed, "examples", step * count, count, cfg.examples))
        words = self._words(rows, torch.from_numpy(chance.integers(cfg.views, size=count)))
        dropped = torch.from_numpy(chance.random(count) < cfg.drop)
        for name, value in self._empty_prompt.items():
            words[name][dropped] = value
        x0 = self._kept["latents"][rows].float()
        t = whole_steps(times("uniform", stratified(chance, count)), self.base.spec.noise.steps)
        noise = torch.from_numpy(chance.standard_normal(tuple(x0.shape), np.float32))
        return {"x0": x0, "noise": noise, "t": t, "hint": self._kept["hint"][rows].float(), **words}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error of the network's output."""
        sigma = self.base.table.sigmas[batch["t"].cpu()]
        cond = self._hinted(self._cond(batch), batch["hint"])
        return denoising_losses(self.denoiser, batch["x0"], batch["noise"], sigma, cond).mean(), {}

    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate of x0 on held-out examples, by ratio of noise to signal.

        "gain" is the share of the model's own error that the hint takes away, at the largest ratio.
        """
        rows = torch.arange(self.cfg.examples, self.cfg.examples + self.cfg.held_out)
        x0 = self._kept["latents"][rows].float().to(self.device)
        plain = self._cond(self._words(rows, torch.zeros_like(rows)))
        hinted = self._hinted(plain, self._kept["hint"][rows].float().to(self.device))
        figures, alone = {}, 0.0
        with arithmetic(self.cfg.loop, self.device):
            for ratio in RATIOS:
                figures[f"x0_{ratio:g}"] = validation_errors(self.denoiser, x0, hinted, ratio).mean().item()
            alone = validation_errors(self.denoiser, x0, plain, RATIOS[-1]).mean().item()
        return {**figures, "gain": 1 - figures[f"x0_{RATIOS[-1]:g}"] / alone}

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """Returns held-out pictures, their hints, and what is drawn from their captions without hints and with them."""
        numbers = range(self.cfg.examples, self.cfg.examples + min(SHEET, self.cfg.held_out))
        examples = [self._examples[number] for number in numbers]
        pictures = torch.stack([one.picture for one in examples])
        side = pictures.shape[-1]
        hints = [to_pixels(self._hint_picture(one, side)) for one in examples]
        drawn = [self._drawn(examples, numbers, side, hinted) for hinted in (False, True)]
        return sheet([pictures, torch.cat(hints), *drawn])

    def _drawn(self, examples: list[Example], numbers: range, side: int, hinted: bool) -> Tensor:
        """Pictures (N, 3, S, S) of the examples' captions."""
        captions = [one.caption(Random(f"{number}/0")) for one, number in zip(examples, numbers, strict=True)]
        kept = self._kept["hint"][numbers.start : numbers.stop].float().to(self.device)
        given = (lambda place, cond: self._hinted(cond, kept[place : place + 1])) if hinted else None
        return steered(self.base, self.denoiser, captions, numbers, (side, side), self.cfg.sheet_steps, given)

    def export(self, folder: Path) -> None:
        """Writes the ControlNet in diffusers' names, float16; the metadata names the hint and the model."""
        write_control(folder, self.control, self.cfg.hint, self.base)

    def _rows(self, numbers: range) -> Tensors:
        """Returns the examples with these numbers: latents, hints, and the conditioning of every view."""
        examples = [self._examples[number] for number in numbers]
        side, views = examples[0].picture.shape[-1], range(self.cfg.views)
        with arithmetic(self.cfg.loop, self.device):
            latents = encode(self.base.vae, torch.stack([one.picture for one in examples]).to(self.device))
            hints = [hint_input(self.base, self._seen(one, side), self.control, side, side) for one in examples]
            words = [
                words_of(
                    self.base,
                    [one.caption(Random(f"{number}/{view}")) for view in views],
                    [number * len(views) + view for view in views],
                    side,
                )
                for number, one in zip(numbers, examples, strict=True)
            ]
        stacked = {name: torch.stack([one[name] for one in words]) for name in words[0]}
        return {"latents": latents.half(), "hint": torch.cat(hints).half(), **stacked}

    def _seen(self, example: Example, side: int) -> Control:
        """The control that shows an example's hint, made already."""
        return Control("control", self._hint_picture(example, side))

    def _hint_picture(self, example: Example, side: int) -> Image.Image:
        if self.cfg.hint == "depth":
            return to_images((2 * example.depth - 1).expand(1, 3, -1, -1))[0]
        made = Control("control", to_images(example.picture[None])[0], self.cfg.hint)
        return hint_picture(made, None, side, side)

    def _words(self, rows: Tensor, views: Tensor) -> Tensors:
        """Returns the conditioning of examples, each in one of its views."""
        return {name: self._kept[name][rows, views] for name in self._empty_prompt}

    def _cond(self, fields: Tensors) -> Cond:
        given: dict[str, Any] = {name: fields[name].float().to(self.device) for name in self._empty_prompt}
        return Cond(**given)

    def _hinted(self, cond: Cond, hint: Tensor) -> Cond:
        weights = torch.ones(len(hint), self.control.residuals, device=hint.device)
        return replace(cond, hints=self.control.prepare(hint), hint_weights=(weights,))
