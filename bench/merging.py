"""Merging files of full size, of random weights: peak memory against the size of the files, and seconds.

python bench/merging.py [FAMILY ...] [--methods sum,ties] [--folder TEMPORARY]   (XL takes 21 GB of disk)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from common import show
from load import reduced, write_file
from sfumato.families import family
from sfumato.merging.formulas import METHODS

CHILD = """
import json, sys, time
from sfumato.merging.merge import merge
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before, start = peak(), time.perf_counter()
merge(sys.argv[3:], sys.argv[2], method=sys.argv[1], overwrite=True)
print(json.dumps([before, peak(), time.perf_counter() - start]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=["sd1"])
    parser.add_argument("--methods", default="sum,slerp,ties,dare")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        for one in args.families:
            owner = family(one)
            files = [folder / f"{letter}.safetensors" for letter in "ab"]
            for file in files:
                write_file(
                    file,
                    owner,
                    reduced(owner.spec),
                    torch.empty(1 << 27, dtype=torch.float16).normal_(0, 0.1),
                    torch.float16,
                )
            for method in args.methods.split(","):
                count = max(2, METHODS[method].models[0])
                inputs = [str(file) for file in (*files, files[1])[:count]]
                command = [sys.executable, "-c", CHILD, method, str(folder / "out.safetensors"), *inputs]
                before, peak, seconds = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
                size = files[0].stat().st_size
                rows.append([f"{one}, {method}", f"{size / 1e9:.2f}", f"{before / 1e6:.0f}", f"{peak / 1e6:.0f}",
                             f"{(peak - before) / 1e6:.0f}", f"{seconds:.0f}"])  # fmt: skip
    columns = ["", "GB a file", "MB at start", "peak MB", "MB of merging", "seconds"]
    show("Merging float16 files", columns, rows)


if __name__ == "__main__":
    main()
