"""How threads that compute behave: what must be said before torch is imported, and how many of them fit a network.

This module imports no torch.
"""

from __future__ import annotations

import os

# OpenMP's threads wait for the next piece of work in a busy loop unless told otherwise. Beside another busy process
# they take the processor from the thread that they wait for. OMP_WAIT_POLICY is read by GNU's and LLVM's OpenMP,
# KMP_BLOCKTIME (milliseconds of busy waiting) by Intel's and LLVM's.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
MAX_THREADS = 1024  # of far more torch makes a crash, not an error
SMALL, FEW = 50_000_000, 2  # a network of fewer parameters is small; more threads than a few only wait for each other
LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")


def wait_passively() -> None:
    """Let threads sleep while they wait, in this process and in those that it starts, unless the user said otherwise.

    OpenMP reads this once, when torch is imported. Called later, it holds for the processes that are started.
    """
    if not any(name in os.environ for name in (*PASSIVE, "GOMP_SPINCOUNT")):
        os.environ.update(PASSIVE)


def fitting_threads(parameters: int, now: int) -> int:
    """Returns how many threads a network of so many `parameters` should have, where torch would take `now`.

    What the user set by an environment variable stays.
    """
    if parameters >= SMALL or any(name in os.environ for name in LIMITS):
        return now
    return min(now, FEW)
