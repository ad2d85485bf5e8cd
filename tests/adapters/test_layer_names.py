"""The names that trainers give to layers, and the family that a file was made for."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.adapters import lora
from sfumato.adapters.components import by_layer, split
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.layer_names import layer_names
from sfumato.adapters.made_for import made_for
from sfumato.adapters.merged import merged
from sfumato.adapters.use import Use
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.spec import Spec
from tiny.adapters import random_lora

GOLDEN = Path(__file__).parents[1] / "golden" / "lora"
RELEASES = ("sd1", "sd2", "sdxl", "sdxl_refiner", "sd3_medium", "sd35_medium", "sd35_large")
# What trainers write before our names of a network that draws, and before the original ones.
OURS = {
    "kohya": "lora_unet_", "OneTrainer": "lora_transformer_", "SimpleTuner": "lycoris_", "diffusers": "{part}.",
    "peft": "base_model.model.", "bare": "",
}  # fmt: skip
THEIRS = {"kohya": "lora_unet_", "ComfyUI": "diffusion_model.", "saved model": "model.diffusion_model."}
TEXTS = {
    "text": ("lora_te1_", "text_encoder.", "clip_l.transformer.", "text_encoders.clip_l.transformer."),
    "text_2": ("lora_te2_", "text_encoder_2.", "clip_g.transformer."),
}


def layers(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def written(prefix: str, name: str) -> str:
    """A layer's name as a trainer writes it: after `lora_unet_` and its like without dots."""
    return prefix + (name.replace(".", "_") if prefix.endswith("_") else name)


@pytest.mark.parametrize("release", RELEASES)
def test_every_layer_is_known_by_every_name(release: str, shrunk) -> None:
    spec = shrunk(release)
    model = family(release)
    networks, known = model.build(spec), layer_names(spec)
    network, layout = networks[model.denoiser], model.layouts["original"]
    for prefix in OURS.values():
        for name in layers(network):
            found = known.find(written(prefix.format(part=model.denoiser), name), "weight")
            assert found is not None and found.rule.ours == (f"{name}.weight",), (prefix, name)
    for prefix in THEIRS.values():
        for rule in layout.rules(spec, model.denoiser, network.state_dict()):
            name, _, tensor = rule.theirs[0].removeprefix(layout.prefixes[model.denoiser]).rpartition(".")
            if tensor == "weight" and "." in name:
                found = known.find(written(prefix, name), "weight")
                assert found is not None and found.rule.ours == rule.ours, (prefix, name)
    for part, prefixes in TEXTS.items():
        for prefix in prefixes if part in networks else ():
            for name in layers(networks[part]):
                found = known.find(written(prefix, name), "weight")
                assert found is not None and found.part == part and found.rule.ours == (f"{name}.weight",), prefix


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json.gz")), ids=lambda path: path.name)
def test_full_size_files_are_of_their_family(path: Path) -> None:
    content = json.loads(gzip.decompress(path.read_bytes()))
    expected = "sdxl" if "sdxl" in path.name else "sd2" if "sd21" in path.name else "sd1"
    for title in ("keys", "keys_peft_format", "keys_diffusers_format"):
        if title in content:
            spec = made_for({name: tuple(shape) for name, (shape, _) in content[title].items()}, {})
            assert spec is not None and spec.family == expected


def test_families_of_other_widths_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr("sfumato.adapters.made_for.layer_names", lambda spec: built.append(spec.family))
    layer = {"lora_unet_x.lora_up.weight": (336, 4), "lora_unet_x.lora_down.weight": (4, 336)}
    assert made_for({**layer, "lora_unet_y.lora_up.weight": (), "lora_unet_y.lora_down.weight": (0,)}, {}) is None
    assert built == []


def test_names_of_files_are_split() -> None:
    for name, expected in (
        ("lora_unet_mid.lora_up.weight", ("lora_unet_mid", "up")),
        ("unet.mid.to_q.lora_A.weight", ("unet.mid.to_q", "down")),
        ("unet.mid.to_q.lora_A.default.weight", ("unet.mid.to_q", "down")),
        ("unet.mid.to_q.lora.down.weight", ("unet.mid.to_q", "down")),
        ("text_encoder.q_proj.lora_linear_layer.up.weight", ("text_encoder.q_proj", "up")),
        ("mid.attn1.processor.to_q_lora.down.weight", ("mid.attn1.to_q", "down")),
        ("mid.attn1.processor.to_out_lora.up.weight", ("mid.attn1.to_out.0", "up")),
        ("lycoris_mid.lokr_w1", ("lycoris_mid", "lokr_w1")),
        ("mid.to_q.lora_magnitude_vector", ("mid.to_q", "rows")),
        ("model.mid.weight", None),
    ):
        assert split(name) == expected, name
    layers, others = by_layer({"a.weight": 0, "a.on_input": 0, "b.weight": 0})
    assert layers == {"a": {"factor": "a.weight", "on_input": "a.on_input"}} and others == ["b.weight"]


