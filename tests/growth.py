"""How work grows with its input: instructions that are executed, so that nothing depends on the machine or its load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType
from typing import Any

MOST = 2.5  # times the work for twice the input
_TRIES = 6


def instructions(work: Callable[[], object]) -> int:
    """How many instructions of Python a call executes, those of what it calls included."""
    return _monitored(work) if sys.version_info >= (3, 12) else _traced(work)


def _monitored(work: Callable[[], object]) -> int:
    """Counts by `sys.monitoring`: since Python 3.13 traces of single instructions begin too late."""
    count, tool, event = 0, sys.monitoring.PROFILER_ID, sys.monitoring.events.INSTRUCTION

    def counted(code: CodeType, offset: int) -> None:
        nonlocal count
        count += 1

    sys.monitoring.use_tool_id(tool, "growth")
    sys.monitoring.register_callback(tool, event, counted)
    sys.monitoring.set_events(tool, event)
    try:
        work()
    finally:
        sys.monitoring.set_events(tool, 0)
        sys.monitoring.register_callback(tool, event, None)
        sys.monitoring.free_tool_id(tool)
    return count


def _traced(work: Callable[[], object]) -> int:
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def grows(work: Callable[[str], object], make: Callable[[int], str], size: int) -> float:
    """How many times the instructions are executed for an input of twice the size."""
    once, twice = (instructions(partial(work, make(n))) for n in (size, 2 * size))
    return twice / max(once, 1)


def scans(work: Callable[[str], object], make: Callable[[int], str], size: int) -> float:
    """The same of work that is done in C, such as that of regular expressions, in the processor's own time.

    The least of several ratios: what else a machine does can only raise one.
    """

    def taken(text: str) -> float:
        start = time.process_time()
        work(text)
        return time.process_time() - start

    short, long = make(size), make(2 * size)
    work(short)
    return min(taken(long) / max(taken(short), 1e-4) for _ in range(_TRIES))
