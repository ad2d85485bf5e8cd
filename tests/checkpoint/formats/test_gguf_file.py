"""GGUF files, as llama.cpp's own package writes them, are read as that package reads them."""

import builtins
import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from growth import MOST, instructions
from sfumato.checkpoint.formats import gguf_file
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.families.layouts import t5_text
from sfumato.loading import components
from sfumato.loading.detect import identify
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.loading.load import load_parts
from sfumato.nets.t5 import T5
from sfumato.spec import T5Config

UNET = "model.diffusion_model."


def write(path: Path, arrays: dict[str, tuple[np.ndarray, Type]], arch: str = "sd1", **lists: list[int]) -> Path:
    writer = gguf.GGUFWriter(path, arch)
    for key, value in lists.items():
        writer.add_array(key, value)
    for name, (array, kind) in arrays.items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantised(tensors: dict[str, Tensor], kind: Type) -> dict[str, tuple[np.ndarray, Type]]:
    """As the converters do it: what is no matrix, or has no whole blocks, stays float32."""
    block = gguf.GGML_QUANT_SIZES[kind][0]
    result = {}
    for name, tensor in tensors.items():
        used = kind if tensor.ndim == 2 and tensor.shape[1] % block == 0 else Type.F32
        result[name] = (gguf.quants.quantize(tensor.numpy(), used), used)
    return result


def values(array: np.ndarray, kind: Type) -> Tensor:
    return torch.from_numpy(gguf.quants.dequantize(array, kind))


@pytest.fixture
def model(random_model, shrunk):
    return random_model(shrunk("sd1"))


def test_blocks_are_those_of_the_package() -> None:
    for code, (name, *size) in gguf_file.QUANTISED.items():
        assert (Type(code).name, *gguf.GGML_QUANT_SIZES[Type(code)]) == (name, *size)


@pytest.mark.parametrize("kind", [Type.F16, Type.BF16, Type.Q8_0, Type.Q4_0], ids=lambda kind: kind.name)
@pytest.mark.parametrize("keep", ["", UNET], ids=["bare", "prefixed"])
def test_a_u_net_with_its_parts(kind, keep, model, save, tmp_path) -> None:
    theirs = family("sd1").keymap(model.spec, "original", model.networks)
    unet = theirs.to_theirs("unet", model.networks["unet"].state_dict())
    arrays = quantised({keep + name.removeprefix(UNET): tensor for name, tensor in unet.items()}, kind)
    path = write(tmp_path / "unet.gguf", arrays)
    folder = save(model)
    with pytest.raises(SfumatoError, match=r"holds no VAE .*give them with --vae and --text-encoder"):
        load_parts(path)
    found = load_parts(path, vae=folder / "vae", text_encoders=[folder / "text_encoder"])
    assert found.spec == model.spec
    expected = {UNET + name.removeprefix(UNET): values(*array) for name, array in arrays.items()}
    loaded = theirs.to_theirs("unet", found.unet.state_dict())
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor.view(loaded[name].shape)) for name, tensor in expected.items())
    described = inspect_checkpoint(path)
    assert (described.container, described.metadata["general.architecture"]) == ("gguf", "sd1")
    word = {Type.F16: "float16", Type.BF16: "bfloat16"}.get(kind, kind.name)
    assert described.dtypes[word] == sum(used == kind for _, used in arrays.values())


def test_a_whole_model_in_one_file(model, tmp_path) -> None:
    arrays = quantised({name: t for name, t in model.original().items() if t.is_floating_point()}, Type.Q8_0)
    found = load_parts(write(tmp_path / "model.gguf", arrays), dtype=torch.float16)
    assert found.spec == model.spec
    assert found.unet.conv_in.weight.dtype == torch.float16


