"""What the benchmarks share: fair timing of rivals in one process, and a table."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


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


def show(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table: the first column names, the others are figures."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
