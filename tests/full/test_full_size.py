"""A full-size 1.5 of random weights, written after the reference lists of names and shapes, not after our own map."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from math import prod
from pathlib import Path

import pytest
import torch

from sfumato.weights import safetensors_file

COMPONENTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}

LOAD_AND_STEP = """
import json, sys, torch
from sfumato.diffusion.cond import Cond
from sfumato.weights.load import load_parts

torch.set_num_threads(1)
parts = load_parts(sys.argv[1])
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
with torch.inference_mode():
    noise = parts.unet(torch.randn(2, 4, 8, 8), torch.tensor([999.0, 1.0]), Cond(torch.randn(2, 77, 768)))
sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in parts.networks.items()}
print(json.dumps({"peak": peak, "finite": bool(noise.isfinite().all()), "shape": noise.shape, "sizes": sizes}))
"""


@pytest.fixture(params=["original", "diffusers"])
def model(
    request: pytest.FixtureRequest, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # else most of the time goes to waiting for the disk
    noise = 0.02 * torch.randn(1 << 26, generator=torch.Generator().manual_seed(0))

    def manifest(name: str) -> dict:
        with gzip.open(golden / "manifests" / f"{name}.json.gz") as file:
            return json.load(file)

    def write(path: Path, keys: dict) -> None:
        entries = {name: (tuple(shape), getattr(torch, dtype)) for name, (shape, dtype) in keys.items()}
        safetensors_file.write(path, entries, lambda name: noise[: prod(entries[name][0])].view(entries[name][0]))

    if request.param == "original":
        described = manifest("original/sd1")
        path = tmp_path / "model.safetensors"
        write(path, described["keys"] | described["legacy_extra_keys"])
    else:
        path = tmp_path / "model"
        configs = {"model_index.json": {name: ["", ""] for name in (*COMPONENTS, "scheduler")}}
        configs["scheduler/scheduler_config.json"] = SCHEDULER
        for component, stem in COMPONENTS.items():
            described = manifest(f"diffusers/sd1__{component}")
            configs[f"{component}/config.json"] = described["config_json"]
            write(path / component / f"{stem}.safetensors", described["keys"])
        for name, content in configs.items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(json.dumps(content))
    yield path
    shutil.rmtree(tmp_path)  # gigabytes, which pytest would keep for three runs


@pytest.mark.slow
def test_loads_in_little_more_memory_than_its_file_and_steps(model: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOAD_AND_STEP, model], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sizes"] == {"unet": 859_520_964, "vae": 83_653_863, "text": 123_060_480}
    assert found["finite"] and found["shape"] == [2, 4, 8, 8]
    files = [model] if model.is_file() else model.rglob("*.safetensors")
    assert found["peak"] <= 1.3 * sum(file.stat().st_size for file in files)
