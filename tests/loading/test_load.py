"""A model loads equal, in either layout and any type, or fails in one line that names what is wrong."""

import gc
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch

from sfumato.checkpoint.checkpoint import WeightFile
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.formats.fp8 import EIGHTS
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.families.layouts.ldm_vae import OLD_ATTENTION
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.loading.load import load_parts
from sfumato.loading.save import save_folder

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def refused(path: Path, text: str, **options) -> str:
    with pytest.raises(SfumatoError, match=text) as caught:
        load_parts(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("container", ["safetensors", "ckpt", "legacy"])
def test_original_layout(tiny, write, tmp_path, container, dtype):
    tensors = tiny.original(dtype)
    path = tmp_path / "model.ckpt"
    if container == "safetensors":
        path = write(tensors, metadata={"format": "pt"})
    else:
        torch.save({"state_dict": tensors, "epoch": 1}, path, _use_new_zipfile_serialization=container == "ckpt")
    parts = load_parts(path)
    assert parts.spec == tiny.spec
    assert parts.tokenizer_folder is None
    tiny.assert_equal(parts.networks, dtype)
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in parts.unet.parameters())
    assert not any(network.training for network in parts.networks.values())
    assert parts.report.layout == "original"
    assert parts.report.dtypes == (dtype,)
    assert set(parts.report.ignored) == {
        "betas",
        "cond_stage_model.transformer.text_model.embeddings.position_ids",
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("model", ["tiny", "odd"])
def test_folder_layout(request, model, tmp_path, dtype, save):
    model = request.getfixturevalue(model)
    parts = load_parts(save(model, dtype=dtype))
    assert parts.spec == model.spec
    assert parts.tokenizer_folder == tmp_path / "model/tokenizer"
    model.assert_equal(parts.networks, dtype)
    assert (parts.report.layout, parts.report.container) == ("diffusers", "folder")


def test_files_in_shards(odd, save):
    folder = save(odd, max_file_size=400_000)
    assert len(list((folder / "unet").glob("*.safetensors"))) > 3
    assert all(path.stat().st_size <= 400_000 for path in folder.rglob("*.safetensors"))
    odd.assert_equal(load_parts(folder).networks)


@pytest.mark.parametrize("dtype", [*DTYPES, None], ids=str)
def test_loads_as_the_type_that_is_asked_for(tiny, write, dtype):
    parts = load_parts(write(tiny.original(torch.float16)), dtype=dtype)
    assert {p.dtype for p in parts.unet.parameters()} == {dtype or torch.float16}


def test_tensors_that_need_no_conversion_stay_in_the_file(tiny, write):
    path = write(tiny.original())
    parts = load_parts(path)
    gc.collect()
    assert str(path) in Path("/proc/self/maps").read_text()
    tiny.assert_equal(parts.networks)
    del parts
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_training_on_a_mapped_model_leaves_the_file_alone(tiny, write):
    path = write(tiny.original())
    before = path.read_bytes()
    parts = load_parts(path)
    with torch.no_grad():
        for parameter in parts.unet.parameters():
            parameter.add_(1)
    assert path.read_bytes() == before


def test_averaged_weights_are_taken_where_they_are_asked_for(tiny, write):
    averaged = {name: tensor + 1 for name, tensor in tiny.theirs("original", ema=True).items() if "model_ema" in name}
    averaged |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5, dtype=torch.int32)}
    path = write(tiny.original() | averaged)
    tiny.assert_equal(load_parts(path).networks)
    parts = load_parts(path, ema=True)
    assert torch.equal(parts.unet.conv_in.weight, tiny.networks["unet"].conv_in.weight + 1)
    assert torch.equal(parts.vae.quant_conv.weight, tiny.networks["vae"].quant_conv.weight)
    name = next(name for name in averaged if name.endswith("conv_in.weight") or "time_embed0weight" in name)
    refused(
        write({k: v for k, v in (tiny.original() | averaged).items() if k != name}, "cut"),
        f"1 missing .{name}",
        ema=True,
    )
    refused(write(tiny.original(), "plain"), "holds no averaged", ema=True)


def test_no_averaged_weights_in_a_folder(tiny, save):
    refused(save(tiny), "holds no averaged", ema=True)


def test_text_encoder_without_its_inner_name(tiny, write):
    tensors = {name.replace("transformer.text_model.", "transformer."): t for name, t in tiny.original().items()}
    tiny.assert_equal(load_parts(write(tensors)).networks)


