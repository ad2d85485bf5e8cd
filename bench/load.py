"""Loading models of every family, of random weights: peak memory against the size of the weights, beside diffusers.

    python bench/load.py [FAMILY ...] [--stored float32] [--folder TEMPORARY]      needs 14 GB of disk, 8 GB of memory

Files are of full size, but for T5 (2 of 24 layers) and the transformer of 3.5 large (8 of 38 blocks), whose width is
full. Every load is a process of its own; the files have just been written, so most of them lie in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from common import show
from sfumato.checkpoint.formats import safetensors_file
from sfumato.families import FAMILIES, Family, family
from sfumato.loading.save import save_folder
from sfumato.spec import Spec

LAYERS, BLOCKS = 2, 8  # of a T5 and of a transformer that are too large for this

# What a child runs, with a path, a dtype and a diffusers folder (its weights may be gone) as arguments. A mapped file
# takes no memory until it is read, so every weight is read once, as drawing would.
CHILD = """
import json, sys, time, torch
{imports}
path, dtype, config = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3]
start = time.perf_counter()
model = {load}
for part in {parts}:
    for weight in part.parameters():
        weight.max()
seconds = time.perf_counter() - start
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, peak]))
"""
OURS = CHILD.format(
    imports="from sfumato.loading.load import load_parts",
    load="load_parts(path, dtype=dtype)",
    parts="model.networks.values()",
)
THEIRS = CHILD.format(
    imports="import diffusers",
    load="(diffusers.DiffusionPipeline.from_pretrained(path, torch_dtype=dtype, local_files_only=True)"
    " if path == config else"
    " getattr(diffusers, json.load(open(config + '/model_index.json'))['_class_name'])"
    ".from_single_file(path, config=config, torch_dtype=dtype, local_files_only=True))",
    parts="[part for part in model.components.values() if isinstance(part, torch.nn.Module)]",
)


def reduced(spec: Spec) -> Spec:
    """The model with fewer layers of the same width, where the whole is too large."""
    if spec.text_3 is None or spec.transformer is None:
        return spec
    depth = BLOCKS if spec.transformer.hidden > 2000 else spec.transformer.depth
    return replace(spec, text_3=replace(spec.text_3, layers=LAYERS), transformer=replace(spec.transformer, depth=depth))


def write_folder(path: Path, owner: Family, spec: Spec, noise: Tensor, dtype: torch.dtype) -> None:
    networks = owner.build(spec)
    for network in networks.values():
        state = {name: noise[: like.numel()].view(like.shape) for name, like in network.state_dict().items()}
        network.load_state_dict(state, assign=True)
    save_folder(path, spec, networks, dtype=dtype)


def write_file(path: Path, owner: Family, spec: Spec, noise: Tensor, dtype: torch.dtype) -> None:
    shapes = owner.expected(spec, "original")
    heads = {name: (shape, dtype) for name, shape in shapes.items()}
    safetensors_file.write(path, heads, lambda name: noise[: prod(shapes[name])].view(shapes[name]))


def load(code: str, path: Path, dtype: str, config: Path, size: int) -> list[str]:
    """Seconds, peak memory and its ratio to `size`, of a child that loads the model."""
    command = [sys.executable, "-c", code, str(path), dtype, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{path.name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return ["failed", "", ""]
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return [f"{seconds:.1f}", f"{peak / 1e9:.2f}", f"{peak / size:.2f}"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("families", nargs="*", help="names of families; else all of them")
    arguments.add_argument("--stored", choices=("float16", "float32"), default="float16", help="type of the files")
    arguments.add_argument("--loaded", choices=("float16", "float32"), help="type in memory; else that of the files")
    arguments.add_argument("--folder", help="where the files are made, and removed")
    options = arguments.parse_args()
    stored, loaded = options.stored, options.loaded or options.stored
    noise, rows = torch.empty(1 << 27, dtype=torch.float16).normal_(), []
    for name in options.families or [one.name for one in FAMILIES]:
        owner = family(name)
        spec = reduced(owner.spec)
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            config = Path(temporary, "folder")
            for path, write in ((config, write_folder), (Path(temporary, "file.safetensors"), write_file)):
                write(path, owner, spec, noise, getattr(torch, stored))
                weights = list(path.rglob("*.safetensors")) if path.is_dir() else [path]
                size = sum(file.stat().st_size for file in weights)
                size = size * getattr(torch, loaded).itemsize // getattr(torch, stored).itemsize
                for by, code in ("sfumato", OURS), ("diffusers", THEIRS):
                    figures = load(code, path, loaded, config, size)
                    rows.append([f"{name}, {path.stem}", f"{size / 1e9:.2f}", by, *figures])
                    print(*rows[-1], sep="  ", file=sys.stderr)
                for file in weights:
                    file.unlink()
    columns = ["model", "GB", "by", "seconds", "peak GB", "peak over size"]
    show(f"Loading {stored} files as {loaded}", columns, rows)


if __name__ == "__main__":
    main()
