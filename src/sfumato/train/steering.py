"""ControlNets that begin, what a model draws with one, and their file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sfumato.checkpoint.hashes import model_hash
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.nets.controlnet import ControlNet, MMDiTControlNet
from sfumato.nets.layout import Region
from sfumato.nets.mmdit import MMDiT, Patches
from sfumato.nets.unet import UNet
from sfumato.pipeline.batch import decoded, latents_of
from sfumato.pipeline.conditioning import conditioning
from sfumato.pipeline.guidance import guided
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings
from sfumato.spec import ControlNetConfig, MMDiTConfig, MMDiTControlConfig
from sfumato.train.networks import positions

FILE = "control.safetensors"
HEAD = 64  # channels of a head of attention


class Sizes(Protocol):
    """The sizes of a ControlNet for a transformer."""

    @property
    def hidden(self) -> int:
        """The width of its blocks."""

    @property
    def blocks(self) -> int:
        """How many there are."""

    @property
    def positions(self) -> bool:
        """Whether its tokens know where they are."""


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
            depth=cfg.blocks, pooled_dim=base.cfg.pooled_dim, positions=base.cfg.positions, seen=base.cfg.seen,
        )  # fmt: skip
        sizes = MMDiTControlConfig(own, base.cfg.hidden, latent_channels, joint=False, positions=cfg.positions)
        network = MMDiTControlNet(sizes)
        if isinstance(network.pos_embed, Patches):
            network.pos_embed.get_buffer("pos_embed").copy_(positions(own.positions, own.hidden))
        last = [network.controlnet_blocks]
    else:
        raise SfumatoError(f"a {type(base).__name__} cannot be steered by a ControlNet; give a model that draws itself")
    for layer in last:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return network


def steered(
    base: Model, denoiser: Denoiser, captions: Sequence[str], seeds: Sequence[int], size: tuple[int, int], steps: int,
    hinted: Callable[[int, Cond], Cond] | None, regions: Sequence[Region] = (),
    negative: Callable[[int, Cond], Cond] | None = None,
) -> Tensor:  # fmt: skip
    """Returns pictures (N, 3, H, W) of captions, of `size` (width, height) in pixels, in so many steps (0: as many as
    the model advises).

    `hinted(place, cond)` adds the hint of a picture to its conditioning, and `negative(place, cond)` to that which
    guidance leads away from (None: as `hinted`). Without `hinted` there are no hints. Of a model with a scene prior
    each picture's things fill one of the `regions`.
    """
    width, height = size
    settings = Settings.of(base.spec, "-", steps=steps or base.spec.defaults.steps, width=width, height=height)
    run, jobs = SamplingRun.of(base, settings), []
    model = base
    if hinted is not None:
        model = Model(base.spec, denoiser, base.vae, base.encode, base.path, prior=base.prior)
    for place, (caption, seed) in enumerate(zip(captions, seeds, strict=True)):
        one = replace(settings, prompt=caption, prompt_syntax="plain", seed=seed)
        prompts = conditioning(base, one, run.sigmas, underlay=regions[place] if base.prior and regions else None)
        if hinted is not None:
            both = (hinted, negative or hinted)
            prompts = prompts.map(
                *[lambda cond, place=place, add=add: add(place, cond.to(base.device)) for add in both]
            )
        jobs.append(run.job(guided(model, one, run.sigmas, prompts), one))
    return decoded(base.vae, torch.cat([seen[-1] for seen in latents_of(jobs)]))


def write_control(folder: Path, control: nn.Module, hint: str, base: Model, file: str = FILE, prefix: str = "") -> None:
    """Writes a network that steers in diffusers' names after `prefix`, float16; the metadata names hint and model."""
    tensors = {prefix + name: value.detach().half().cpu().contiguous() for name, value in control.state_dict().items()}
    about = {"hint": hint, "base": base.name, "base_hash": model_hash(base.path) or ""}
    with atomic_write(folder / file) as opened:
        opened.write(save(tensors, {"format": "pt", **{f"sfumato.{name}": text for name, text in about.items()}}))
