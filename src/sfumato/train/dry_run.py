"""What a run would take: its steps, what learns, and the time and memory of a step that is really made."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.train.learner import Learner
from sfumato.train.task import MethodTask

LOOKED_AT = 64  # steps of which the one with the largest pictures is measured


@dataclass(frozen=True)
class Estimate:
    """Steps of a run and the samples of each; how many numbers learn; seconds a step; bytes at most on `device`.

    On the CPU the memory is that of the whole process.
    """

    steps: int
    batch: int
    learnt: int
    seconds: float
    memory: int
    device: str


def estimate(task: MethodTask, device: torch.device) -> Estimate:
    """Makes the same step of a run twice and measures the second; nothing of the run is written.

    It is the one with the largest pictures among the first ones. Raises what a step raises, such as a device's error
    for too little memory.
    """
    cfg = task.cfg.loop
    learner = Learner(task, cfg, device)
    step = _largest(task, min(LOOKED_AT, cfg.steps), cfg.batch)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    learner.step(task.batch(step), step)
    began = time.perf_counter()
    learner.step(task.batch(step), step)  # its figures are read back, so that the device is done
    seconds = time.perf_counter() - began
    learnt = sum(one.numel() for one in learner.networks.parameters() if one.requires_grad)
    return Estimate(cfg.steps, cfg.batch, learnt, seconds, _memory(device), str(device))


def _largest(task: MethodTask, steps: int, count: int) -> int:
    """The step with the largest pictures, if the task says what it learns from; else the first."""
    pictures: Any = getattr(task, "pictures", None)
    if not hasattr(pictures, "sizes"):
        return 0

    def area(step: int) -> int:
        width, height = pictures.batch(step, count)[0].size
        return int(width * height)

    return max(range(steps), key=area)


def _memory(device: torch.device) -> int:
    """Bytes that were needed at most so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
