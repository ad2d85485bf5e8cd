"""Full-size models of random weights, written after the reference lists of names and shapes, not after our own maps."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pytest
import torch

from sfumato.checkpoint.formats import safetensors_file
from sfumato.diffusion.cond import Cond
from sfumato.families import family

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
CLIPS = {"clip_l.": "text_encoders.clip_l.transformer.", "clip_g.": "text_encoders.clip_g.transformer."}

LOAD_AND_STEP = """
import json, sys, torch
from sfumato.diffusion.cond import Cond
from sfumato.families import family
from sfumato.loading.load import load_parts

torch.set_num_threads(1)
dtype = getattr(torch, sys.argv[2])
parts = load_parts(sys.argv[1], dtype=dtype)
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
spec, cond = parts.spec, {"tokens": torch.randn(2, 77, parts.spec.backbone.context_dim)}
if spec.transformer is not None:
    cond["pooled"] = torch.randn(2, spec.transformer.pooled_dim)
elif spec.unet.vector_dim is not None:
    cond |= {"pooled": torch.randn(2, spec.unet.vector_dim - 6 * 256), "ids": torch.randn(2, 6)}
with torch.inference_mode():
    network = parts.networks[family(spec.family).denoiser]
    latents = torch.randn(2, spec.backbone.in_channels, 8, 8, dtype=dtype)
    noise = network(latents, torch.tensor([999.0, 1.0]), Cond(**cond).to("cpu", dtype))
sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in parts.networks.items()}
print(json.dumps({"family": spec.family, "peak": peak, "finite": bool(noise.isfinite().all()), "sizes": sizes}))
"""


@dataclass(frozen=True)
class Case:
    """A release by its manifest: how it is stored, how it is loaded, and how many parameters its parts have."""

    manifest: str
    family: str
    dtype: str
    sizes: dict[str, int]
    folder: bool = False

    def __str__(self) -> str:
        return f"{self.manifest}-{'folder' if self.folder else 'file'}-{self.dtype}"


SD1 = {"unet": 859_520_964, "vae": 83_653_863, "text": 123_060_480}
SD2 = {"unet": 865_910_724, "vae": 83_653_863, "text": 354_032_640}
XL = {"unet": 2_567_463_684, "vae": 83_653_863, "text": 123_060_480, "text_2": 694_659_840}
SD3 = {"vae": 83_819_683, "text": 123_650_304, "text_2": 694_659_840}
CASES = [
    Case("sd1", "sd1", "float32", SD1),
    Case("sd1", "sd1", "float32", SD1, folder=True),
    Case("sd1", "sd1", "float16", SD1),
    Case("sd21_v_768", "sd2", "float32", SD2),
    Case("sd21_v_768", "sd2", "float16", SD2),
    Case("sdxl_base", "sdxl", "float16", XL),
    Case("sd3_medium", "sd3_medium", "float16", {"transformer": 2_028_328_000, **SD3}),
    Case("sd35_medium", "sd35_medium", "float16", {"transformer": 2_243_171_520, **SD3}),
]


def manifest(golden: Path, name: str) -> dict:
    with gzip.open(golden / "manifests" / f"{name}.json.gz") as file:
        return json.load(file)


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def model(case: Case, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # else most of the time goes to waiting for the disk
    stored = getattr(torch, case.dtype)
    noise = 0.02 * torch.randn(1 << 24, generator=torch.Generator().manual_seed(0)).to(stored)

    def values(shape: tuple[int, ...]) -> torch.Tensor:
        count = prod(shape)
        return noise.expand(-(-count // len(noise)), -1).flatten()[:count].view(shape)

    def write(path: Path, keys: dict) -> None:
        entries = {name: (tuple(shape), stored) for name, (shape, _) in keys.items()}
        safetensors_file.write(path, entries, lambda name: values(entries[name][0]))

    if case.folder:
        path = tmp_path / "model"
        configs = {"model_index.json": {name: ["", ""] for name in (*COMPONENTS, "scheduler")}}
        configs["scheduler/scheduler_config.json"] = SCHEDULER
        for component, stem in COMPONENTS.items():
            described = manifest(golden, f"diffusers/{case.manifest}__{component}")
            configs[f"{component}/config.json"] = described["config_json"]
            write(path / component / f"{stem}.safetensors", described["keys"])
        for name, content in configs.items():
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(json.dumps(content))
    else:
        described = manifest(golden, f"original/{case.manifest}")
        keys = described["keys"] | described["legacy_extra_keys"]
        if "transformer" in case.sizes:  # single files of 3 with CLIP; T5 would take ten gigabytes
            texts = manifest(golden, "original/sd3_text_encoders")["keys"]
            keys |= {CLIPS[key[:7]] + key[7:]: shape for key, shape in texts.items() if key[:7] in CLIPS}
        path = tmp_path / "model.safetensors"
        write(path, keys)
    yield path
    shutil.rmtree(tmp_path)  # gigabytes, which pytest would keep for three runs


@pytest.mark.slow
def test_loads_in_little_more_memory_than_its_file_and_steps(case: Case, model: Path) -> None:
    command = [sys.executable, "-c", LOAD_AND_STEP, model, case.dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["family"] == case.family
    assert found["sizes"] == case.sizes
    assert found["finite"]
    files = [model] if model.is_file() else model.rglob("*.safetensors")
    assert found["peak"] <= 1.3 * sum(file.stat().st_size for file in files)


@pytest.mark.slow
def test_the_largest_has_the_shapes_and_the_memory_that_it_should(golden: Path) -> None:
    large = family("sd35_large")
    networks = large.build(large.spec)
    plan = {part: sum(p.numel() for p in network.parameters()) for part, network in networks.items()}
    counts = manifest(golden, "original/sd35_large")["parameter_counts"]
    assert (plan["transformer"], plan["vae"]) == (counts["mmdit"], counts["vae"])
    for dtype in (torch.float32, torch.float16, torch.float8_e4m3fn):
        gigabytes = {part: f"{count * dtype.itemsize / 1e9:.1f}" for part, count in plan.items()}
        print(f"3.5 large in {dtype}: {gigabytes} GB, {sum(plan.values()) * dtype.itemsize / 1e9:.1f} in all")
    with torch.device("meta"):
        cond = Cond(torch.empty(1, 333, 4096), torch.empty(1, 2048))
        assert networks["transformer"](torch.empty(1, 16, 128, 128), torch.empty(1), cond).shape == (1, 16, 128, 128)