def test_old_names_of_the_folder_layout(tiny, write, save):
    folder = save(tiny)
    state = {name: tensor.clone() for name, tensor in tiny.networks["vae"].state_dict().items()}
    for old, new in OLD_ATTENTION.items():
        state = {name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): tensor for name, tensor in state.items()}
    write(state, "model/vae/diffusion_pytorch_model.safetensors")
    text = {name.removeprefix("text_model."): tensor for name, tensor in tiny.networks["text"].state_dict().items()}
    write(text | {"embeddings.position_ids": torch.arange(77)[None]}, "model/text_encoder/model.safetensors")
    parts = load_parts(folder)
    tiny.assert_equal(parts.networks)
    assert parts.report.ignored == ("text_encoder/embeddings.position_ids",)


def test_pickled_and_half_precision_folders(tiny, save):
    folder = save(tiny, dtype=torch.float16)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    torch.save(tiny.networks["vae"].half().state_dict(), folder / "vae/diffusion_pytorch_model.bin")
    tiny.networks["vae"].float()
    (folder / "vae/diffusion_pytorch_model.safetensors").unlink()
    tiny.assert_equal(load_parts(folder).networks, torch.float16)


def test_full_precision_is_preferred(tiny, save):
    folder = save(tiny)
    half = save(tiny, "half", dtype=torch.float16)
    for part in ("unet", "vae"):
        shutil.copy(
            half / part / "diffusion_pytorch_model.safetensors",
            folder / part / "diffusion_pytorch_model.fp16.safetensors",
        )
    assert load_parts(folder).report.dtypes == (torch.float32,)


def test_a_spec_overrules_what_shapes_cannot_show(tiny, write):
    spec = replace(tiny.spec, text=replace(tiny.spec.text, heads=4))
    parts = load_parts(write(tiny.original()), spec=spec)
    assert parts.text.text_model.encoder.layers[0].self_attn.heads == 4


def test_every_difference_is_named(tiny, write):
    tensors = tiny.original()
    del tensors["first_stage_model.quant_conv.weight"]
    tensors["model.diffusion_model.out.2.bias"] = torch.zeros(5)
    tensors["model.diffusion_model.surplus"] = torch.zeros(1)
    message = refused(write(tensors), "is not a complete Stable Diffusion 1.x")
    assert "1 missing (first_stage_model.quant_conv.weight)" in message
    assert "1 left over (model.diffusion_model.surplus)" in message
    assert "1 of another shape (model.diffusion_model.out.2.bias: (5,) in the file, (4,) expected)" in message


STRUCTURAL = [
    "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
    "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.norm1.weight",
    "model.diffusion_model.input_blocks.2.0.op.weight",
    "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight",
    "model.diffusion_model.out.2.weight",
    "first_stage_model.encoder.conv_in.weight",
    "first_stage_model.encoder.down.0.block.0.conv1.weight",
    "first_stage_model.encoder.down.1.block.0.conv1.weight",
    "first_stage_model.decoder.conv_in.weight",
    "first_stage_model.decoder.conv_out.weight",
    "first_stage_model.post_quant_conv.weight",
    "cond_stage_model.transformer.text_model.final_layer_norm.bias",
]


@pytest.mark.parametrize("name", STRUCTURAL)
def test_a_missing_tensor_is_named_even_where_it_tells_a_size(tiny, write, name):
    tensors = tiny.original()
    del tensors[name]
    refused(write(tensors), rf"1 missing \({name}\)$")


@pytest.mark.parametrize("dtype", EIGHTS, ids=str)
def test_eight_bits_are_read_exactly(tiny, write, dtype):
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tiny.original().items()}
    parts = load_parts(write(tensors), dtype=None)
    weight = tensors["model.diffusion_model.input_blocks.0.0.weight"]
    assert parts.unet.conv_in.weight.dtype == torch.float16
    assert torch.equal(parts.unet.conv_in.weight.float(), weight.float())


