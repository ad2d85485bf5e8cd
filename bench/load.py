"""Loading a full-size 1.5 of random weights: peak memory against the size of the weights, ours beside diffusers.

    python bench/load.py [--stored float32] [--folder TEMPORARY]      needs 5 GB of disk and of memory

Every load is a process of its own; the files have just been written, so most of them lie in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from common import show
from sfumato.families import family
from sfumato.weights import safetensors_file
from sfumato.weights.save import save_folder

SD1 = family("sd1")
LOADED_AS = {"float32": ["float32"], "float16": ["float16", "float32"]}

# What a child runs, with a path, a dtype and a diffusers folder (its weights may be gone) as arguments. A mapped file
# takes no memory until it is read, so every weight is read once, as drawing would.
CHILD = """
import json, sys, time, torch
{imports}
path, dtype, config = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3]
start = time.perf_counter()
model = {load}
for part in ({parts}):
    for weight in part.parameters():
        weight.max()
seconds = time.perf_counter() - start
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([seconds, peak]))
"""
OURS = CHILD.format(
    imports="from sfumato.weights.load import load_parts",
    load="load_parts(path, dtype=dtype)",
    parts="model.unet, model.vae, model.text",
)
THEIRS = CHILD.format(
    imports="from diffusers import StableDiffusionPipeline as Pipeline",
    load="(Pipeline.from_pretrained(path, torch_dtype=dtype, local_files_only=True) if path == config else"
    " Pipeline.from_single_file(path, config=config, torch_dtype=dtype, local_files_only=True))",
    parts="model.unet, model.vae, model.text_encoder",
)


def write_folder(path: Path, noise: Tensor, dtype: torch.dtype) -> None:
    networks = SD1.build(SD1.spec)
    for network in networks.values():
        state = {name: noise[: like.numel()].view(like.shape) for name, like in network.state_dict().items()}
        network.load_state_dict(state, assign=True)
    save_folder(path, SD1.spec, networks, dtype=dtype)


def write_file(path: Path, noise: Tensor, dtype: torch.dtype) -> None:
    shapes = SD1.expected(SD1.spec, "original")
    tensors = {name: noise[: prod(shape)].view(shape) for name, shape in shapes.items()}
    if path.suffix == ".ckpt":
        torch.save({"state_dict": {name: tensor.to(dtype, copy=True) for name, tensor in tensors.items()}}, path)
    else:
        safetensors_file.write(path, {name: (shape, dtype) for name, shape in shapes.items()}, tensors.__getitem__)


def load(code: str, path: Path, dtype: str, config: Path) -> tuple[float, int]:
    """Seconds and peak bytes of a child that loads the model."""
    command = [sys.executable, "-c", code, str(path), dtype, str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"loading {path.name} failed: {done.stderr.strip().splitlines()[-1]}")
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--stored", choices=LOADED_AS, help="the precision of the files; else one after the other")
    arguments.add_argument("--folder", help="where the files are made, and removed")
    options = arguments.parse_args()
    noise, rows = torch.randn(1 << 26), []
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        config = Path(temporary, "folder")
        for stored in [options.stored] if options.stored else LOADED_AS:
            for path in (config, Path(temporary, "model.safetensors"), Path(temporary, "model.ckpt")):
                (write_folder if path == config else write_file)(path, noise, getattr(torch, stored))
                weights = list(path.rglob("*.safetensors")) if path.is_dir() else [path]
                size = sum(file.stat().st_size for file in weights)
                for loaded in LOADED_AS[stored]:
                    size_loaded = size * getattr(torch, loaded).itemsize // getattr(torch, stored).itemsize
                    for name, code in ("sfumato", OURS), ("diffusers", THEIRS):
                        seconds, peak = load(code, path, loaded, config)
                        figures = [f"{seconds:.1f}", f"{peak / 1e9:.2f}", f"{peak / size_loaded:.2f}"]
                        rows.append([f"{path.name}, {stored}", loaded, name, *figures])
                for file in weights:
                    file.unlink()
    show("Loading a full-size 1.5", ["file", "as", "by", "seconds", "peak GB", "peak over loaded size"], rows)


if __name__ == "__main__":
    main()
