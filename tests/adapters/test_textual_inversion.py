"""Embeddings are read from every kind of file that holds one, and refused where they do not fit."""

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor, nn

from sfumato.adapters.textual_inversion import HASH, bundled, read
from sfumato.checkpoint.hashes import sha256
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError

GOLDEN = Path(__file__).parents[1] / "golden" / "embeddings"
VECTORS = torch.arange(12, dtype=torch.float32).view(3, 4) / 8


def in_picture(vectors: Tensor, name: str, where: Path) -> None:
    """Hide an embedding in the pixels of a picture, step by step as the web UI's files show it."""
    record = {"string_to_param": {"*": {"TORCHTENSOR": vectors.tolist()}}, "name": name, "step": 7}
    data = np.frombuffer(zlib.compress(json.dumps(record).encode()), np.uint8)
    height, state, stream = 32, 0, []
    size = -(-len(data) // (3 * height)) * 3 * height
    data = np.resize(data, size).reshape(height, -1, 3)
    for _ in range(size):
        state = (1664525 * state + 1013904223) % 2**32
        stream.append(state % 255)
    mask = np.array(stream, np.uint8).reshape(data.shape) & 15
    low, high = (half ^ mask | 0x50 for half in (data & 15, data >> 4))
    black = np.zeros((height, 1, 3), np.uint8)
    middle = np.full((height, 24, 3), 200, np.uint8)
    Image.fromarray(np.concatenate([low, black, middle, black, high], 1)).save(where, lossless=True)


@pytest.mark.parametrize("name", ["ti_a1111.pt", "ti_diffusers.safetensors", "ti_kohya.safetensors"])
def test_the_reference_files_hold_the_same_vectors(name: str) -> None:
    found, first = read(GOLDEN / name), read(GOLDEN / "ti_diffusers_1d.bin")
    assert found.widths == (16,) and found.count == 3 and first.count == 1
    assert torch.equal(found.vectors["clip"][:1], first.vectors["clip"])
    assert torch.equal(found.vectors["clip"], read(GOLDEN / "ti_a1111.pt").vectors["clip"])
    assert found.hash == sha256(GOLDEN / name)[:HASH] and found.name == name.rpartition(".")[0]


def test_a_pair_has_vectors_for_both_towers() -> None:
    pair = read(GOLDEN / "ti_sdxl.safetensors", "pair")
    assert pair.widths == (16, 24) and pair.name == "pair"
    fitted = pair.fitted([16, 24], None, "XL")
    assert [part.shape for part in fitted.clip] == [(3, 16), (3, 24)] and fitted.t5 is None
    assert torch.equal(pair.fitted([24], None, "the refiner").clip[0], pair.vectors["clip_g"])


@pytest.mark.parametrize("kind", ["parameters", "legacy", "half"])
def test_what_trainers_save(kind: str, tmp_path: Path) -> None:
    vectors = VECTORS.half() if kind == "half" else VECTORS
    held = nn.ParameterDict({"*": nn.Parameter(vectors)}) if kind == "parameters" else {"*": vectors}
    record = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": held, "step": 500, "name": "inner"}
    torch.save(record, tmp_path / "thing.pt", _use_new_zipfile_serialization=kind != "legacy")
    found = read(tmp_path / "thing.pt")
    assert torch.equal(found.vectors["clip"], VECTORS) and (found.name, found.step) == ("thing", "500")


def test_a_file_of_diffusers_is_called_by_its_token(tmp_path: Path) -> None:
    torch.save({"<cat-toy>": VECTORS[0]}, tmp_path / "learned_embeds.bin")
    assert read(tmp_path / "learned_embeds.bin").name == "cat-toy"


@pytest.mark.parametrize("ending", ["png", "webp"])
def test_a_picture_may_hold_one_in_its_pixels(ending: str, tmp_path: Path) -> None:
    in_picture(VECTORS, "painter", tmp_path / f"file.{ending}")
    found = read(tmp_path / f"file.{ending}")
    assert torch.equal(found.vectors["clip"], VECTORS) and (found.name, found.step) == ("painter", "7")


def test_a_picture_may_hold_one_in_its_text(tmp_path: Path) -> None:
    record = {"string_to_param": {"*": {"TORCHTENSOR": VECTORS.tolist()}}}
    text = PngImagePlugin.PngInfo()
    text.add_text("sd-ti-embedding", base64.b64encode(json.dumps(record).encode()).decode())
    Image.new("RGB", (8, 8)).save(tmp_path / "file.png", pnginfo=text)
    assert torch.equal(read(tmp_path / "file.png").vectors["clip"], VECTORS)


def test_pictures_that_hold_none_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    bomb = {"string_to_param": {"*": {"TORCHTENSOR": [[1.0], [1.0, 2.0]]}}}
    text = PngImagePlugin.PngInfo()
    text.add_text("sd-ti-embedding", base64.b64encode(json.dumps(bomb).encode()).decode())
    for name, image, info in (
        ("noise.png", Image.fromarray(noise), None),
        ("black.png", Image.new("RGB", (9, 9)), None),
        ("rows.png", Image.new("RGB", (9, 9)), text),
    ):
        image.save(tmp_path / name, pnginfo=info)
        with pytest.raises(SfumatoError, match=f"{name} is a picture that holds no embedding"):
            read(tmp_path / name)


def test_a_lora_may_bring_embeddings(write: Callable[..., Path]) -> None:
    path = write({
        "lora_unet_mid.lora_up.weight": torch.ones(2, 2),
        "bundle_emb.one.string_to_param.*": VECTORS,
        "bundle_emb.two.words.clip_l": VECTORS,
        "bundle_emb.two.words.clip_g": torch.ones(3, 8),
    })  # fmt: skip
    with open_checkpoint(path) as checkpoint:
        one, two = sorted(bundled(checkpoint), key=lambda found: found.name)
    assert (one.name, one.widths, two.name, two.widths) == ("one", (4,), "two.words", (4, 8))


@pytest.mark.parametrize(
    ("widths", "made_for"),
    [({"clip": 768}, "1.x"), ({"clip": 1024}, "2.x"), ({"clip_l": 768, "clip_g": 1280}, "XL"),
     ({"clip_l": 768, "clip_g": 1280, "t5xxl": 4096}, "3"), ({"clip": 5}, "text encoders 5 wide")],
)  # fmt: skip
def test_vectors_of_another_family_are_named(widths: dict[str, int], made_for: str, write: Callable[..., Path]) -> None:
    names = {"clip": "emb_params"}
    path = write({names.get(part, part): torch.ones(2, width) for part, width in widths.items()}, "a.safetensors")
    with pytest.raises(SfumatoError, match=f"the embedding a .* was made for {made_for}; this model is 1.5, whose"):
        read(path).fitted([640], None, "1.5")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.ones(1, 2), "b": torch.ones(1, 2)}, "is no embedding: it holds 2 tensors"),
        ({"a": torch.ones(1, 2, 3)}, "is no embedding"),
        ({"emb_params": torch.tensor([[1.0, float("nan")]])}, "not finite"),
        ({"emb_params": torch.ones(0, 4)}, r"shape \(0, 4\)"),
        ({"clip_l": torch.ones(2, 4), "clip_g": torch.ones(3, 4)}, "different numbers"),
        ({"clip_l": torch.ones(2, 4), "clip_g": torch.ones(2, 4), "t5xxl": torch.ones(5, 4)}, None),
    ],
)
def test_what_is_none(tensors: dict[str, Tensor], message: str | None, write: Callable[..., Path]) -> None:
    path = write(tensors, "file.safetensors")
    if message is None:
        assert read(path).count == 2
        return
    with pytest.raises(SfumatoError, match=message):
        read(path)
