"""From the start of a process to a picture of the embedded model: 128 pixels, 20 steps.

python bench/demo.py [--rounds 5] [--model FOLDER]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from common import interleaved, show


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--model", help="another model than the embedded one")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        picture = ["-m", "sfumato", "txt2img", "a red heart", "--seed", "1", "--steps", "20", "--size", "128x128"]
        picture += ["--out", str(Path(folder, "demo.png")), *(["--model", options.model] if options.model else [])]
        commands = {
            "a picture": picture,
            "its import of torch": ["-c", "import torch"],
            "--help": ["-m", "sfumato", "--help"],
        }
        run = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rivals = {name: partial(run, [sys.executable, *command]) for name, command in commands.items()}
        times = interleaved(rivals, options.rounds)
    rows = [[name, *(f"{statistics.median(one):.2f}" for one in (time.wall, time.cpu))] for name, time in times.items()]
    show("A fresh process each", ["", "seconds", "processor seconds"], rows)


if __name__ == "__main__":
    main()
