"""What the benchmarks share: random weights, fair timing of rivals in one process, peak memory, a floor, a table."""

from __future__ import annotations

import ctypes
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sfumato.nets.layers import linear

SAME = 1e-3  # how far one number in float32 may be off, of the largest
SIDE = 2048  # of the matrices whose product shows what the processor can do
COLUMNS = [
    "", "seconds", "diffusers", "ratio", "processor time", "peak MB", "diffusers", "over the floor", "diffusers",
]  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Seconds of each round: on the clock, and of the processor (all threads, and processes that have ended)."""

    wall: list[float]
    cpu: list[float]

    def ratio(self, other: Timing) -> tuple[float, float]:
        """Median over the rounds of self / other: on the clock, and of the processor."""
        pairs = ((self.wall, other.wall), (self.cpu, other.cpu))
        wall, cpu = (statistics.median(a / b for a, b in zip(*pair, strict=True)) for pair in pairs)
        return wall, cpu


def processor_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def interleaved(rivals: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time every rival once a round, after one untimed round.

    Other work on the machine slows neighbours in time alike, so ratios within a round hold where seconds do not. The
    order alternates, so that no rival always runs first.
    """
    result = {name: Timing([], []) for name in rivals}
    for k in range(rounds + 1):
        for name in list(rivals)[:: 1 if k % 2 else -1]:
            wall, cpu = time.perf_counter(), processor_seconds()
            rivals[name]()
            if k:
                result[name].wall.append(time.perf_counter() - wall)
                result[name].cpu.append(processor_seconds() - cpu)
    return result


def random_weights(network: nn.Module) -> dict[str, Tensor]:
    """Weights that keep signals at their size, for a network on the meta device; copied from one block of noise."""
    noise = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0))

    def weight(name: str, like: Tensor) -> Tensor:
        if like.ndim == 1:
            return torch.ones(like.shape) if name.endswith("weight") else torch.zeros(like.shape)
        repeated = noise.expand(-(-like.numel() // len(noise)), -1).flatten()[: like.numel()]
        return repeated.view(like.shape) / like[0].numel() ** 0.5

    return {name: weight(name, like) for name, like in network.state_dict().items()}


def twins(ours: nn.Module, theirs: nn.Module, twice: Mapping[str, str] | None = None) -> None:
    """Give two networks on the meta device the same random weights, which both hold under the same names.

    `twice` are second names that they have for some of them.
    """
    weights = random_weights(ours)
    ours.load_state_dict(weights, strict=True, assign=True)
    theirs.load_state_dict(weights | {name: weights[one] for name, one in (twice or {}).items()}, assign=True)
    for network in (ours, theirs):
        network.eval().requires_grad_(False)


def count_flops(step: Callable[[], object]) -> int:
    """Multiplications and additions of `step`, which works on tensors without content."""
    with torch.device("meta"), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak_memory(step: Callable[[], object]) -> int:
    """Bytes that `step` takes at its peak, beyond those that were taken before (Linux)."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")

    def taken(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    before = taken("VmRSS:")
    step()
    return taken("VmHWM:") - before


def race(
    name: str,
    ours: Callable[[], Tensor],
    theirs: Callable[[], Tensor],
    flops: int,
    rounds: int,
    tolerance: float = SAME,
) -> list[str]:
    """A row of `COLUMNS`: ratios to the rival in the same round, processor time over that of `flops` in a large matrix
    product. Raises AssertionError where the two do not compute the same.
    """
    mine, other = ours(), theirs()
    assert (mine - other).abs().max() <= tolerance * other.abs().max(), f"{name}: the rivals compute different things"
    memory = [peak_memory(step) for step in (ours, theirs)]
    matrix = torch.randn(SIDE, SIDE)
    times = interleaved({"ours": ours, "theirs": theirs, "product": lambda: linear(matrix, matrix)}, rounds)
    wall, cpu = times["ours"].ratio(times["theirs"])
    products = flops / (2 * SIDE**3)  # in the time of so many matrix products the step could be done
    floors = [times[rival].ratio(times["product"])[1] / products for rival in ("ours", "theirs")]
    seconds = [statistics.median(times[rival].wall) for rival in ("ours", "theirs")]
    row = [
        name, *(f"{second:.2f}" for second in seconds), f"{wall:.2f}", f"{cpu:.2f}",
        *(f"{used / 1e6:.0f}" for used in memory), *(f"{floor:.2f}" for floor in floors),
    ]  # fmt: skip
    print(*row, file=sys.stderr, flush=True)  # the table comes minutes later
    return row


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table: the first column names, the others are figures."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
