"""Tiny models: a small checkpoint of our own in the reference's form, then damaged."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.families import sd1
from sfumato.spec import CLIPTextConfig, Spec, UNetConfig, VAEConfig
from sfumato.verify import tiny
from sfumato.verify.runs import called_at, drawing

SPEC = Spec(
    family="sd1",
    title="tiny",
    unet=UNetConfig(channels=(32, 32), blocks=1, depth=(1, 0), context_dim=32, heads=8),
    vae=VAEConfig(channels=(32, 32), blocks=1),
    text=CLIPTextConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=64,
        layers=2,
        heads=4,
        max_length=9,
        bos_token_id=58,
        eos_token_id=59,
        pad_token_id=59,
    ),
)
CONFIG = {
    "config": {"params": {"unet_config": {"params": {"num_heads": SPEC.unet.heads}}}},
    "text_config": {"num_attention_heads": SPEC.text.heads},
}

DRAWN = [
    "e2e.ddim5_cfg4_eta0_latent", "e2e.plms5_cfg4_latent", "e2e.ddim5_cfg4_eta0_image", "e2e.ddim7_cfg2.5_eta0_latent",
    "e2e.euler3_cfg1_image",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`tiny/` with one model, whose reference outputs are ours."""
    torch.manual_seed(0)
    root = tmp_path / "tiny"
    root.mkdir()
    networks = sd1.networks(SPEC)
    keymap = sd1.FAMILY.keymap(SPEC, "original", networks)
    state = {}
    for part, network in networks.items():
        state |= keymap.to_theirs(part, network.state_dict())
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, root / "sd1.safetensors")
    ids = torch.randint(1, 57, (2, 9))
    ids[:, 0], ids[:, 6:] = 58, 59
    inputs = {
        "tokens": ids,
        "tokens_uncond": ids[1:],
        "image": torch.rand(1, 3, 8, 8),
        "z": torch.randn(1, 4, 4, 4),
        "z_scaled": torch.randn(1, 4, 4, 4),
        "x": torch.randn(2, 4, 4, 4),
        "t": torch.tensor([981, 17]),
        "context": torch.randn(2, 9, 32),
        "x_T": torch.randn(1, 4, 4, 4),
    }
    with torch.no_grad():
        made = dict(tiny._sd1(root / "sd1.safetensors", CONFIG, inputs))
        draw = made.pop("drawn")
        outputs = {name: ours() for name, ours in made.items()} | {name: drawing(name, draw)() for name in DRAWN}
    named = {f"in.{name}": tensor for name, tensor in inputs.items()}
    named |= {f"out.{name}": tensor for name, tensor in outputs.items()}
    save_file({name: tensor.clone().contiguous() for name, tensor in named.items()}, root / "sd1.io.safetensors")
    entry = CONFIG | {
        "weights": "sd1.safetensors",
        "io": "sd1.io.safetensors",
        "outputs": {name: {"fp32_vs_fp64_max_abs_diff": 1e-7} for name in outputs},
    }
    (root / "index.json").write_text(json.dumps({"cases": {"sd1": entry}}))
    return tmp_path


def test_every_output_of_a_complete_checkpoint(verify, folder: Path) -> None:
    outcome = verify(folder)
    assert outcome.code == 0 and not outcome.failed
    assert "tiny/sd1/unet.out" in outcome.rows and len(outcome.rows) == 11 + len(DRAWN)


def test_a_wrong_output_is_found(verify, folder: Path) -> None:
    path = folder / "tiny/sd1.io.safetensors"
    tensors = load_file(path)
    tensors["out.unet.out"][0, 0, 0, 0] += 1e-3
    del tensors["out.vae.mean"]
    save_file(tensors, path)
    outcome = verify(folder)
    assert outcome.failed == ["tiny/sd1/vae.mean", "tiny/sd1/unet.out"]
    assert "is missing" in outcome.rows["tiny/sd1/vae.mean"]["reason"]


def test_a_wrong_weight_is_found(verify, folder: Path) -> None:
    path = folder / "tiny/sd1.safetensors"
    tensors = load_file(path)
    tensors["model.diffusion_model.out.2.bias"] += 1
    save_file(tensors, path)
    failed = verify(folder).failed
    assert "tiny/sd1/unet.out" in failed and all("unet" in case or "e2e" in case for case in failed)


