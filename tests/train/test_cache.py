"""What is encoded once is kept under a hash of all it is made from, within a bound."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data.pictures.picture_set import PictureSet
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import encode
from sfumato.spec import VAEConfig
from sfumato.train import cache as module
from sfumato.train.cache import Cache, EncodedPictures, weights_hash

ROW = {"x": torch.arange(64.0)}


class Made:
    """Makes tensors, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.times += 1
        return ROW


def test_tensors_are_made_once_for_all_runs(tmp_path: Path) -> None:
    made = Made()
    for cache in (Cache(tmp_path), Cache(tmp_path)):
        assert torch.equal(cache.tensors("abc", made)["x"], ROW["x"])
    assert made.times == 1 and "abc" in cache and "abd" not in cache


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    made, cache = Made(), Cache(tmp_path)
    cache.tensors("abc", made)
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:40])
    assert torch.equal(cache.tensors("abc", made)["x"], ROW["x"]) and made.times == 2
    assert torch.equal(Cache(tmp_path).tensors("abc", made)["x"], ROW["x"]) and made.times == 2


def test_what_no_run_uses_goes_first_and_the_bound_holds(tmp_path: Path) -> None:
    made = Made()
    for key in ("old", "older", "used"):
        Cache(tmp_path).tensors(key, made)
    size = next(tmp_path.rglob("*.safetensors")).stat().st_size
    for age, key in ((100, "old"), (200, "older"), (300, "used")):
        file = next(tmp_path.rglob(f"{key}.safetensors"))
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    cache = Cache(tmp_path, most=3 * size)
    cache.tensors("used", made)
    cache.tensors("new", made)
    assert [key in cache for key in ("old", "older", "used", "new")] == [True, False, True, True]
    cache.tensors("newer", made)
    with pytest.warns(SfumatoWarning, match="is full .* allow it more"):
        assert torch.equal(cache.tensors("newest", made)["x"], ROW["x"])
    assert [key in cache for key in ("old", "used", "new", "newer", "newest")] == [False, True, True, True, False]
    with pytest.raises(SfumatoError, match="expected a number from 0"):
        Cache(tmp_path, most=-1)


def small_vae(seed: int) -> VAE:
    torch.manual_seed(seed)
    return VAE(VAEConfig(channels=(8, 8), blocks=1, groups=4, latent_channels=4)).eval()


def pictures(folder: Path, resolution: int = 32) -> PictureSet:
    folder.mkdir(exist_ok=True)
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (32 + 8 * k, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return OwnPictures(folder).samples({"default_caption": "x", "flip": True}, 0, resolution, 8)


def test_pictures_are_encoded_once_for_one_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, vae, cache = pictures(tmp_path / "own"), small_vae(0), Cache(tmp_path / "cache")
    seen: list[int] = []
    monkeypatch.setattr(module, "encode", lambda vae, x: (seen.append(len(x)), encode(vae, x))[1])
    encoded = EncodedPictures(data, vae, cache)
    encoded.fill(5)
    assert not seen, "batches show fewer views than there are"
    encoded.fill(6)
    assert len(seen) == len(list(data.views())) == 6
    for step in range(6):
        for sample in data.batch(step, 2):
            want = encode(vae, data.pixels(sample)[None])[0].half()
            assert torch.equal(encoded(sample), want)
    assert len(seen) == 6, "batches encoded nothing"
    EncodedPictures(pictures(tmp_path / "own"), small_vae(0), Cache(tmp_path / "cache")).fill(6)
    assert len(seen) == 6, "the next run encoded nothing"
    EncodedPictures(data, small_vae(1), cache).fill(6)
    assert len(seen) == 12, "another encoder has its own latents"
    EncodedPictures(pictures(tmp_path / "own", 40), vae, cache).fill(6)
    assert 12 < len(seen) <= 18, "so have other sizes"


def test_a_stopped_filling_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, vae, seen = pictures(tmp_path / "own"), small_vae(0), []

    def stopping(vae: VAE, x: torch.Tensor) -> torch.Tensor:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(len(x))
        return encode(vae, x)

    monkeypatch.setattr(module, "encode", stopping)
    with pytest.raises(KeyboardInterrupt):
        EncodedPictures(data, vae, Cache(tmp_path / "cache")).fill(6)
    monkeypatch.setattr(module, "encode", lambda vae, x: (seen.append(len(x)), encode(vae, x))[1])
    EncodedPictures(data, vae, Cache(tmp_path / "cache")).fill(6)
    assert len(seen) == 6


def test_weights_are_told_apart_in_every_precision() -> None:
    vae = small_vae(0)
    hashes = [weights_hash(vae), weights_hash(vae, ("encoder.",)), weights_hash(vae, ("",), 1.5)]
    hashes += [weights_hash(small_vae(1)), weights_hash(vae.to(torch.bfloat16))]
    assert len(set(hashes)) == 5 and weights_hash(small_vae(0)) == hashes[0]