@pytest.mark.parametrize("kind", [Type(code) for code in gguf_file.QUANTISED], ids=lambda kind: kind.name)
def test_every_quantised_type(kind, tmp_path) -> None:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 256, (4, 3 * size), np.uint8)
    with open_checkpoint(write(tmp_path / "a.gguf", {"x": (raw, kind)})) as checkpoint:
        assert checkpoint.shapes == {"x": (4, 3 * block)}
        with np.errstate(all="ignore"):
            read, expected = checkpoint.read("x"), values(raw, kind)
    torch.testing.assert_close(read, expected, rtol=0, atol=0, equal_nan=True)


def test_tensors_keep_the_shape_that_they_had(tmp_path) -> None:
    kernel = torch.randn(64, 8, 3, 3)
    array = gguf.quants.quantize(kernel.view(-1, 256).numpy(), Type.Q8_0)
    shape = {"comfy.gguf.orig_shape.x": [64, 8, 3, 3]}
    with open_checkpoint(write(tmp_path / "a.gguf", {"x": (array, Type.Q8_0)}, **shape)) as checkpoint:
        assert torch.equal(checkpoint.read("x"), values(array, Type.Q8_0).view(kernel.shape))


def test_t5_as_llama_cpp_names_it(tmp_path) -> None:
    config = T5Config(vocab_size=40, hidden_size=32, intermediate_size=64, layers=2, heads=4, head_dim=16)
    state = T5(config).state_dict()
    names = {"shared.weight": "token_embd.weight", "encoder.final_layer_norm.weight": "enc.output_norm.weight"}
    for block in range(config.layers):
        for theirs, ours in t5_text.LLAMA_CPP.items():
            names[f"encoder.block.{block}.layer.{ours}.weight"] = f"enc.blk.{block}.{theirs}.weight"
    arrays = quantised({names[name]: tensor for name, tensor in state.items()}, Type.Q8_0)
    with open_checkpoint(write(tmp_path / "t5.gguf", arrays, "t5encoder")) as checkpoint:
        (found,) = components.find(checkpoint)
        assert found.config == config
        assert found.tensors.keys() == state.keys()
        assert all(torch.equal(found.tensors[name].read(), values(*arrays[names[name]])) for name in state)


def test_dimensions_of_one_may_be_left_out(model, tmp_path) -> None:
    tensors = {name: tensor for name, tensor in model.original().items() if tensor.is_floating_point()}
    cut = {name: tensor[..., 0, 0] if tensor.shape[2:] == (1, 1) else tensor for name, tensor in tensors.items()}
    # A U-Net that projects by linear layers is told by their shapes.
    kept = {name: tensors[name] if ".proj_" in name else tensor for name, tensor in cut.items()}
    model.assert_equal(load_parts(write(tmp_path / "model.gguf", quantised(kept, Type.F32))).networks)


def test_without_the_package(model, tmp_path, monkeypatch) -> None:
    tensors = {name: tensor for name, tensor in model.original().items() if tensor.is_floating_point()}
    plain = write(tmp_path / "plain.gguf", quantised(tensors, Type.F16))
    small = write(tmp_path / "small.gguf", quantised(tensors, Type.Q8_0))
    found = builtins.__import__

    def lacking(name: str, *arguments: object, **options: object) -> object:
        if name.startswith("gguf"):
            raise ImportError
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", lacking)
    load_parts(plain)
    with pytest.raises(SfumatoError, match=r"is quantised \(Q8_0\), .*: pip install 'sfumato\[gguf\]'"):
        load_parts(small)


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (("token_embd.weight", "blk.0.attn_q.weight", "output_norm.weight"), "a language model"),
        (("token_embd.weight", "enc.blk.0.attn_q.weight"), "a T5 text encoder"),
        (("double_blocks.0.img_attn.qkv.weight",), "a Flux model"),
    ],
)
def test_strangers(names, title, tmp_path) -> None:
    zeros = np.zeros((2, 4), np.float32)
    path = write(tmp_path / "a.gguf", {name: (zeros, Type.F32) for name in names}, "llama", tokens=list(range(1000)))
    with open_checkpoint(path) as checkpoint:
        assert identify(checkpoint).title == title


