"""A LoRA on the XL U-Net, ours beside diffusers': seconds and memory of taking it on and off, and of a step with it.

python bench/adapters.py [--depth 2] [--rank 64] [--dtype float32] [--side 16] [--rounds 3] [--threads 1]

Wants the package peft, by which diffusers does it. Both have the same weights in memory, once, and read the same file.
Ours is merged into a copy of the weights that change, or added at run time; diffusers' is added at run time, or fused
into the weights. `--depth` limits the transformer layers in a row: all 10 take 10 GB in float32. `back` says whether
the weights are bit for bit what they were.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common import peak_memory, show, twins
from sfumato.adapters import lora
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.merged import merged
from sfumato.adapters.unmerged import unmerged
from sfumato.adapters.use import Use
from sfumato.checkpoint.diffusers_config import unet_to
from sfumato.diffusion.cond import Cond
from sfumato.families import family
from sfumato.nets.layers import Linear
from sfumato.nets.unet import UNet
from sfumato.spec import Spec

STRENGTH = 0.8
RIVALS = {"ours, merged": "diffusers, fused", "ours, at run time": "diffusers, at run time"}


@dataclass
class Bench:
    """Two networks on the same weights, the file of a LoRA, and what was measured: by way and by column."""

    spec: Spec
    ours: nn.Module
    theirs: UNet2DConditionModel
    file: Path
    cond: Cond
    x: Tensor
    measured: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    @torch.no_grad()
    def ask_ours(self, network: nn.Module, strengths: Tensor | None = None) -> Tensor:
        return network(self.x, torch.full((2,), 500.0), replace(self.cond, adapters=strengths))

    @torch.no_grad()
    def ask_theirs(self) -> Tensor:
        more = {"text_embeds": self.cond.pooled, "time_ids": self.cond.ids}
        return self.theirs(self.x, 500.0, self.cond.tokens, added_cond_kwargs=more).sample

    def mine(self, way: str) -> Tensor:
        lora.read.cache_clear()
        use, part, spec = Use(AdapterFile.open(self.file), STRENGTH), "unet", self.spec
        if way == "ours, merged":
            changed = self.timed(way, "on", lambda: merged(self.ours, part, (use,), spec))
            return self.timed(way, "step", lambda: self.ask_ours(changed))
        held = self.timed(way, "on", lambda: unmerged(self.ours, self.ours, part, (use,), spec))
        return self.timed(way, "step", lambda: self.ask_ours(held, torch.ones(2, 1)))

    def other(self, way: str) -> Tensor:
        def on() -> None:
            self.theirs.load_lora_adapter(load_file(self.file), prefix="unet", adapter_name="style")
            self.theirs.set_adapters(["style"], [STRENGTH])
            if way == "diffusers, fused":
                self.theirs.fuse_lora(adapter_names=["style"])

        def off() -> None:
            if way == "diffusers, fused":
                self.theirs.unfuse_lora()
            self.theirs.unload_lora()

        self.timed(way, "on", on)
        result = self.timed(way, "step", self.ask_theirs)
        self.timed(way, "off", off)
        return result

    def timed(self, way: str, column: str, do: Callable[[], object]) -> object:
        found: list[object] = []
        start = time.perf_counter()
        if column == "on":
            self.measured[way]["MB"].append(peak_memory(lambda: found.append(do())) / 1e6)
        else:
            found.append(do())
        self.measured[way][column].append(time.perf_counter() - start)
        return found[0]

    def round(self) -> None:
        """Every way once; raises AssertionError where they do not draw the same."""
        drawn = []
        for way in (*RIVALS, *reversed(RIVALS.values())):
            changed = self.ours if way in RIVALS else self.theirs
            before = [value.clone() for value in some_of(changed)]
            drawn.append(self.mine(way) if way in RIVALS else self.other(way))
            if way in RIVALS:
                self.timed(way, "off", lambda: None)  # the view is dropped
            same = all(torch.equal(one, value) for one, value in zip(before, some_of(changed), strict=True))
            self.measured[way]["back"].append(same)
        for one in drawn[1:]:
            assert (one - drawn[0]).abs().max() <= 2e-2 * drawn[0].abs().max(), "the ways draw different things"

    def rows(self) -> list[list[str]]:
        rows = []
        for way in (*RIVALS, *RIVALS.values()):
            mine = self.measured[way]
            row = [way, *(f"{median(mine[column]):.2f}" for column in ("on", "step", "off"))]
            other = self.measured[RIVALS[way]] if way in RIVALS else None
            for columns in (("on", "off"), ("step",)):
                row.append(f"{median(ratios(mine, other, columns)):.2f}" if other else "")
            rows.append([*row, f"{median(mine['MB']):.0f}", "yes" if all(mine["back"]) else "no"])
        return rows


def some_of(network: nn.Module) -> list[Tensor]:
    """Some of the weights that the LoRA changes."""
    return [value for name, value in network.named_parameters() if name.endswith("attn1.to_q.weight")]


def ratios(mine: dict[str, list[float]], other: dict[str, list[float]], columns: tuple[str, ...]) -> list[float]:
    """Ours over theirs in each round, columns added."""
    a, b = ([sum(values) for values in zip(*(each[name] for name in columns), strict=True)] for each in (mine, other))
    return [x / y for x, y in zip(a, b, strict=True)]


def spec_of(depth: int) -> Spec:
    spec = family("sdxl").spec
    layers = tuple(min(one, depth) for one in spec.unet.depth)
    return replace(spec, unet=replace(spec.unet, depth=layers, middle_depth=min(spec.unet.middle_depth, depth)))


def write_lora(network: nn.Module, rank: int, path: Path, dtype: torch.dtype) -> None:
    """A LoRA of every product of the transformers, under diffusers' names."""
    tensors = {}
    for name, module in network.named_modules():
        if isinstance(module, Linear) and "attentions" in name:
            out, cin = module.weight.shape
            tensors[f"unet.{name}.lora_A.weight"] = torch.randn(rank, cin, dtype=dtype) / cin**0.5
            tensors[f"unet.{name}.lora_B.weight"] = torch.randn(out, rank, dtype=dtype) * 0.02
    save_file(tensors, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in (("depth", 2), ("rank", 64), ("side", 16), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    dtype, spec = getattr(torch, given.dtype), spec_of(given.depth)
    with torch.device("meta"):
        ours = UNet(spec.unet)
        theirs = UNet2DConditionModel.from_config(unet_to(spec.unet, 128))
    twins(ours, theirs)
    for network in (ours, theirs):
        network.to(dtype)
    theirs.load_state_dict(ours.state_dict(), assign=True)
    cond = Cond(torch.randn(2, 77, 2048, dtype=dtype), torch.randn(2, 1280, dtype=dtype), torch.full((2, 6), 512.0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "style.safetensors"
        write_lora(ours, given.rank, file, torch.float16)
        bench = Bench(spec, ours, theirs, file, cond, torch.randn(2, 4, given.side, given.side, dtype=dtype))
        for k in range(given.rounds + 1):
            bench.round()
            if k == 0:
                bench.measured.clear()  # the first warms up
        size = sum(value.nbytes for value in ours.parameters()) / 1e6
        title = f"LoRA of rank {given.rank} ({file.stat().st_size / 1e6:.0f} MB) on the XL U-Net, depth {given.depth}, "
        columns = ["", "on (s)", "step (s)", "off (s)", "on + off / theirs", "step / theirs", "peak MB", "back"]
        show(f"{title}{given.dtype}, {size:.0f} MB", columns, bench.rows())


if __name__ == "__main__":
    main()
