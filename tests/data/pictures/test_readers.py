"""Every layout of pictures with captions that is read, from files that the test writes."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.picture_set import PictureSet
from sfumato.data.pictures.readers.find import OwnPictures, all_entries
from sfumato.errors import SfumatoError, SfumatoWarning


def png(seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def opened(path: Path, **options: object) -> PictureSet:
    return OwnPictures(path).samples(options, 0, 64, 8)


def read(path: Path, **options: object) -> list[tuple[str, ...]]:
    """The captions of each picture, all of which can be decoded."""
    data = opened(path, **options)
    assert all(data.pixels(view).shape == (3, 64, 64) for view in data.views())
    return [entry.captions for entry in data.entries]


def test_captions_lie_beside_pictures_in_folders_within(tmp_path: Path) -> None:
    write(tmp_path, {
        "a.png": png(), "a.txt": "\ufeffa cat,\n on a mat \n", "within/b.PNG": png(1), "within/b.caption": "a dog",
        "c.webp.png": png(2), "c.webp.json": json.dumps({"caption": "a fox", "tags": ["red", "sly"]}),
        "d.png": png(3), "d.json": '["one", "other"]', "e.png": png(4), "e.txt": "", "e.caption": "second ending",
        ".hidden/f.png": png(5), "._g.png": png(6), "notes.md": "nothing",
    })  # fmt: skip
    assert read(tmp_path) == [
        ("a cat, on a mat",), ("a fox, red, sly",), ("one", "other"), ("second ending",), ("a dog",)
    ]  # fmt: skip
    assert read(tmp_path, caption_lines=True)[0] == ("a cat,", "on a mat")


def test_a_missing_caption_is_an_error_that_names_the_files(tmp_path: Path) -> None:
    write(tmp_path, {f"{k}.png": png(k) for k in range(7)} | {"0.txt": "zero", "1.txt": "  \n"})
    with pytest.raises(SfumatoError, match=r"6 of 7 pictures have no caption: .*1\.png, .*5\.png and 1 more"):
        opened(tmp_path)
    assert read(tmp_path, caption_missing="allow").count(()) == 6
    assert read(tmp_path, default_caption="a photo")[:2] == [("zero",), ("a photo",)]


def test_kohyas_folders_say_repeats_and_class(tmp_path: Path) -> None:
    write(tmp_path, {"10_sks dog/a.png": png(), "2_cat/b.png": png(1), "2_cat/b.txt": "own", "2023_trip/c.png": png(2)})
    with pytest.raises(SfumatoError, match=r"1 of 3 pictures have no caption: .*c\.png"):
        opened(tmp_path)
    data = opened(tmp_path, default_caption="trip", repeats=3)
    assert [(e.captions, e.options.repeats) for e in data.entries] == [
        (("trip",), 30), (("trip",), 3), (("own",), 6)
    ]  # fmt: skip
    (tmp_path / "2023_trip/c.txt").write_text("trip")
    assert [(e.captions, e.options.repeats) for e in opened(tmp_path).entries] == [
        (("sks dog",), 10), (("trip",), 1), (("own",), 2)
    ]  # fmt: skip


CONFIG = """
[general]
shuffle_caption = true
caption_extension = ".txt"
keep_tokens = 1
[[datasets]]
resolution = [96, 96]
bucket_reso_steps = 32
bucket_no_upscale = false
  [[datasets.subsets]]
  image_dir = "own"
  num_repeats = 4
  flip_aug = true
  [[datasets.subsets]]
  image_dir = "kept"
  is_reg = true
  class_tokens = "dog"
  shuffle_caption = false
