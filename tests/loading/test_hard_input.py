"""Files that look whole and are not: damaged data, sizes that no network can have, files that change under a model."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import sfumato
import tiny
from sfumato.api import StableDiffusion
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.loading.inspect import inspect_checkpoint

SMALL = {"steps": 1, "width": 16, "height": 16, "seed": 1}


@pytest.fixture
def folder(model: str, tmp_path: Path) -> Path:
    return shutil.copytree(model, tmp_path / "model")


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("unet/config.json", "attention_head_dim", 7),
        ("unet/config.json", "num_attention_heads", 5),
        ("unet/config.json", "attention_head_dim", 0),
        ("unet/config.json", "use_linear_projection", "x"),
        ("text_encoder/config.json", "num_attention_heads", 0),
        ("text_encoder/config.json", "num_attention_heads", 3),
        ("text_encoder/config.json", "num_attention_heads", 1_000_000),
        ("text_encoder/config.json", "eos_token_id", 1_000_000),
        ("text_encoder/config.json", "pad_token_id", 516),
        ("text_encoder/config.json", "bos_token_id", 600),
        ("vae/config.json", "scaling_factor", 0),
        ("vae/config.json", "scaling_factor", -1),
        ("vae/config.json", "use_quant_conv", 1),
    ],
)
def test_sizes_that_no_network_has_are_refused_by_their_name(folder: Path, file: str, key: str, value: object) -> None:
    config = json.loads((folder / file).read_text())
    config[key] = value
    (folder / file).write_text(json.dumps(config))
    with pytest.raises(SfumatoError, match=f"{file} has {key} = .* is expected"):
        sfumato.load(folder)
    assert f"has {key}" in inspect_checkpoint(folder).problem


def test_heads_that_do_not_divide_a_single_file_s_widths_are_refused(tmp_path: Path) -> None:
    owner = family("sd1")
    spec = tiny.shrink(owner.spec)
    networks = tiny.random_networks(owner, spec)
    state = tiny.tensors(owner, spec, networks, "original")
    text = {name: tensor for name, tensor in state.items() if name.startswith("cond_stage_model.")}
    wider = {name: torch.cat([tensor, tensor[:1]], 0) if tensor.ndim == 1 else tensor for name, tensor in text.items()}
    path = tiny.write_file(tmp_path / "a.safetensors", state | wider)
    assert inspect_checkpoint(path).problem  # of whichever kind, but no fault


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    owner = family("sd1")
    spec = tiny.shrink(owner.spec)
    state = tiny.tensors(owner, spec, tiny.random_networks(owner, spec), "original")
    torch.save({"state_dict": {name: tensor.contiguous() for name, tensor in state.items()}}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_damaged_data_of_an_archive_are_noticed(ckpt: Path, share: float) -> None:
    content = bytearray(ckpt.read_bytes())
    names = [entry for entry in zipfile.ZipFile(ckpt).infolist() if entry.file_size > 500 and "data/" in entry.filename]
    content[names[int(share * len(names))].header_offset + 30 + 300] ^= 64
    ckpt.write_bytes(content)
    with pytest.raises(SfumatoError, match=r"holds damaged data .*sums differ.*; download it again"):
        sfumato.load(ckpt)


def test_archives_that_are_something_else_too_are_refused(ckpt: Path, tmp_path: Path) -> None:
    content = ckpt.read_bytes()
    (tmp_path / "b.ckpt").write_bytes(content + b"PK more" * 100)
    with pytest.raises(SfumatoError, match="goes on after the end of its archive"):
        open_checkpoint(tmp_path / "b.ckpt")
    directory = content.rindex(b"PK\1\2")
    first = content.index(b"PK\1\2")
    offset = content[first + 42 : first + 46]
    (tmp_path / "c.ckpt").write_bytes(content[: directory + 42] + offset + content[directory + 46 :])
    with pytest.raises(SfumatoError, match="on top of its entries"):
        open_checkpoint(tmp_path / "c.ckpt")


def gguf(path: Path, offsets: tuple[int, int], tail: int = 0) -> Path:
    """Two tensors of 32 float32 at these places."""

    def text(one: str) -> bytes:
        return struct.pack("<Q", len(one)) + one.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 0)
    for name, offset in zip("ab", offsets, strict=True):
        head += text(name) + struct.pack("<IQIQ", 1, 32, 0, offset)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(max(offsets) + 128 + tail))
    return path


@pytest.mark.parametrize(
    ("offsets", "tail", "words"),
    [((0, 0), 0, "overlap"), ((0, 64), 0, "overlap"), ((0, 4096), 0, "leave gaps"), ((0, 128), 1 << 20, "goes on for")],
)
def test_gguf_whose_tensors_share_a_place_or_that_goes_on(
    tmp_path: Path, offsets: tuple[int, int], tail: int, words: str
) -> None:
    with open_checkpoint(gguf(tmp_path / "a.gguf", (0, 128))) as whole:
        assert list(whole.tensors) == ["a", "b"]
    with pytest.raises(SfumatoError, match=words):
        open_checkpoint(gguf(tmp_path / "b.gguf", offsets, tail))


def test_an_index_of_too_many_files_is_refused(folder: Path) -> None:
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {f"k{k}": f"s{k}.safetensors" for k in range(1001)}}
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SfumatoError, match="lists 1001 files, at most 1000 are read"):
        sfumato.load(folder)


CHANGES: dict[str, Callable[[Path], object]] = {
    "written into": lambda path: path.open("r+b").write(bytes(8)),
    "cut short": lambda path: os.truncate(path, 1000),
    "longer": lambda path: path.open("ab").write(b"a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_under_a_model_is_noticed(folder: Path, change: str) -> None:
    sd = sfumato.load(folder)
    sd.txt2img("a cat", **SMALL)
    CHANGES[change](folder / "unet/diffusion_pytorch_model.safetensors")
    with pytest.raises(SfumatoError, match=r"was written into since it was loaded.*; load it again"):
        sd.txt2img("a cat", **SMALL)


def test_a_file_that_is_replaced_does_not_matter(folder: Path) -> None:
    sd: StableDiffusion = sfumato.load(folder)
    before = sd.txt2img("a cat", **SMALL)[0]
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    shutil.copy(path, folder / "other")
    os.replace(folder / "other", path)
    assert sd.txt2img("a cat", **SMALL)[0] == before
    path.unlink()
    assert sd.txt2img("a cat", **SMALL)[0] == before
