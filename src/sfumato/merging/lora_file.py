"""LoRA files as kohya's trainer names their layers, which every program reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.adapters.layer_names import TEXTS
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.keymap import Rule
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.files import check_writable
from sfumato.loading.conversion.account import cast
from sfumato.spec import Spec

# Families whose U-Net kohya names as diffusers does; of all others by the authors' own names.
LIKE_DIFFUSERS = ("sd1", "sd2")
# What `ss_base_model_version` says, by the beginning of the family's name; the first that fits.
BASE_VERSIONS = (
    ("sdxl", "sdxl_base_v1-0"), ("sd1", "sd_v1"), ("sd2", "sd_v2"), ("sd3_medium", "sd3_m"),
    ("sd35_medium", "sd3.5-medium"), ("sd35_large", "sd3.5-large"),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A layer that a LoRA can change: what `rule` joins of our parameters in `part`, under kohya's name."""

    name: str
    part: str
    rule: Rule


class Targets:
    """All linear layers and convolutions of the network that draws and of the text encoders."""

    def __init__(self, spec: Spec):
        self.spec = spec
        self._family = family(spec.family)

    @cached_property
    def networks(self) -> Mapping[str, nn.Module]:
        return self._family.build(self.spec)

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(part for part in self.networks if part == self._family.denoiser or part in TEXTS)

    @cached_property
    def all(self) -> tuple[Target, ...]:
        return tuple(one for part in self.parts for one in self._of(part))

    def _of(self, part: str) -> Iterator[Target]:
        denoiser = part == self._family.denoiser
        own = "original" if denoiser and not self._family.name.startswith(LIKE_DIFFUSERS) else "diffusers"
        layout, network = self._family.layouts[own], self.networks[part]
        for rule in layout.rules(self.spec, part, network.state_dict()):
            modules = (network.get_submodule(name.rpartition(".")[0]) for name in rule.ours)
            if rule.ours[0].endswith(".weight") and all(isinstance(one, nn.Linear | nn.Conv2d) for one in modules):
                theirs = rule.theirs[0].removeprefix(layout.prefixes[part]).removesuffix(".weight")
                yield Target(f"{self.before(part)}{theirs.replace('.', '_')}", part, rule)

    def before(self, part: str) -> str:
        """What kohya puts before the names of a part."""
        if part not in TEXTS:
            return "lora_unet_"
        towers = [one for one in self.parts if one in TEXTS]
        return "lora_te_" if len(towers) == 1 else f"lora_te{TEXTS.index(part) + 1}_"

    @cached_property
    def names(self) -> Mapping[tuple[str, tuple[str, ...]], str]:
        """Kohya's name of the layers of a part, by the parameters of ours that they are joined of."""
        return {(one.part, one.rule.ours): one.name for one in self.all}

    def name(self, part: str, ours: tuple[str, ...]) -> str:
        """Kohya's name of a layer, or one of that kind where kohya's trainer joins it with others."""
        plain = ours[0].rpartition(".")[0].replace(".", "_")
        return self.names.get((part, ours), f"{self.before(part)}{plain}")


@dataclass
class LoraFile:
    """The tensors of a LoRA that is written."""

    spec: Spec
    dtype: torch.dtype
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ranks: list[int] = field(default_factory=list)

    def add(self, name: str, up: Tensor, down: Tensor) -> None:
        """Add a layer: up (out, r, ...) and down (r, in, ...). Raises SfumatoError for values that do not fit."""
        rank = len(down)
        for ending, tensor in (("lora_up", up), ("lora_down", down)):
            self.tensors[f"{name}.{ending}.weight"] = cast(tensor, self.dtype, f"{name}.{ending}").contiguous()
        self.tensors[f"{name}.alpha"] = torch.tensor(float(rank), dtype=self.dtype)
        self.ranks.append(rank)

    def write(self, out: Path, metadata: Mapping[str, str]) -> None:
        """Write the file. Raises SfumatoError where there is nothing to write, or it cannot be written."""
        if not self.tensors:
            raise SfumatoError("no layer is changed; the LoRA would be empty, and nothing was written")
        version = next((text for start, text in BASE_VERSIONS if self.spec.family.startswith(start)), None)
        rank = str(self.ranks[0]) if len({*self.ranks}) == 1 else "Dynamic"
        own = {
            "ss_network_module": "networks.lora", "ss_network_dim": rank, "ss_network_alpha": rank,
            "ss_output_name": out.stem, **({} if version is None else {"ss_base_model_version": version}),
        }  # fmt: skip
        order = sorted(self.tensors)
        heads = {name: (tuple(self.tensors[name].shape), self.tensors[name].dtype) for name in order}
        safetensors_file.write(out, heads, self.tensors.__getitem__, own | dict(metadata))


def check_out(out: Path, overwrite: bool) -> None:
    """Raises SfumatoError unless a LoRA can be written there."""
    if out.suffix != ".safetensors":
        raise SfumatoError(f"{out} is no .safetensors, which a LoRA is written as; name one")
    if out.exists() and not overwrite:
        raise SfumatoError(f"{out} exists; name another place, or replace it with --overwrite")
    check_writable(out.parent, out.name)