def saved(folder: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> AdapterFile:
    save_file(tensors, folder / "adapter_model.safetensors", metadata)
    return AdapterFile.open(folder / "adapter_model.safetensors")


def factors(out: int, cin: int, rank: int = 2) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    yield from (torch.randn(shape, generator=generator) for shape in ((out, rank), (rank, cin)))


def test_three_layers_that_a_file_joins_get_their_parts(shrunk, random_model, tmp_path: Path) -> None:
    spec: Spec = shrunk("sd35_medium")
    network = random_model(spec).networks["transformer"]
    width = spec.transformer.hidden
    up, down = factors(3 * width, width)
    last = f"lora_unet_joint_blocks_{spec.transformer.depth - 1}_context_block_adaLN_modulation_1"
    up2, down2 = factors(2 * width, width)
    file = saved(
        tmp_path,
        {
            "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_up.weight": up,
            "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight": down,
            f"{last}.lora_up.weight": up2,
            f"{last}.lora_down.weight": down2,
        },
    )
    changed = merged(network, "transformer", (Use(file),), spec)
    before, after = network.transformer_blocks[0].attn, changed.transformer_blocks[0].attn
    whole = up @ down
    for part, name in enumerate(("to_q", "to_k", "to_v")):
        difference = after.get_submodule(name).weight - before.get_submodule(name).weight
        torch.testing.assert_close(difference, whole[part * width : (part + 1) * width], rtol=1e-4, atol=1e-5)
    one, other = (net.transformer_blocks[-1].norm1_context.linear.weight for net in (network, changed))
    swapped = torch.cat((up2 @ down2).chunk(2)[::-1])
    torch.testing.assert_close(other - one, swapped, rtol=1e-4, atol=1e-5)


def test_alphas_of_peft_stand_beside_the_tensors(random_model, tiny_spec: Spec, tmp_path: Path) -> None:
    network = random_model(tiny_spec).networks["unet"]
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    width = network.get_submodule(name).in_features
    up, down = factors(width, width)
    tensors = {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}

    def scale(file: AdapterFile) -> float:
        (change,) = lora.read(file, tiny_spec).changes
        return change.delta.scale

    assert scale(saved(tmp_path, tensors)) == 1
    header = {"unet.lora_alpha": 8, "unet.r": 2, "unet.alpha_pattern": {}}
    assert scale(saved(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(header)})) == 4
    header["unet.alpha_pattern"] = {"attn1.to_q": 6}
    assert scale(saved(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(header)})) == 3
    header |= {"unet.alpha_pattern": None, "unet.use_rslora": True}
    rooted = scale(saved(tmp_path, tensors, {"lora_adapter_metadata": json.dumps(header)}))
    assert rooted == pytest.approx(8 / 2**0.5)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 5, "r": 2}))
    lora.read.cache_clear()
    assert scale(saved(tmp_path, tensors)) == 2.5
    assert scale(saved(tmp_path, tensors | {f"unet.{name}.alpha": torch.tensor(1.0)})) == 0.5


@pytest.fixture
def tiny_spec(shrunk) -> Spec:
    return shrunk("sd1")


def test_what_does_not_fit_is_said(tiny_spec: Spec, random_model, tmp_path: Path) -> None:
    network = random_model(tiny_spec).networks["unet"]
    right = random_lora(network)
    name = next(iter(right)).rpartition(".lora_up")[0]

    def check(tensors: dict[str, Tensor], spec: Spec = tiny_spec, partial: bool = False) -> None:
        lora.read(saved(tmp_path, tensors), spec).check(spec, partial)

    check(right)
    one = right | {"lora_unet_no.lora_up.weight": torch.ones(4, 1), "lora_unet_no.lora_down.weight": torch.ones(1, 4)}
    with pytest.raises(SfumatoError, match=r"1 of its \d+ layers are not in Stable .* \(lora_unet_no\).*lora_partial"):
        check(one)
    check(one, partial=True)
    wide = right | {f"{name}.lora_up.weight": torch.ones(7, 2)}
    with pytest.raises(SfumatoError, match=f"1 of its .*{name}"):
        check(wide)
    none = {key.replace("lora_unet_", "lora_unet_x"): value for key, value in right.items()}
    with pytest.raises(SfumatoError, match=r"none of its .* layers is in Stable Diffusion 1"):
        check(none, partial=True)
    with pytest.raises(SfumatoError, match="no adapter that is known here"):
        saved(tmp_path, {"a.b.weight": torch.ones(2, 2, 2), "a.c.weight": torch.ones(2, 2, 2)})


def test_a_file_for_another_family_is_named(tmp_path: Path) -> None:
    content = json.loads(gzip.decompress((GOLDEN / "kohya_sdxl_rank4.json.gz").read_bytes()))
    tensors = {
        name: torch.zeros(shape, dtype=torch.float8_e4m3fn)
        for name, (shape, _) in content["keys"].items() if "attn1_to_q" in name or "lora_te2" in name
    }  # fmt: skip
    file = saved(tmp_path, tensors)
    for said, spec in (({}, family("sd1").spec), ({"ss_base_model_version": "sdxl_base_v1-0"}, family("sd2").spec)):
        with pytest.raises(SfumatoError, match=r"made for Stable Diffusion XL, this is Stable Diffusion [12]"):
            lora.read(replace(file, metadata=said), spec).check(spec)
