"""Manifests: a name, a shape or a count that is off is named."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PART = Path(__file__).parents[1] / "golden/manifests"


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """`manifest("original/sd1", change)`: a folder with that manifest, changed."""

    def make(name: str, change: Callable[[dict[str, Any]], None]) -> Path:
        path = tmp_path / f"manifests/{name}.json.gz"
        path.parent.mkdir(parents=True)
        shutil.copyfile(PART / f"{name}.json.gz", path)
        data = json.loads(gzip.decompress(path.read_bytes()))
        change(data)
        path.write_bytes(gzip.compress(json.dumps(data).encode()))
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("original/sd1", lambda d: d["keys"].update({"model.diffusion_model.new": [[3], "float32"]}), "new"),
        ("original/sd1", lambda d: d["keys"].pop("first_stage_model.quant_conv.bias"), "quant_conv.bias"),
        ("original/sd1", lambda d: d["parameter_counts"].update(unet=1), "unet: 859520964 parameters, not 1"),
        ("original/sd1", lambda d: d["persistent_buffers"].remove("betas"), "betas"),
        ("original/sd1_model_ema", lambda d: d["name_map"].popitem(), "renamed"),
        ("diffusers/sd1__vae", lambda d: d["keys"].update({"quant_conv.bias": [[9], "float32"]}), "(9,) in the file"),
    ],
)
def test_every_difference_is_a_mismatch(verify, manifest, name: str, change: Callable, said: str) -> None:
    (row,) = verify(manifest(name, change)).rows.values()
    assert not row["passed"] and row["mismatches"] == 1
    assert said in row["reason"]


def test_a_config_of_another_network_is_found(verify, manifest) -> None:
    folder = manifest("diffusers/sd1__unet", lambda d: d["config_json"].update(cross_attention_dim=1024))
    (row,) = verify(folder).rows.values()
    assert not row["passed"] and row["mismatches"] > 30
