"""Drawing within a limit of memory: the peak of the whole process and its time, beside diffusers.

    python bench/memory.py [FAMILY=LIMIT ...] [--steps 1] [--folder TEMPORARY]      needs 7 GB of disk, 12 GB of memory

By default sd1=2.2G and sdxl=4.5G, in bfloat16 on the processor, from float16 folders of random weights of full size.
Every picture, of the family's own size, is a process of its own. diffusers draws as it does by itself, and with its
autoencoder in tiles and attention in slices, which is what it can do without a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from common import show
from sfumato.families import family
from sfumato.loading.save import MAX_FILE, Entry, folder_files, write_folder
from sfumato.text.tokenizer import CLIPTokenizer

COLUMNS = ["model, by", "limit GB", "peak GB", "seconds to load", "seconds to draw"]
CHILD = """
import json, sys, time
path, limit, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
start = time.perf_counter()
{load}
loaded = time.perf_counter()
{draw}
end = time.perf_counter()
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([peak, loaded - start, end - loaded]))
"""
OURS = CHILD.format(
    load="import sfumato; model = sfumato.load(path, dtype='bfloat16', memory=limit or None)",
    draw="model.txt2img('a red heart', steps=steps, seed=1)",
)
THEIRS = CHILD.format(
    load="import torch, diffusers; model = diffusers.DiffusionPipeline.from_pretrained(path, "
    "torch_dtype=torch.bfloat16, local_files_only=True); limit and (model.vae.enable_tiling(), "
    "model.enable_attention_slicing())",
    draw="model('a red heart', num_inference_steps=steps)",
)


def write_random(path: Path, name: str) -> None:
    """Write a family's folder of full size, of weights that keep signals at their size."""
    owner, noise = family(name), torch.randn(1 << 24, generator=torch.Generator().manual_seed(0))

    def weight(tensor: str, shape: tuple[int, ...]) -> Tensor:
        if len(shape) < 2:
            return torch.full(shape, float(tensor.endswith("weight")), dtype=torch.float16)
        repeated = noise.expand(-(-prod(shape) // len(noise)), -1).reshape(-1)[: prod(shape)]
        return (repeated.view(shape) / (prod(shape) / shape[0]) ** 0.5).half()

    entries = {
        tensor: Entry(shape, torch.float16, partial(weight, tensor, shape))
        for tensor, shape in owner.expected(owner.spec, "diffusers").items()
    }
    spec = owner.layouts["diffusers"].fit(owner.spec, {})
    write_folder(path, entries, folder_files(owner, spec, CLIPTokenizer.openai()), MAX_FILE)


def draw(name: str, code: str, path: Path, limit: str, steps: int) -> list[str]:
    """A row of `COLUMNS`, of a child that draws."""
    command = [sys.executable, "-c", code, str(path), limit, str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return [name, limit, f"ended with {done.returncode}", "", ""]
    peak, loading, drawing = json.loads(done.stdout.splitlines()[-1])
    row = [name, limit, f"{peak / 1e9:.2f}", f"{loading:.1f}", f"{drawing:.0f}"]
    print(*row, sep="  ", file=sys.stderr, flush=True)
    return row


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("models", nargs="*", default=["sd1=2.2G", "sdxl=4.5G"], help="families and limits")
    arguments.add_argument("--steps", type=int, default=1)
    arguments.add_argument("--folder", help="where the files are made, and removed")
    options = arguments.parse_args()
    rows = []
    for name, limit in (one.split("=") for one in options.models):
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            write_random(Path(temporary, name), name)
            for by, code, given in (
                ("sfumato", OURS, limit), ("sfumato, no limit", OURS, ""),
                ("diffusers, tiles and slices", THEIRS, "-"), ("diffusers", THEIRS, ""),
            ):  # fmt: skip
                rows.append(draw(f"{name}, {by}", code, Path(temporary, name), given, options.steps))
    show("Drawing one picture in bfloat16", COLUMNS, rows)


if __name__ == "__main__":
    main()
