"""Batches, views, masks and buckets of a user's pictures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data.pictures.batches import BucketBatches
from sfumato.data.pictures.buckets import Buckets, bucket_sizes
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.picture_set import CROPS, PictureSet
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def write(folder: Path, sizes: dict[str, tuple[int, int]]) -> Path:
    """Pictures of these sizes, each with its name as caption."""
    for seed, (name, size) in enumerate(sizes.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(*size, seed).save(path)
        path.with_suffix(".txt").write_text(f"picture {path.stem}\n")
    return folder


def opened(folder: Path, seed: int = 0, resolution: int = 64, multiple: int = 8, **options: object) -> PictureSet:
    return OwnPictures(folder).samples(options, seed, resolution, multiple)


SIZES = {"a.png": (64, 64), "b.png": (80, 80), "c.png": (120, 60), "d.png": (64, 130), "e.jpg": (90, 91)}


def test_buckets_of_512_are_those_of_kohyas_scripts() -> None:
    narrow = [(256, height) for height in (832, 896, 960, 1024)]
    half = [*narrow, (320, 704), (320, 768), (384, 640), (448, 576)]
    assert bucket_sizes(512, 64, 256, 1024) == sorted([*half, (512, 512), *[(h, w) for w, h in half]])


def test_a_picture_goes_where_its_aspect_ratio_is_nearest_and_covers_the_bucket() -> None:
    buckets = Buckets(PictureOptions(), 512, 8)
    assert buckets.place(1024, 1024, "a").size == (512, 512)
    wide = buckets.place(1920, 1080, "a")
    assert (wide.size, wide.scaled) == ((640, 384), (683, 384))
    assert buckets.place(512, 512, "a").scaled == (512, 512)


def test_small_pictures_are_not_enlarged_unless_asked() -> None:
    small = Buckets(PictureOptions(), 512, 8).place(300, 200, "a")
    assert small.size == (256, 192) and small.scaled == (300, 200)
    large = Buckets(PictureOptions(upscale=True), 512, 8).place(300, 200, "a")
    assert large.size == (640, 384) and min(s / p for s, p in zip(large.scaled, (300, 200), strict=True)) > 1
    with pytest.raises(SfumatoError, match=r"a\.png has 60x300 pixels; at least 64x64"):
        Buckets(PictureOptions(), 512, 8).place(60, 300, "a.png")
    with pytest.raises(SfumatoError, match="at least 512x512"):
        Buckets(PictureOptions(buckets=False), 512, 8).place(500, 900, "a")


@pytest.mark.parametrize(("options", "message"), [
    ({"bucket_step": 12}, "needs a multiple of 8"),
    ({"bucket_least": 600}, "leave out the resolution"),
    ({"resolution": 32}, None),
    ({"resolution": 4}, "at least 8 pixels"),
])  # fmt: skip
def test_options_of_buckets_are_checked(options: dict[str, int], message: str | None) -> None:
    if message is None:
        assert (32, 32) in Buckets(PictureOptions(**options), 512, 8).sizes
        return
    with pytest.raises(SfumatoError, match=message):
        Buckets(PictureOptions(**options), 512, 8)


def test_every_sample_of_a_bucket_comes_once_an_epoch_in_full_batches() -> None:
    counts, size = [5, 1, 9], 4
    batches = BucketBatches(counts, seed=3)
    found = [batches.at(step, size) for step in range(15 * 4 // size)]  # four epochs
    seen = [np.concatenate([places for bucket, places in found if bucket == k]) for k in range(3)]
    assert [len(one) for one in seen] == [20, 4, 36]
    for places, count in zip(seen, counts, strict=True):
        for start in range(0, len(places), count):
            assert sorted(places[start : start + count]) == list(range(count))
    assert [(b, p.tolist()) for b, p in found] != [
        (b, p.tolist()) for b, p in (BucketBatches(counts, 4).at(step, size) for step in range(15))
    ]


def test_a_batch_is_a_pure_function_of_its_step(tmp_path: Path) -> None:
    folder = write(tmp_path, SIZES)
    one, other = (opened(folder, flip=True, crop="random", repeats=3) for _ in range(2))
    forward = [one.batch(step, 4) for step in range(12)]
    assert forward == [other.batch(step, 4) for step in reversed(range(12))][::-1]
    assert all(len({sample.size for sample in batch}) == 1 and len(batch) == 4 for batch in forward)
    assert {sample.flip for batch in forward for sample in batch} == {False, True}


def test_pictures_come_as_often_as_they_are_repeated(tmp_path: Path) -> None:
    folder = write(tmp_path, {"2_cat/a.png": (64, 64), "5_dog/b.png": (64, 64), "c.png": (64, 64)})
    data = opened(folder)
    counts = Counter(sample.picture for step in range(8) for sample in data.batch(step, 1))
    assert [counts[k] for k in range(3)] == [1, 2, 5] and data.epoch == 8


def test_pictures_of_regularisation_come_as_often_as_the_others_together(tmp_path: Path) -> None:
    own, kept = write(tmp_path / "own", {"a.png": (64, 64)}), tmp_path / "kept"
    for number in range(3):
        kept.mkdir(exist_ok=True)
        noise(64, 64, 9 + number).save(kept / f"{number}.png")
    more = {"regularisation_folder": str(kept), "regularisation_weight": 0.5, "trigger": "sks"}
    with pytest.raises(SfumatoError, match="3 of 4 pictures have no caption"):
        opened(own, **more)
    data = opened(own, repeats=6, regularisation_caption="a dog", **more)
    samples = [sample for step in range(12) for sample in data.batch(step, 1)]
    assert Counter(s.regularisation for s in samples) == {False: 6, True: 6}
    assert {(s.caption, s.weight) for s in samples} == {("sks, picture a", 1.0), ("a dog", 0.5)}
    assert Counter(s.picture for s in samples if s.regularisation) == {1: 2, 2: 2, 3: 2}
    assert [s.picture for s in data.validation()] == [0]


def test_held_out_pictures_are_never_learnt_from(tmp_path: Path) -> None:
    data = opened(write(tmp_path, {f"{k}.png": (64, 64) for k in range(6)}), held_out=2)
    held = {sample.picture for sample in data.validation()}
    assert len(held) == 2
    assert {s.picture for step in range(8) for s in data.batch(step, 2)} == set(range(6)) - held
    with pytest.raises(SfumatoError, match="held_out is 6 of 6"):
        opened(tmp_path, held_out=6)


def test_pixels_are_scaled_cut_and_mirrored(tmp_path: Path) -> None:
    picture = noise(126, 60)
    picture.save(tmp_path / "a.png")
    data = opened(tmp_path, default_caption="x", flip=True, crop="random", resolution=48)
    sample = next(s for step in range(99) for s in data.batch(step, 1) if s.flip and s.corner[0])
    got = data.pixels(sample)
    whole = picture.resize(sample.scaled, Image.Resampling.LANCZOS)
    left, top = sample.corner
    want = np.asarray(whole, np.float32)[top : top + sample.size[1], left : left + sample.size[0]][:, ::-1]
    assert got.shape == (3, *sample.size[::-1])
    assert torch.equal(got, torch.from_numpy(want.copy()).permute(2, 0, 1) / 127.5 - 1)
    ids = sample.micro_conditioning
    assert ids["original_size"] == (60, 126) and ids["target_size"] == sample.size[::-1]
    assert ids["crop"] == (top, sample.scaled[0] - left - sample.size[0])


def test_views_are_all_that_batches_show(tmp_path: Path) -> None:
    data = opened(write(tmp_path, SIZES), flip=True, crop="random", held_out=1)
    views = [data.key(view) for view in data.views()]
    shown = {data.key(s) for step in range(60) for s in data.batch(step, 2)} | {data.key(s) for s in data.validation()}
    assert shown <= set(views)
    assert len(views) <= len(data) * (2 * CROPS + 1)


def test_keys_follow_the_content_and_the_transform(tmp_path: Path) -> None:
    folder = write(tmp_path, {"a.png": (80, 64), "b.png": (80, 64)})
    data = opened(folder)
    keys = {data.key(view) for view in data.views()}
    assert len(keys) == 2
    (folder / "a.png").rename(folder / "c.png")
    (folder / "a.txt").rename(folder / "c.txt")
    assert {opened(folder).key(view) for view in opened(folder).views()} == keys  # names do not matter
    noise(80, 64, 7).save(folder / "c.png")
    assert len(keys & {opened(folder).key(view) for view in opened(folder).views()}) == 1
    assert not keys & {opened(folder, resolution=56).key(view) for view in opened(folder, resolution=56).views()}


def test_masks_lie_beside_pictures_or_in_their_alpha(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": (64, 64), "b.png": (64, 64)})
    half = Image.new("L", (32, 32))
    half.paste(255, (16, 0, 32, 32))
    half.save(tmp_path / "a_mask.png")
    data = opened(tmp_path)
    first, second = data.views()
    assert len(data) == 2 and first.masked and not second.masked
    mask = data.mask(first)
    assert mask.shape == (1, 64, 64) and mask[:, :, :24].max() == 0 and mask[:, :, 40:].min() == 1
    assert data.mask(second).min() == 1
    see_through = noise(64, 64).convert("RGBA")
    see_through.putalpha(half.resize((64, 64)))
    see_through.save(tmp_path / "b.png")
    data = opened(tmp_path, masks="alpha", background="#ff0000")
    _, second = data.views()
    assert second.masked and data.mask(second)[0, 0].tolist()[::63] == [0, 1]
    assert data.pixels(second)[:, 0, 0].tolist() == [1, -1, -1]
    half.resize((64, 16)).save(tmp_path / "a_mask.png")
    data = opened(tmp_path)
    with pytest.raises(SfumatoError, match="give a mask as large"):
        data.mask(next(iter(data.views())))


def test_pictures_of_every_kind_are_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(120, 64).save(tmp_path / "turned.jpg", exif=exif)
    noise(64, 64).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((64, 64), 32768, np.uint16)).save(tmp_path / "deep.png")
    data = opened(tmp_path, default_caption="x")
    by_name = {Path(data.entries[view.picture].source.name).name: view for view in data.views()}
    assert by_name["turned.jpg"].original == (64, 120)
    assert data.pixels(by_name["deep.png"]).abs().max() < 0.01
    assert data.pixels(by_name["cmyk.jpg"]).shape == (3, 64, 64)


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": (64, 64)})
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    data = opened(tmp_path)
    with pytest.raises(SfumatoError, match=r"a\.png.*damaged"):
        data.pixels(next(iter(data.views())))
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(SfumatoError, match=r"a\.png is no PNG"):
        opened(tmp_path)


def test_chance_decides_between_crops_of_one_picture(tmp_path: Path) -> None:
    noise(64, 100).save(tmp_path / "a.png")
    data = opened(tmp_path, default_caption="x", crop="random", buckets=False)
    corners = {s.corner for step in range(60) for s in data.batch(step, 1)}
    assert 2 < len(corners) <= CROPS
