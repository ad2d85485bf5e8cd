"""Files as other programs write them: other names, parts left out or added, distilled networks, variants of folders."""

from __future__ import annotations

import gzip
import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.families.layouts import open_clip
from sfumato.loading.convert import convert
from sfumato.loading.inspect import Inspection, inspect_checkpoint
from sfumato.loading.load import load_parts
from sfumato.loading.memory import memory_plan

UNET, TEXT = "model.diffusion_model.", "cond_stage_model."
Shapes = dict[str, tuple[int, ...]]


@pytest.fixture
def manifest(golden: Path) -> Callable[[str], Shapes]:
    """`manifest("original/sd1")`: names and shapes of a released file."""

    def manifest(name: str) -> Shapes:
        content = json.loads(gzip.decompress((golden / f"manifests/{name}.json.gz").read_bytes()))
        return {key: tuple(shape) for key, (shape, _) in content["keys"].items()}

    return manifest


def sparse(path: Path, shapes: Shapes) -> Path:
    """A file with this header whose tensors take no room on the disk."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    raw = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + end)
    return path


def state(name: str) -> dict[str, Tensor]:
    """A little single file of a family, fresh."""
    owner = family(name)
    spec = tiny.shrink(owner.spec)
    return tiny.tensors(owner, spec, tiny.random_networks(owner, spec), "original")


def usable(path: Path, **parts: object) -> Inspection:
    found = inspect_checkpoint(path, **parts)
    assert found.problem is None, found.problem
    return found


# --- the second line, however its text tower is named and cut -------------------------------------------------------


def test_a_tower_under_transformers_names_does_not_make_it_1x(tmp_path: Path, manifest) -> None:
    shapes = {name: shape for name, shape in manifest("original/sd21_v_768").items() if not name.startswith(TEXT)}
    tower = {f"{TEXT}transformer.{name}": shape for name, shape in manifest("diffusers/sd21__text_encoder").items()}
    spec = usable(sparse(tmp_path / "m.safetensors", shapes | tower)).spec
    assert (spec.family, spec.prediction, spec.unet.head_dim, spec.text.activation) == ("sd2", "v", 64, "gelu")
    assert (spec.text.layers, spec.text.skip, spec.text.heads) == (23, 1, 16)


def test_such_a_file_is_the_same_model(tmp_path: Path) -> None:
    plain = tiny.write_file(tmp_path / "plain.safetensors", state("sd2"))
    convert(plain, tmp_path / "folder", "diffusers")
    with open_checkpoint(tmp_path / "folder" / "text_encoder") as checkpoint:
        tower = {f"{TEXT}transformer.{name}": checkpoint.read(name).clone() for name in checkpoint.tensors}
    kept = {name: tensor for name, tensor in state("sd2").items() if not name.startswith(TEXT)}
    other = tiny.write_file(tmp_path / "other.safetensors", kept | tower)
    assert_same_states(load_parts(plain), load_parts(other))
    convert(other, tmp_path / "back.safetensors", "original")
    assert_same_states(load_parts(plain), load_parts(tmp_path / "back.safetensors"))


def assert_same_states(one, other) -> None:
    """The text that the U-Net reads, and what it makes of it, are the same."""
    ids = torch.randint(0, 500, (1, 77), generator=torch.Generator().manual_seed(0))
    read = []
    for parts in (one, other):
        cfg, states = parts.spec.text, parts.text(ids)
        read.append(states.skip(cfg.skip))
    assert torch.equal(*read)
    assert (one.spec.prediction, one.spec.unet) == (other.spec.prediction, other.spec.unet)
    weights = one.unet.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in other.unet.state_dict().items())


@pytest.mark.parametrize("without", [("resblocks.23.", "text_projection", "logit_scale"), ("text_projection",)])
def test_the_second_line_without_what_nothing_reads(tmp_path: Path, manifest, without: tuple[str, ...]) -> None:
    shapes = {k: v for k, v in manifest("original/sd21_v_768").items() if not any(part in k for part in without)}
    text = usable(sparse(tmp_path / "m.safetensors", shapes)).spec.text
    assert text.layers - text.skip == 22  # the last that is read, counted from 0


def test_a_cut_tower_is_read_at_its_last_layer(tmp_path: Path) -> None:
    whole = state("sd2")
    last = max(int(name.split("resblocks.")[1].split(".")[0]) for name in whole if "resblocks." in name)
    unread = (f"resblocks.{last}.", "text_projection", "logit_scale")
    cut = {name: tensor for name, tensor in whole.items() if not any(part in name for part in unread)}
    plain = load_parts(tiny.write_file(tmp_path / "plain.safetensors", whole))
    assert_same_states(plain, load_parts(tiny.write_file(tmp_path / "cut.safetensors", cut)))
    convert(tmp_path / "cut.safetensors", tmp_path / "half.safetensors", "original", dtype=torch.float16)
    assert load_parts(tmp_path / "half.safetensors").spec.text.layers == last


def test_a_refiner_whose_tower_has_transformers_names(tmp_path: Path) -> None:
    whole = state("sdxl_refiner")
    plain = tiny.write_file(tmp_path / "plain.safetensors", whole)
    convert(plain, tmp_path / "folder", "diffusers")
    with open_checkpoint(tmp_path / "folder" / "text_encoder_2") as checkpoint:
        tower = {name: checkpoint.read(name).clone() for name in checkpoint.tensors}
    kept = {name: tensor for name, tensor in whole.items() if not name.startswith("conditioner.")}
    tower = {f"conditioner.embedders.0.transformer.{name}": tensor for name, tensor in tower.items()}
    other = tiny.write_file(tmp_path / "other.safetensors", kept | tower)
    assert usable(other).family == "sdxl_refiner"
    assert_same_states(load_parts(plain), load_parts(other))


@pytest.mark.parametrize(("name", "prefix"), [("sd1", "first_stage_model."), ("sd2", "")])
def test_convolutions_of_1x1_that_are_written_as_matrices(tmp_path: Path, name: str, prefix: str) -> None:
    whole = state(name)
    alike = {key for key, one in whole.items() if key.startswith(prefix) and one.shape[2:] == (1, 1)}
    flat = {key: one[..., 0, 0] if key in alike else one for key, one in whole.items()}
    assert len(alike) > 8
    one, other = (load_parts(tiny.write_file(tmp_path / "m.safetensors", each)) for each in (whole, flat))
    convert(tmp_path / "m.safetensors", tmp_path / "folder", "diffusers")
    assert one.spec == other.spec
    for part, network in one.networks.items():
        weights = other.networks[part].state_dict()
        assert all(torch.equal(tensor, weights[key]) for key, tensor in network.state_dict().items())


def test_a_vae_without_its_encoder_is_told_so(tmp_path: Path) -> None:
    kept = {key: one for key, one in state("sd1").items() if not key.startswith("first_stage_model.encoder.")}
    with pytest.raises(SfumatoError, match="the VAE has a decoder and no encoder"):
        load_parts(tiny.write_file(tmp_path / "m.safetensors", kept))


# --- leftovers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("sd1", ["cond_stage_model.logit_scale", "cond_stage_model.text_projection", "embedding_manager.a", "lr"]),
        ("sd1", ["cond_stage_model.model.logit_scale", "cond_stage_model.model.text_projection", "optimizer.state"]),
        ("sd1", ["scale_factor", "first_stage_model.model_ema.decay", "first_stage_model.loss.logvar", "logvar"]),
        ("sdxl", ["conditioner.embedders.0.logit_scale", "conditioner.embedders.0.text_projection"]),
        ("sdxl", ["denoiser.log_sigmas"]),
        ("sd3_medium", ["model.model_sampling.sigmas", "text_encoders.clip_l.text_projection"]),
    ],
)
def test_what_lies_outside_all_networks_is_ignored(tmp_path: Path, name: str, extra: list[str]) -> None:
    path = tiny.write_file(tmp_path / "m.safetensors", state(name) | {one: torch.ones(2, 2) for one in extra})
    assert set(extra) <= set(usable(path).ignored)
    load_parts(path)


def test_what_lies_inside_a_network_is_not(tmp_path: Path) -> None:
    path = tiny.write_file(tmp_path / "m.safetensors", state("sd1") | {f"{UNET}extra.weight": torch.ones(2)})
    assert inspect_checkpoint(path).left_over == [f"{UNET}extra.weight"]
    with pytest.raises(SfumatoError, match=r"1 left over \(model.diffusion_model.extra.weight\)"):
        load_parts(path)


# --- files larger than memory, U-Nets alone, wrappers ---------------------------------------------------------------


def test_a_file_larger_than_memory_is_described(tmp_path: Path, manifest) -> None:
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    swap = 1 << 40
    path = sparse(tmp_path / "m.safetensors", manifest("original/sd1") | {"model_ema.x": ((ram + swap) // 2,)})
    assert usable(path).bytes > ram + swap
    assert memory_plan(path, "float16").parameters["unet"] == 859_520_964


def test_a_unet_alone_in_diffusers_names(tmp_path: Path, manifest) -> None:
    unet = sparse(tmp_path / "unet.safetensors", manifest("diffusers/sdxl_base__unet"))
    base = sparse(tmp_path / "base.safetensors", manifest("original/sdxl_base"))
    assert "holds no VAE" in inspect_checkpoint(unet).problem
    assert "give them with --vae and --text-encoder" in inspect_checkpoint(unet).problem
    spec = usable(unet, vae=base, text_encoders=[base]).spec
    assert spec == inspect_checkpoint(base).spec


@pytest.mark.parametrize("name", ["sd3_medium", "sd35_medium", "sd35_large"])
def test_a_transformer_alone_in_diffusers_names(tmp_path: Path, manifest, name: str) -> None:
    path = sparse(tmp_path / "m.safetensors", manifest(f"diffusers/{name}__transformer"))
    found = inspect_checkpoint(path)
    assert (found.family, "holds no VAE" in found.problem) == (name, True)


@pytest.mark.parametrize(
    "wrapper", ["module.", "state_dict.", "model.", "state_dict.module.", "_orig_mod.", "_forward_module.", "net.a."]
)
def test_what_stands_before_all_names_is_taken_off(tmp_path: Path, wrapper: str) -> None:
    wrapped = {wrapper + name: tensor for name, tensor in state("sd1").items()}
    assert usable(tiny.write_file(tmp_path / "m.safetensors", wrapped)).family == "sd1"


@pytest.mark.parametrize("beside", ["optimizer", "ema", "teacher"])
def test_of_several_models_in_a_file_the_plain_one_is_taken(tmp_path: Path, beside: str) -> None:
    other = {name: torch.zeros_like(tensor) for name, tensor in state("sd1").items()}
    torch.save({beside: other, "model": state("sd1")}, tmp_path / "m.ckpt")
    assert usable(tmp_path / "m.ckpt").family == "sd1"
    weights = load_parts(tmp_path / "m.ckpt").unet.conv_in.weight
    assert torch.equal(weights, state("sd1")[f"{UNET}input_blocks.0.0.weight"].to(weights))


def test_of_several_unknown_models_in_a_file_none_is_taken(tmp_path: Path) -> None:
    both = {f"{owner}.{name}": tensor for owner in ("student", "teacher") for name, tensor in state("sd1").items()}
    assert inspect_checkpoint(tiny.write_file(tmp_path / "m.safetensors", both)).family is None


def test_a_pipeline_saved_as_one_file(tmp_path: Path, folder: Path) -> None:
    flat = {}
    for part in ("unet", "vae", "text_encoder"):
        with open_checkpoint(folder) as checkpoint:
            names = [name for name in checkpoint.tensors if name.startswith(f"{part}/")]
            flat |= {name.replace("/", ".", 1): checkpoint.read(name).clone() for name in names}
    one = load_parts(tiny.write_file(tmp_path / "m.safetensors", flat))
    for part, network in load_parts(folder).networks.items():
        other = one.networks[part].state_dict()
        assert all(torch.equal(tensor, other[name]) for name, tensor in network.state_dict().items())


def test_a_1x_file_whose_tower_has_open_clips_names(tmp_path: Path) -> None:
    spec = replace(family("sd1").spec, text=replace(family("sd1").spec.text, projection_dim=768))
    shapes = family("sd1").expected(spec, "original")
    names = list(family("sd1").build(spec)["text"].state_dict())
    tower = open_clip.rules(names, f"{TEXT}model.")
    state = family("sd1").build(spec)["text"].state_dict()
    renamed = {
        name: tuple(tensor.shape)
        for rule in tower
        for name, tensor in zip(rule.theirs, rule.transform.to_theirs([state[one] for one in rule.ours]), strict=True)
    }
    kept = {name: shape for name, shape in shapes.items() if not name.startswith(TEXT)}
    found = usable(sparse(tmp_path / "m.safetensors", kept | renamed)).spec
    assert (found.family, found.text.layers, found.text.skip, found.text.activation) == ("sd1", 12, 1, "quick_gelu")


def test_names_that_fit_nothing_are_not_called_something_else(tmp_path: Path, manifest) -> None:
    plain = manifest("original/sd1")
    ema = {
        "model_ema." + name.removeprefix("model.").replace(".", "") if name.startswith("model.") else name: shape
        for name, shape in plain.items()
    }
    shown = {f"{UNET}input_blocks.0.0.weight": (320, 8, 3, 3)}
    cases = {
        "averaged weights": ema,
        "Marigold": manifest("original/sd21_v_768") | shown,
        "Zero123": plain | shown | {"cc_projection.weight": (768, 772)},
    }
    for words, shapes in cases.items():
        found = inspect_checkpoint(sparse(tmp_path / "m.safetensors", shapes))
        assert words in (found.problem or ""), found


# --- variants of folders --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.save(tmp_path / "model", family("sd1"))
    return tmp_path / "model"


def rename(folder: Path, change: Callable[[str], str]) -> None:
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_name(change(path.name)))


@pytest.mark.parametrize("variant", ["bf16", "non_ema", "fp16", "ema-only"])
def test_a_folder_of_any_variant_opens(folder: Path, variant: str) -> None:
    rename(folder, lambda name: name.replace(".safetensors", f".{variant}.safetensors"))
    load_parts(folder)


@pytest.mark.parametrize("index", ["{}.safetensors.index.bf16.json", "{}.bf16.safetensors.index.json"])
def test_shards_of_a_variant(folder: Path, index: str) -> None:
    for path in folder.glob("*/*.safetensors"):
        with open_checkpoint(path.parent) as checkpoint:
            names = list(checkpoint.tensors)
        shard = path.with_name(f"{path.stem}.bf16-00001-of-00001.safetensors")
        path.rename(shard)
        content = {"weight_map": dict.fromkeys(names, shard.name)}
        (path.parent / index.format(path.stem)).write_text(json.dumps(content))
    with pytest.raises(SfumatoError, match="lists"):
        (folder / "vae" / "diffusion_pytorch_model.bf16-00001-of-00001.safetensors").rename(folder / "elsewhere")
        load_parts(folder)
    (folder / "elsewhere").rename(folder / "vae" / "diffusion_pytorch_model.bf16-00001-of-00001.safetensors")
    load_parts(folder)


def test_of_several_variants_the_usual_one_is_read_or_they_are_named(folder: Path) -> None:
    unet = folder / "unet"
    (unet / "diffusion_pytorch_model.non_ema.safetensors").write_bytes(b"not read")
    load_parts(folder)
    (unet / "diffusion_pytorch_model.safetensors").rename(unet / "diffusion_pytorch_model.bf16.safetensors")
    with pytest.raises(SfumatoError, match=r"model\.bf16\.safetensors and .*non_ema\.safetensors; keep one"):
        load_parts(folder)


def test_a_folder_by_its_index_or_without_it(folder: Path) -> None:
    index = folder / "model_index.json"
    index.write_bytes(b"\xef\xbb\xbf" + index.read_bytes())  # as editors of Windows save it
    known = load_parts(index).spec
    index.unlink()
    assert load_parts(folder).spec == known


def test_shards_by_their_index(tmp_path: Path) -> None:
    whole = state("sd1")
    names = sorted(whole)
    for number, part in enumerate((names[::2], names[1::2]), 1):
        tiny.write_file(tmp_path / f"model-{number:05d}-of-00002.safetensors", {name: whole[name] for name in part})
    listed = {name: f"model-{1 + i % 2:05d}-of-00002.safetensors" for i, name in enumerate(names)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    assert usable(index).family == usable(tmp_path).family == "sd1"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["unet/diffusion_flax_model.msgpack"], "holds weights for Flax, which are not read; fetch its .safetensors"),
        (["unet/model.onnx", "vae/model.onnx"], "weights for ONNX"),
        (["unet/openvino_model.xml", "unet/openvino_model.bin"], "weights for OpenVINO"),
        (["unet/unet.plan"], "weights for TensorRT"),
        (["v1-5.safetensors"], "no diffusers folder, but holds models; give the path of one: v1-5.safetensors"),
        (["a.ckpt", "b.gguf", "c.pt", "d.bin"], "one: a.ckpt, b.gguf, c.pt or another of them"),
        (["notes.txt"], "holds no weights; give a model file"),
    ],
)
def test_a_folder_of_something_else_says_what_it_holds(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(SfumatoError, match=words):
        load_parts(tmp_path)


def test_a_configuration_alone_is_no_model(folder: Path) -> None:
    with pytest.raises(SfumatoError, match=r"config.json is a configuration, not weights; give the folder that"):
        load_parts(folder / "unet" / "config.json")


# --- distilled U-Nets -----------------------------------------------------------------------------------------------


def cut(shapes: Shapes, depths: dict[str, int]) -> Shapes:
    """Without the transformer layers of blocks from these numbers on, and without blocks of -1."""
    result = {}
    for name, shape in shapes.items():
        block = next((block for block in depths if name.startswith(f"{UNET}{block}.")), None)
        layer = name.partition(".transformer_blocks.")[2].split(".")[0]
        if block is None or (depths[block] >= 0 and (not layer or int(layer) < depths[block])):
            result[name] = shape
    return result


SSD_1B = {"input_blocks.7.1": 4, "input_blocks.8.1": 4, "output_blocks.0.1": 4, "output_blocks.1.1": 4,
          "output_blocks.4.1": 1, "output_blocks.5.1": 1, "middle_block.1": -1, "middle_block.2": -1}  # fmt: skip
VEGA = {**{f"input_blocks.{i}.1": 2 for i in (7, 8)}, **{f"input_blocks.{i}.1": 1 for i in (4, 5)},
        **{f"output_blocks.{i}.1": 2 for i in (0, 1, 2)}, **{f"output_blocks.{i}.1": 1 for i in (3, 4, 5)},
        "middle_block.1": -1, "middle_block.2": -1}  # fmt: skip


@pytest.mark.parametrize(
    ("release", "depths", "depth", "up_depth", "middle"),
    [
        ("sdxl_base", SSD_1B, (0, 2, 4), ((0, 0, 0), (2, 1, 1), (4, 4, 10)), 1),
        ("sdxl_base", VEGA, (0, 1, 2), (), 1),
        ("sd1", {"middle_block": -1}, (1, 1, 1, 0), (), 0),
    ],
    ids=["SSD-1B", "Vega", "without a middle"],
)
def test_distilled_unets(tmp_path: Path, manifest, release, depths, depth, up_depth, middle) -> None:
    path = sparse(tmp_path / "m.safetensors", cut(manifest(f"original/{release}"), depths))
    unet = usable(path).spec.unet
    assert (unet.depth, unet.up_depth, unet.middle_blocks) == (depth, up_depth, middle)


@pytest.mark.parametrize("name", ["sdxl", "sd1"])
def test_a_distilled_model_survives_both_layouts(tmp_path: Path, name: str) -> None:
    owner = family(name)
    spec = tiny.shrink(owner.spec)
    up = tuple((0,) * (spec.unet.blocks + 1) if not d else (d,) * spec.unet.blocks + (d + 1,) for d in spec.unet.depth)
    unet = replace(spec.unet, up_depth=up, middle_blocks=1, middle_depth=spec.unet.depth[-1] or 1)
    spec = replace(spec, unet=unet)
    networks = tiny.random_networks(owner, spec)
    path = tiny.write_file(tmp_path / "m.safetensors", tiny.tensors(owner, spec, networks, "original"))
    assert load_parts(path).spec.unet == spec.unet
    convert(path, tmp_path / "folder", "diffusers")
    read = load_parts(tmp_path / "folder")
    assert (read.spec.unet.up_depth, read.spec.unet.middle_blocks) == (up, 1)
    alone = tmp_path / "folder" / "unet" / "diffusion_pytorch_model.safetensors"
    with open_checkpoint(alone) as checkpoint:
        assert len(checkpoint.tensors) == len(networks["unet"].state_dict())