def test_a_checkpoint_that_cannot_be_loaded_fails_every_output(verify, folder: Path) -> None:
    path = folder / "tiny/sd1.safetensors"
    tensors = load_file(path)
    del tensors["model.diffusion_model.out.2.bias"]
    save_file(tensors, path)
    rows = verify(folder).rows
    assert len(rows) == 11 + len(DRAWN)
    assert all("1 missing (model.diffusion_model.out.2.bias)" in row["reason"] for row in rows.values())
    path.unlink()
    assert all("sd1.safetensors" in row["reason"] for row in verify(folder).rows.values())


def test_models_and_outputs_that_are_not_known_fail(verify, folder: Path) -> None:
    path = folder / "tiny/index.json"
    index = json.loads(path.read_text())
    index["cases"]["sd9"] = index["cases"]["sd1"] | {"outputs": {"out": {"fp32_vs_fp64_max_abs_diff": 0.0}}}
    index["cases"]["sd1"]["outputs"]["dreams"] = {"fp32_vs_fp64_max_abs_diff": 0.0}
    path.write_text(json.dumps(index))
    outcome = verify(folder)
    assert outcome.failed == ["tiny/sd1/dreams", "tiny/sd9/out"]
    assert outcome.rows["tiny/sd9/out"]["reason"] == "not supported yet: the model sd9"


@pytest.mark.parametrize(
    ("output", "off", "passes"),
    [("cond.vector", 7e-5, True), ("cond.vector", 9e-5, False), ("cond.crossattn", 7e-5, False)],
)
def test_sinusoids_of_sizes_have_the_tolerance_of_a_frequency(output: str, off: float, passes: bool) -> None:
    tensors = {"in.original_size": torch.tensor([[512.0, 1344.0]]), f"out.{output}": torch.zeros(3)}
    check = tiny._check(output, 2e-5, lambda: tensors, lambda: {output: lambda: torch.tensor([0.0, off, 0.0])})
    result = check()
    assert result.passed is passes and result.absolute == pytest.approx(off)
    assert ("1344" in result.reason) is (output == "cond.vector")


@pytest.mark.parametrize(
    ("inputs", "facts", "notes", "time"),
    [
        ({"t_x_T": torch.tensor([421])}, {}, "", 421),
        ({}, {"timestep": 421}, "", 421),
        ({}, {"note": "t = 421"}, "", 421),
        ({}, {}, ["e2e: the model is called with t = 421 and then with t=3"], 421),
        ({"t": torch.tensor([981, 17])}, {}, "", 17),
        ({"tokens": torch.arange(77)}, {"timestep": 5000}, "", 900),
    ],
)
def test_a_model_is_called_at_the_time_that_the_reference_says(inputs, facts, notes, time: int) -> None:
    """Of all numbers that may be the time the nearest is taken, and the usual one where nothing is said."""
    entry, reference = {"outputs": {"e2e.a": facts}, "notes": notes}, torch.tensor([float(time)])
    called = called_at("e2e.a", 900, lambda one: one.float(), entry, inputs | {"out.e2e.a": reference})
    assert called.item() == time
    assert called_at("e2e.a", 900, lambda one: one.float(), entry, inputs).item() == 900


@pytest.mark.parametrize("output", ["e2e.ddim5_cfg4_eta1_latent", "e2e.magic5_cfg4_latent", "e2e.ddim0_cfg4_latent"])
def test_runs_that_nobody_knows_fail(verify, folder: Path, output: str) -> None:
    index = folder / "tiny/index.json"
    data = json.loads(index.read_text())
    data["cases"]["sd1"]["outputs"][output] = {"fp32_vs_fp64_max_abs_diff": 1e-7}
    index.write_text(json.dumps(data))
    tensors = load_file(folder / "tiny/sd1.io.safetensors")
    save_file(tensors | {f"out.{output}": torch.zeros(1, 4, 4, 4)}, folder / "tiny/sd1.io.safetensors")
    assert verify(folder).failed == [f"tiny/sd1/{output}"]