def broken(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(SfumatoError) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "whole.gguf"
    arrays = {"x": (np.zeros((2, 34), np.uint8), Type.Q8_0), "y": (np.zeros(3, np.float32), Type.F32)}
    return write(path, arrays, **{"comfy.gguf.orig_shape.x": [4, 16]}).read_bytes()


def test_a_file_cut_anywhere_is_one_clear_error(whole, tmp_path) -> None:
    for end in range(4, len(whole) - 20, 7):  # the last tensor is padded
        assert "download it again" in broken(tmp_path / "a.gguf", whole[:end])


CHANGES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("version", lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "version 1; versions 2 and 3 are read"),
    ("tensors", lambda data: data[:8] + struct.pack("<Q", 1 << 60) + data[16:], "tensors, at most 50000 are read"),
    ("entries", lambda data: data[:16] + struct.pack("<Q", 1 << 60) + data[24:], "entries of metadata, at most"),
    ("key", lambda data: data[:24] + struct.pack("<Q", 1 << 60) + data[32:], "letters, at most"),
    ("text", lambda data: data.replace(b"general", b"gener\xff\xff"), "text that is not UTF-8"),
    ("name", lambda data: data.replace(b"\1\0\0\0\0\0\0\0y", b"\1\0\0\0\0\0\0\0x"), "names a tensor twice"),
    ("shape", lambda data: data.replace(struct.pack("<ii", 4, 16), struct.pack("<ii", 4, 17)), "a shape that its type"),
    ("type", lambda data: data.replace(struct.pack("<IQ", 0, 96), struct.pack("<IQ", 99, 96)), "unknown type 99"),
    ("place", lambda data: data.replace(struct.pack("<IQ", 0, 96), struct.pack("<IQ", 0, 1 << 40)), "beyond its end"),
]


@pytest.mark.parametrize(("change", "text"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_is_broken_is_named(change, text, whole, tmp_path) -> None:
    assert change(whole) != whole
    assert text in broken(tmp_path / "a.gguf", change(whole))


@given(place=st.integers(4, 400), value=st.integers(0, 255))
def test_no_changed_byte_leads_to_another_error(place, value, whole, tmp_path_factory) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    try:
        with open_checkpoint(path) as checkpoint:
            for name in checkpoint.tensors:
                checkpoint.read(name)
    except SfumatoError as error:
        assert "\n" not in str(error)


def listed(path: Path, lists: int, count: int, kind: int = 8, item: bytes = bytes(8)) -> Path:
    """A file whose metadata are lists of so many values."""
    entries = (
        struct.pack("<Q", 4) + f"k{k:03}".encode() + struct.pack("<IIQ", 9, kind, count) + item * count
        for k in range(lists)
    )
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, lists) + b"".join(entries) + bytes(64))
    return path


@pytest.mark.parametrize(("kind", "item"), [(8, bytes(8)), (0, b"a"), (6, bytes(4)), (12, bytes(8))])
@pytest.mark.parametrize("many", ["lists", "values"])
def test_metadata_are_read_in_time_that_grows_as_they_do(kind: int, item: bytes, many: str, tmp_path: Path) -> None:
    def taken(size: int) -> int:
        lists, count = (size, 4) if many == "lists" else (4, size)
        path = listed(tmp_path / "a.gguf", lists, count, kind, item)
        return instructions(lambda: inspect_checkpoint(path))

    assert taken(600) / taken(300) <= MOST


def test_long_lists_of_numbers_are_passed_over(tmp_path: Path) -> None:
    short, long = (listed(tmp_path / f"{n}.gguf", 8, n, 0, b"a") for n in (100, 500_000))
    assert instructions(lambda: inspect_checkpoint(long)) < 1.5 * instructions(lambda: inspect_checkpoint(short))
    with pytest.raises(SfumatoError, match="more than 1048576 values in its metadata"):
        inspect_checkpoint(listed(tmp_path / "a.gguf", 7, 200_000))
    with pytest.raises(SfumatoError, match="cut short"):
        inspect_checkpoint(listed(tmp_path / "b.gguf", 1, 1_000_000, 12, b""))