def test_long_lists_are_cut(tiny, write):
    tensors = {name: t for name, t in tiny.original().items() if not name.startswith("first_stage_model.decoder.up.")}
    message = refused(write(tensors), "missing")
    assert "and " in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("first_stage_model.", "holds no VAE .*; give it with --vae"),
        ("cond_stage_model.", "is a U-Net of an unknown kind without its text encoder; give a complete"),
    ],
)
def test_a_missing_part_is_named(tiny, write, prefix, text):
    refused(write({name: t for name, t in tiny.original().items() if not name.startswith(prefix)}), text)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_that_are_not_finite_are_named(tiny, write, value, dtype):
    tensors = tiny.original(dtype)
    name = "model.diffusion_model.middle_block.0.in_layers.2.weight"
    tensors[name] = tensors[name].clone()
    tensors[name][3, 2, 1, 0] = value
    refused(write(tensors), f"holds {name} with values that are not finite")


def test_what_does_not_fit_in_half_precision_is_named(tiny, write):
    tensors = tiny.original()
    tensors["model.diffusion_model.out.2.bias"] = torch.full((4,), 1e5)
    refused(write(tensors), "out.2.bias does not fit in torch.float16; load it as float32", dtype=torch.float16)


def test_weights_must_be_numbers_of_floating_point(tiny, write):
    tensors = tiny.original()
    tensors["model.diffusion_model.out.2.bias"] = torch.zeros(4, dtype=torch.int64)
    path = write(tensors)
    refused(path, "floating-point weights are expected")
    assert "out.2.bias is torch.int64" in inspect_checkpoint(path).problem


def test_what_is_no_model_is_named(write, golden):
    refused(golden / "embeddings/ti_a1111.pt", "is a textual-inversion embedding; it is a word for a model")
    refused(write({"layer1.0.conv1.weight": torch.zeros(1, 1)}), "textual-inversion|unknown kind")


CHANGES: list[tuple[str, str, object, str]] = [
    ("unet/config.json", "_class_name", "UNet3DConditionModel", "_class_name = 'UNet3DConditionModel'"),
    ("unet/config.json", "act_fn", "gelu", "act_fn = 'gelu'"),
    ("unet/config.json", "time_cond_proj_dim", "256", "time_cond_proj_dim = '256'"),
    ("unet/config.json", "down_block_types", ["DownBlock2D"], "down_block_types"),
    ("unet/config.json", "up_block_types", ["UpBlock2D", "UpBlock2D"], "up_block_types"),
    ("unet/config.json", "block_out_channels", "wide", "block_out_channels = 'wide'"),
    ("unet/config.json", "block_out_channels", [32, -64], "block_out_channels"),
    ("unet/config.json", "attention_head_dim", [8, 5], "attention_head_dim"),
    ("unet/config.json", "norm_num_groups", 7, "sizes that fit no network"),
    ("unet/config.json", "cross_attention_dim", 65, "of another shape"),
    ("vae/config.json", "_class_name", "AutoencoderTiny", "_class_name = 'AutoencoderTiny'"),
    ("vae/config.json", "scaling_factor", "x", "scaling_factor = 'x'"),
    ("vae/config.json", "down_block_types", ["AttnDownEncoderBlock2D"] * 2, "down_block_types"),
    ("text_encoder/config.json", "hidden_act", "relu", "hidden_act = 'relu'"),
    ("text_encoder/config.json", "num_hidden_layers", True, "num_hidden_layers = True"),
    ("scheduler/scheduler_config.json", "prediction_type", "flow", "prediction_type = 'flow'"),
    ("scheduler/scheduler_config.json", "trained_betas", [0.1], "trained_betas"),
    ("scheduler/scheduler_config.json", "beta_schedule", "sigmoid", "beta_schedule = 'sigmoid'"),
]


@pytest.mark.parametrize(("file", "name", "value", "text"), CHANGES)
def test_unsupported_settings_are_refused_by_name(tiny, file, name, value, text, save):
    folder = save(tiny)
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | {name: value}))
    refused(folder, text)


@pytest.mark.parametrize("name", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_a_missing_file_of_a_folder_is_named(tiny, name, save):
    folder = save(tiny)
    (folder / name).unlink()
    refused(folder, f"holds no {name}")


def test_a_missing_shard_is_named(tiny, save):
    folder = save(tiny, max_file_size=400_000)
    shard = next((folder / "unet").glob("*-00002-of-*"))
    shard.unlink()
    refused(folder, f"lacks {shard.name}, which diffusion_pytorch_model.safetensors.index.json lists")


def test_folders_cannot_reach_out(tiny, tmp_path, save):
    folder = save(tiny, max_file_size=400_000)
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    entries = json.loads(index.read_text())
    entries["weight_map"]["conv_in.weight"] = "../vae/diffusion_pytorch_model.safetensors"
    index.write_text(json.dumps(entries))
    refused(folder, "does not list weight files beside it")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no weights")
    (folder / "model_index.json").write_text("[]")
    refused(folder, "is not a JSON object")


def test_the_usual_size_may_be_a_pair(tiny, save):
    folder = save(tiny)
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"sample_size": [16, 24]}))
    (folder / "sfumato.json").unlink()
    defaults, factor = load_parts(folder).spec.defaults, tiny.spec.vae.factor
    assert (defaults.height, defaults.width) == (16 * factor, 24 * factor)


