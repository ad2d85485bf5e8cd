"""What the methods share that train a variant: a model of which only an adapter learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sfumato.adapters.lowrank import Adapter
from sfumato.checkpoint import variant
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.prior import Underlay
from sfumato.nets.unet import UNet
from sfumato.pipeline.latents import autoencoding
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.spec import UNetConfig
from sfumato.train.preparation import Tensors

FIRST = {UNet: "conv_in", MMDiT: "pos_embed.proj"}  # the layer that reads the latents
FIELDS = ("tokens", "pooled", "concat")  # of Cond, that words decide
Condition = Literal["inpainting", "depth"]


class Variant:
    """The model `init`, of which only an adapter learns; with a `condition` its network reads further channels.

    The further channels are described in `methods.concat`. Their first weights are zero, so the variant starts by
    drawing what `base` draws. `adapter` is the file of an earlier variant, of this or
    another base, whose weights are the first ones. `network` is the denoiser with the adapter, `model` the model that
    draws with it. Raises SfumatoError if `init` is not a folder of a model whose denoiser reads plain latents.
    """

    def __init__(
        self,
        init: str,
        rank: int,
        device: torch.device,
        adapter: Path | None = None,
        condition: Condition | None = None,
    ):
        self.base = load(init, device, "float32")
        network, spec = self.base.denoiser.network, self.base.spec
        if not isinstance(network, UNet | MMDiT) or spec.beside_latents or not self.base.path.is_dir():
            raise SfumatoError(f"{init} is no folder of a model that draws from plain latents; give one")
        self.part = family(spec.family).denoiser
        self.name = init if variant.place(init) == self.base.path else str(self.base.path.resolve())
        further = {"inpainting": 1 + spec.vae.latent_channels, "depth": 1, None: 0}[condition]
        self.network = widened(network, further).to(device)
        first = FIRST[type(network)]
        self.adapter = Adapter(self.network, rank, (f"{first}.weight",) if further else ()).to(device)
        if adapter is not None:
            self._continue_from(adapter)
        base, denoiser = self.base, replace(self.base.denoiser, network=self.network)
        changed: dict[str, Any] = {self.part: self.network.cfg}
        spec = replace(spec, **changed)
        self.model = Model(spec, denoiser, base.vae, base.encode, base.path, prior=base.prior)

    def conds(
        self, prompts: Sequence[str], seeds: Sequence[int], side: int, underlays: Sequence[Underlay | None] = ()
    ) -> Tensors:
        """Returns the conditioning of pictures of `side` pixels, see `words_of`."""
        return words_of(self.base, prompts, seeds, side, underlays)

    def cond(self, fields: Tensors, concat: Tensor | None = None) -> Cond:
        """Returns the Cond of rows of `conds`, with further input channels `concat` (B, C, h, w) if given."""
        moved: dict[str, Any] = {
            name: value.float().to(self.base.device) for name, value in fields.items() if name in FIELDS
        }
        if concat is not None:
            moved["concat"] = torch.cat([moved["concat"], concat], 1) if "concat" in moved else concat
        return Cond(**moved)

    def export(self, path: Path, changes: variant.Changes, further: Mapping[str, Tensor]) -> None:
        """Writes the file of the variant; `changes` and the `further` tensors are as in `checkpoint.variant.write`."""
        own = {f"{self.part}/{name}": tensor for name, tensor in self.adapter.tensors().items()}
        variant.write(path, self.name, changes, own | dict(further))

    def _continue_from(self, file: Path) -> None:
        try:
            tensors = load_file(file)
            self.adapter.load({name.removeprefix(f"{self.part}/"): tensor for name, tensor in tensors.items()})
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise SfumatoError(
                f"{file} is no variant of this kind, these sizes and this rank; give what such a run exported"
            ) from error


@torch.no_grad()
def words_of(
    base: Model, prompts: Sequence[str], seeds: Sequence[int], side: int, underlays: Sequence[Underlay | None] = ()
) -> Tensors:
    """Returns the conditioning of pictures of `side` pixels: each field of their Cond, (N, ...), float16 on the CPU.

    A prior lays things out by the `seeds` on the pictures of `underlays`. Prompts beyond the text encoder's length are
    cut.
    """
    encode, prior, size = base.encode, base.prior, side // base.spec.vae.factor
    if prior is None:
        states = encode.towers[0](encode.tokenizer(list(prompts)).to(base.device))
        found = Cond(states.read(), states.vector)
    else:
        drawing = autoencoding(base.vae)
        each = zip(prompts, seeds, underlays or [None] * len(prompts), strict=True)
        words = ((encode.words(prompt), seed, underlay) for prompt, seed, underlay in each)
        found = Cond.cat([prior(read, Random(seed), size, size, drawing, underlay) for read, seed, underlay in words])
    fields = {name: getattr(found, name) for name in FIELDS}
    return {name: value.half().cpu() for name, value in fields.items() if value is not None}


def widened(network: UNet | MMDiT, further: int) -> UNet | MMDiT:
    """Returns a copy of the network that takes `further` more input channels, whose weights are zero."""
    cfg, name, state = network.cfg, f"{FIRST[type(network)]}.weight", network.state_dict()
    wider = replace(cfg, in_channels=cfg.in_channels + further, out_channels=cfg.out_channels or cfg.in_channels)
    new = UNet(wider) if isinstance(wider, UNetConfig) else MMDiT(wider)
    first = state[name]
    zeros = first.new_zeros(len(first), further, *first.shape[2:])
    new.load_state_dict(state | {name: torch.cat([first, zeros], 1)})
    return new.eval()
