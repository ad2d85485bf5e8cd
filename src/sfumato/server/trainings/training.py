"""What is asked for in a training, and how it stands, read from the files that the trainer leaves."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sfumato.files import atomic_write
from sfumato.server.trainings.offers import OFFERS, Asked

State = Literal["running", "stopped", "done", "failed"]
RECORD = "training.json"
MOST_POINTS = 200  # of a curve
TOLD = 4000  # bytes of the trainer's output that are looked at
LOSSES = ("loss", "val/loss")


@dataclass(frozen=True, kw_only=True)
class Training(Asked):
    """What is learnt of a model, from so many pictures with captions.

    `created` is in seconds since 1970. `ended` is how the trainer's process ended (None: that is not known), and `file`
    is the name of the result in the list of models; `problem` says why it is not there.
    """

    id: str
    user: str
    model: str
    steps: int
    pictures: int
    created: float
    ended: int | None = None
    file: str | None = None
    problem: str = ""

    def write(self, folder: Path) -> None:
        """Keeps it in its folder."""
        with atomic_write(folder / RECORD) as file:
            file.write(json.dumps(asdict(self), ensure_ascii=False).encode())

    @classmethod
    def read(cls, folder: Path) -> Training:
        """The training of a folder."""
        return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))

    def command(self, folder: Path) -> list[str]:
        """What follows `sfumato` on the command line. The same command goes on with a run that was stopped."""
        keys: dict[str, object] = {
            "loop.log_every": max(1, self.steps // MOST_POINTS), "loop.sample_every": max(1, self.steps // 6),
            "loop.validate_every": max(1, self.steps // 6), "loop.checkpoint_minutes": 2.0,
            **OFFERS[self.method].keys(self),
        }  # fmt: skip
        changed = [f"--set={name}={json.dumps(value, ensure_ascii=False)}" for name, value in keys.items()]
        places = ["--data", str(folder / "pictures"), "--out", str(run_of(folder))]
        return ["train", self.method, "--model", self.model, *places, "--steps", str(self.steps), *changed]


def run_of(folder: Path) -> Path:
    """Where the trainer writes."""
    return folder / "run"


def report_of(folder: Path) -> Path:
    """The page that a finished run leaves."""
    return run_of(folder) / "report.html"


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The losses by step so far. A line that is being written is left out."""
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in LOSSES}
    log = run_of(folder) / "log.jsonl"
    for line in log.read_bytes().splitlines(keepends=True) if log.is_file() else ():
        if line.endswith(b"\n"):
            values: dict[str, Any] = json.loads(line)
            for name, points in found.items():
                if math.isfinite(value := values.get(name, math.nan)):
                    points.append((values["step"], value))
    return found


def samples(folder: Path) -> list[int]:
    """The steps after which there is a sheet of pictures."""
    return sorted(int(path.stem.partition("-")[2]) for path in (run_of(folder) / "samples").glob("step-*.png"))


def sample_of(folder: Path, step: int) -> Path:
    """The sheet that was drawn after a step."""
    return run_of(folder) / "samples" / f"step-{step:08d}.png"


def told(folder: Path) -> list[str]:
    """The last lines that the trainer said, without the name of the folder that it works in."""
    output = folder / "output.log"
    if not output.is_file():
        return []
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - TOLD))
        text = file.read().decode(errors="replace").replace(f"{folder}/", "")
    return [line for line in text.splitlines() if line.strip()]


def state_of(training: Training, folder: Path, running: bool) -> State:
    """How a training stands; `running` says whether its process lives."""
    if running:
        return "running"
    steps = [step for step, _ in curves(folder)["loss"]]
    if report_of(folder).is_file() and steps and steps[-1] >= training.steps:
        return "done"
    return "failed" if (training.ended or 0) > 0 else "stopped"
