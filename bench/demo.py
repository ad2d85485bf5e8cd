"""From the start of a process to a picture of the embedded model, on a machine as it is and beside busy processes.

python bench/demo.py [--rounds 5] [--model FOLDER] [--size 256x256] [--busy N]

The pictures beside N busy processes (by default one for each processor) are drawn three times: by threads that sleep
while they wait, which is what sfumato sees to; by threads that wait as OpenMP's do by themselves; and by one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from common import Timing, interleaved, show

SPINNING = {"GOMP_SPINCOUNT": "300000"}  # GNU OpenMP's own number where OMP_WAIT_POLICY is not set
DECIDED = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """As many processes that do nothing but count."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def run(words: list[str], environment: Mapping[str, str]) -> None:
    mine = {name: value for name, value in os.environ.items() if name not in DECIDED}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, *words], check=True, env={**mine, **environment}, **quiet)


def rows(times: Mapping[str, Timing]) -> list[list[str]]:
    return [[name, *(f"{statistics.median(one):.2f}" for one in (time.wall, time.cpu))] for name, time in times.items()]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--model", help="another model than the embedded one")
    arguments.add_argument("--size", help="of the picture, else the model's own")
    arguments.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="how many processes")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = ["-m", "sfumato", "txt2img", "a red heart", "--seed", "1", "--out", str(Path(folder, "demo.png"))]
        picture += [
            word for name in ("model", "size") if (value := getattr(options, name)) for word in (f"--{name}", value)
        ]
        pictures = {
            "a picture": partial(run, picture, {}),
            "the same, threads that spin": partial(run, picture, SPINNING),
            "the same, one thread": partial(run, [*picture, "--threads", "1"], {}),
        }
        others = {
            "its import of torch": partial(run, ["-c", "import torch"], {}),
            "--help": partial(run, ["-m", "sfumato", "--help"], {}),
        }
        alone = interleaved(pictures | others, options.rounds)
        with busy(options.busy):
            crowded = interleaved(pictures, options.rounds)
    columns = ["", "seconds", "processor seconds"]
    show("A fresh process each", columns, rows(alone))
    show(f"Beside {options.busy} busy processes", columns, rows(crowded))


if __name__ == "__main__":
    main()