def test_a_folder_without_its_denoiser_is_named(tiny, save):
    folder = save(tiny)
    shutil.rmtree(folder / "unet")
    refused(folder, "is a diffusers folder without the weights of its U-Net or transformer; fetch")


def test_a_folder_of_another_pipeline_is_named(tiny, save):
    folder = save(tiny)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "AnotherPipeline"}))
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors, _ = safetensors_file.parse(WeightFile(path))
    kept = {name: stored.read().clone() for name, stored in tensors.items() if name != "conv_in.weight"}
    entries = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in kept.items()}
    safetensors_file.write(path, entries, kept.__getitem__)
    refused(folder, r"is a diffusers folder of an unknown kind \('AnotherPipeline'\)")


def test_one_component_is_named(tiny, save):
    folder = save(tiny)
    refused(folder / "unet", r"holds no VAE .* and no CLIP text encoder .*; give them with --vae and")
    refused(folder / "vae/diffusion_pytorch_model.safetensors", "is a VAE alone")


def test_released_folders_say_their_special_tokens_wrongly(tiny, save):
    folder = save(tiny)
    path = folder / "text_encoder/config.json"
    released = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    path.write_text(json.dumps(json.loads(path.read_text()) | released))
    assert load_parts(folder).spec == tiny.spec


PEAK_MEMORY = """
import sys, torch
from sfumato.loading.load import load_parts

torch.set_num_threads(1)
parts = load_parts(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("container", ["safetensors", "ckpt", "folder"])
def test_full_size_loads_in_little_more_memory_than_its_file(tmp_path, tokenizer_folder, monkeypatch, dtype, container):
    """A 1.5 of random weights; the process's own 0.2 GB of torch count as well."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # waiting for a slow disk is most of the time otherwise
    sd1 = family("sd1")
    noise = torch.randn(1 << 26)
    if container == "folder":
        networks = sd1.build(sd1.spec)
        for network in networks.values():
            state = {name: noise[: t.numel()].view(t.shape).to(dtype) for name, t in network.state_dict().items()}
            network.load_state_dict(state, assign=True)
        path = tmp_path / "model"
        save_folder(path, sd1.spec, networks, tokenizer_folder=tokenizer_folder, dtype=dtype)
        del networks, state
    else:
        path = tmp_path / "model.ckpt"
        shapes = sd1.expected(sd1.spec, "original")
        if container == "safetensors":
            entries = {name: (shape, dtype) for name, shape in shapes.items()}
            safetensors_file.write(path, entries, lambda name: noise[: prod(shapes[name])].view(shapes[name]))
        else:
            tensors = {name: noise[: prod(shape)].view(shape).to(dtype, copy=True) for name, shape in shapes.items()}
            torch.save({"state_dict": tensors}, path)
            del tensors
    kind = str(dtype).removeprefix("torch.")
    done = subprocess.run([sys.executable, "-c", PEAK_MEMORY, path, kind], capture_output=True, text=True, check=True)
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*.safetensors")))
    shutil.rmtree(tmp_path)  # gigabytes, which pytest would keep for three runs
    assert int(done.stdout) <= 1.15 * size


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("unet/config.json", {"norm_num_groups": 0}),
        ("vae/config.json", {"layers_per_block": 1_000_000}),
        ("text_encoder/config.json", {"num_hidden_layers": 1_000_000}),
        ("scheduler/scheduler_config.json", {"_class_name": ["DDIMScheduler"]}),
    ],
)
def test_absurd_settings_are_refused(tiny, save, file, change):
    folder = save(tiny)
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(config | change))
    with pytest.raises(SfumatoError, match=r"sizes that fit no network|a name is expected") as caught:
        load_parts(folder)
    assert "\n" not in str(caught.value)
