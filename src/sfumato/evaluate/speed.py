"""How long drawing takes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sfumato.errors import SfumatoError
from sfumato.pipeline.batch import Request, draw_each
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings

STEPS = 20
ROUNDS = 3
PROMPT = "a red apple"


@dataclass(frozen=True)
class Speed:
    """Seconds: from the start of a process to its first picture (None where that was not measured), a picture of STEPS
    steps in a process that runs, and a picture among many with the settings of the evaluation. `threads` drew them."""

    first_picture: float | None
    twenty_steps: float
    among_many: float
    threads: int


def twenty_steps(model: Model, settings: Settings) -> float:
    """Seconds that one picture of STEPS steps takes, alone: the shortest of ROUNDS."""
    settings = replace(settings, steps=STEPS)
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with closing(draw_each(model, [Request(PROMPT, 0)], settings)) as pictures:
            next(iter(pictures))
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def first_picture(options: Sequence[str], rounds: int) -> float | None:
    """Seconds from the start of `sfumato txt2img` with these options to its end: the shortest of `rounds`, None of no
    rounds. Raises SfumatoError where it fails."""
    seconds = []
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "sfumato", "txt2img", PROMPT, "--out", str(Path(folder) / "one.png"), *options]
        for _ in range(rounds):
            began = time.perf_counter()
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SfumatoError(f"a first picture could not be drawn: {done.stderr.strip()}")
            seconds.append(time.perf_counter() - began)
    return min(seconds, default=None)


def threads() -> int:
    """That networks are computed with."""
    return torch.get_num_threads()