"""


def test_kohyas_config_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"own/a.png": png(), "own/a.txt": "sks dog", "kept/b.png": png(1), "set.toml": CONFIG})
    data = OwnPictures(tmp_path / "set.toml").samples({"regularisation_weight": 0.25, "trigger": "sks"}, 0, 512, 8)
    own, kept = (entry.options for entry in data.entries)
    assert (own.repeats, own.flip, own.shuffle_tags, own.keep_tags, own.regularisation) == (4, True, True, 1, False)
    assert (kept.regularisation, kept.weight, kept.shuffle_tags, kept.trigger) == (True, 0.25, False, "")
    assert data.entries[1].captions == ("dog",)
    assert (data.buckets.resolution, data.buckets.step) == (96, 32) and data.sizes == {(96, 96): 8}


def test_kohyas_config_holds_pictures_out(tmp_path: Path) -> None:
    write(tmp_path, {f"own/{k}.png": png(k) for k in range(8)} | {"kept/b.png": png(9)})
    more = (
        'validation_split = 0.25\nresize_interpolation = "lanczos"\nsecondary_separator = ";;;"\nclass_tokens = "cat"'
    )
    write(tmp_path, {"set.toml": CONFIG.replace("[general]", f"[general]\n{more}\ncustom_attributes = {{a = 1}}")})
    data = opened(tmp_path / "set.toml")
    assert len(data.held_out) == 2 and data.entries[0].options.secondary_separator == ";;;"


@pytest.mark.parametrize(("change", "message"), [
    (("flip_aug = true", 'resize_interpolation = "area"'), "resized by lanczos here"),
    (("[general]", "[general]\nvalidation_split = 1.5"), "validation_split is 1.5; expected a share"),
    (("num_repeats", "num_repeat"), "unknown key in .*subset 1: 'num_repeat'; did you mean 'num_repeats'"),
    (("flip_aug", "color_aug"), "color_aug = True has no counterpart"),
    (("[general]", "[genral]"), "unknown table 'genral'"),
    (('"own"', '"owner"'), "there is no owner, neither here nor beside set.toml"),
    (("[96, 96]", "[96, 64]"), "is no square"),
    (("num_repeats = 4", 'num_repeats = "4"'), "repeats is '4'; expected int"),
    (('image_dir = "own"', ""), "subset 1 has no image_dir"),
    (("[[datasets]]", '[[datasets]]\nsubsets = []\n[[datasets]]'), "datasets 1 has no subsets"),
    (("[[datasets]]", "[[data]]"), "unknown table 'data'"),
])  # fmt: skip
def test_what_kohyas_config_has_wrong_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    write(tmp_path, {"own/a.png": png(), "own/a.txt": "x", "kept/b.png": png(1)})
    config = CONFIG.replace(*change)
    if change[1] == "[[data]]":
        config = config.replace("[[datasets.subsets]]", "[[data.subsets]]")
    with pytest.raises(SfumatoError, match=message):
        opened(write(tmp_path, {"set.toml": config}) / "set.toml")


def test_keys_of_kohyas_config_that_a_recipe_says_are_left_out_aloud(tmp_path: Path) -> None:
    write(tmp_path, {"own/a.png": png(), "own/a.txt": "x", "kept/b.png": png(1)})
    write(tmp_path, {"set.toml": CONFIG.replace("[[datasets]]", "[[datasets]]\nbatch_size = 2\n")})
    with pytest.warns(SfumatoWarning, match="batch_size is left out"):
        assert len(opened(tmp_path / "set.toml")) == 2


ROWS = [{"file_name": "a.png", "text": "a cat"}, {"file_name": "within/b.png", "text": ["a dog", "an animal"]}]
PICTURES: dict[str, str | bytes] = {"a.png": png(), "within/b.png": png(1)}


def test_json_lines_name_pictures(tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, ROWS)) + "\n\n"
    write(tmp_path, PICTURES | {"metadata.jsonl": lines, "any.jsonl": lines.replace("text", "said")})
    assert read(tmp_path) == read(tmp_path / "metadata.jsonl") == [("a cat",), ("a dog", "an animal")]
    with pytest.raises(SfumatoError, match=r"line 1 has file_name, said, but not any of text, .* as caption_column"):
        opened(tmp_path / "any.jsonl")
    assert read(tmp_path / "any.jsonl", caption_column="said")[0] == ("a cat",)
    assert read(tmp_path / "any.jsonl", default_caption="x") == [("x",), ("x",)]


def test_pictures_of_an_imagefolder_that_its_table_leaves_out_have_no_caption(tmp_path: Path) -> None:
    write(tmp_path, PICTURES | {"metadata.csv": "file_name,text\na.png,a cat\n"})
    with pytest.raises(SfumatoError, match=r"1 of 2 pictures have no caption: .*b\.png"):
        opened(tmp_path)


@pytest.mark.parametrize(("name", "text", "message"), [
    ("x.jsonl", '{"file_name": "a.png", "text": "x"}\n{"file', "line 2 is no valid JSON"),
    ("x.jsonl", "[1]", r"line 1 is \[1\]; expected an object"),
    ("x.jsonl", '{"file_name": "z.png", "text": "x"}', "names 1 pictures that are not there: z.png"),
    ("x.jsonl", '{"file_name": 3, "text": "x"}', "the picture is 3; expected the name of a file"),
    ("x.jsonl", '{"file_name": "a.png", "text": 3}', "the caption is 3; expected a text"),
    ("x.jsonl", '{"photo": "a.png", "text": "x"}', "has photo, text, but not any of file_name, .*picture_column"),
    ("x.csv", "file_name,text\na.png,a, b\n", "line 2 has more than 2 columns; put quotes"),
    ("x.csv", 'file_name,text\na.png,"a\n', "correct the table"),
    ("x.json", "3", "holds 3; expected a list of objects"),
    ("x.parquet", "PAR1nothing", r"cannot read .*x\.parquet"),
    ("x.tar", "no archive" * 99, r"x\.tar is no plain tar archive"),
    ("x.zip", "PK", "is no data set that is read; give a folder, or a file that ends with one of .jsonl"),
])  # fmt: skip
def test_broken_tables_say_where(tmp_path: Path, name: str, text: str, message: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(SfumatoError, match=message):
        opened(write(tmp_path, {"a.png": png(), name: text}) / name)


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_csv_and_tsv_name_pictures(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path, PICTURES) / ("set.csv" if delimiter == "," else "set.tsv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([("image", "caption"), ("a.png", "a cat, asleep"), ("within/b.png", "two\nlines")])
    assert read(path) == [("a cat, asleep",), ("two lines",)]


def test_kohyas_metadata_is_read(tmp_path: Path) -> None:
    write(tmp_path, PICTURES)
    rows = {"a": {"caption": "a cat", "tags": "grey, asleep"}, "within/b.png": {"tags": ["dog", "brown"]}}
    path = write(tmp_path, {"meta.json": json.dumps(rows)}) / "meta.json"
    assert read(path) == [("a cat, grey, asleep",), ("dog, brown",)]


def test_shards_of_webdataset_are_read(tmp_path: Path) -> None:
    members = {
        "x/0001.png": png(), "x/0001.txt": b"a cat", "0002.png": png(1), "0002.json": b'{"caption": "a dog"}',
        "0002.mask.png": png(2), "0003.cls": b"7", "0004_mask.png": png(3), "0004.png": png(3), "0004.txt": b"a fox",
    }  # fmt: skip
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    assert read(tmp_path) == 2 * [("a cat",), ("a dog",), ("a fox",)]
    data = opened(tmp_path / "train-1.tar")
    assert [entry.mask is not None for entry in data.entries] == [False, True, True]
    both = opened(tmp_path)
    assert {data.key(view) for view in data.views()} == {both.key(view) for view in both.views()}
    cut = (tmp_path / "train-0.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(cut[: len(cut) // 3])
    with pytest.raises(SfumatoError, match=r"cut\.tar"):
        list(map(data.pixels, opened(tmp_path / "cut.tar", caption_missing="allow").views()))


def test_parquet_holds_pictures_or_names_them(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path, PICTURES)
    cells = [{"bytes": png(k), "path": None} for k in range(5)]
    table = pa.table({"image": cells, "text": [f"number {k}" for k in range(5)], "size": list(range(5))})
    (tmp_path / "data").mkdir()
    parquet.write_table(table, tmp_path / "data/train-00000.parquet", row_group_size=2)
    parquet.write_table(table.slice(0, 1), tmp_path / "data/test-00000.parquet")
    assert read(tmp_path / "data") == [(f"number {k}",) for k in range(5)]
    assert read(tmp_path / "data", split="test") == [("number 0",)]
    folder, data = write(tmp_path / "loose", {f"{k}.png": png(k) for k in range(5)}), opened(tmp_path / "data")
    loose = opened(folder, default_caption="x")
    assert [data.key(view) for view in data.views()] == [loose.key(view) for view in loose.views()]
    parquet.write_table(pa.table({"file_name": ["a.png", "within/b.png"]}), tmp_path / "named.parquet")
    with pytest.raises(SfumatoError, match="has file_name, but not any of text"):
        opened(tmp_path / "named.parquet")
    assert read(tmp_path / "named.parquet", default_caption="x") == [("x",), ("x",)]
    parquet.write_table(pa.table({"image": [png(), b""], "text": ["x", "y"]}), tmp_path / "plain.parquet")
    with pytest.raises(SfumatoError, match=r"plain\.parquet, row 2"):
        opened(tmp_path / "plain.parquet")


def test_data_sets_that_were_saved_are_read(tmp_path: Path) -> None:
    """Written as `datasets` does it: a stream of Arrow, a state.json that names it, a dataset_dict.json for splits."""
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"image": [{"bytes": png(k), "path": "x"} for k in range(3)], "prompt": ["a", "b", "c"]})
    folder = tmp_path / "set" / "train"
    write(folder, {"state.json": json.dumps({"_data_files": [{"filename": "data.arrow"}], "_indices_files": None})})
    with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert read(folder) == read(tmp_path / "set") == [("a",), ("b",), ("c",)]
    with pytest.raises(SfumatoError, match="no split 'test'; set split to one of train"):
        opened(tmp_path / "set", split="test")
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}], "_indices_files": [{}]}')
    with pytest.raises(SfumatoError, match="flatten_indices"):
        opened(folder)


def test_what_is_missing_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(SfumatoError, match=r"pip install 'sfumato\[parquet\]'"):
        opened(write(tmp_path, {"x.parquet": "x"}) / "x.parquet")


def test_empty_and_absent_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="holds no pictures that are read"):
        opened(write(tmp_path, {"notes.md": "x"}))
    with pytest.raises(SfumatoError, match="there is no"):
        opened(tmp_path / "absent")
    with pytest.raises(SfumatoError, match="unknown key 'repeat'"):
        opened(tmp_path, repeat=2)
    assert all_entries(write(tmp_path, {"a.png": png()}), PictureOptions())[0][0].captions == ()
