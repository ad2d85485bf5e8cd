import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.data.emoji import build as emoji
from sfumato.data.emoji import npm
from sfumato.data.emoji.captions import STYLES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.errors import SfumatoError
from sfumato.images.tensors import compose


def test_a_built_set_reads_back(tmp_path, cache):
    data = EmojiData(emoji.build_emoji(tmp_path / "set", cache=cache, size=16))
    assert [concept.names["en"] for concept in data.concepts] == ["rocket", "red apple", "red heart"]
    assert [data.concept(i).hex for i in range(2)] == ["1f680", "2764"]
    assert len(data) == 2 + 3 + 3 + 3 + 2 + 3
    assert data.picture(0).shape == (16, 16, 4)
    assert tuple(data.picture(0)[8, 8]) == (255, 0, 0, 255)
    # Half-transparent green keeps its colour when the picture is made smaller.
    assert np.abs(data.picture(1)[8, 8].astype(int) - (0, 255, 0, 128)).max() <= 1
    flat = data.find("1f680", "flat")
    assert tuple(data.picture(flat)[8, 2]) == (0, 0, 255, 255) and data.picture(flat)[8, 13, 3] == 0
    assert data.find("1f34e", "blob") is None
    assert set(json.loads((tmp_path / "set/manifest.json").read_text())["files"]) >= {"LICENSES.md", "LICENSE-cldr.txt"}


def test_a_flipped_alias_is_drawn_flipped(tmp_path, cache):
    data = EmojiData(emoji.build_emoji(tmp_path / "set", cache=cache, size=16))
    rocket, heart = (data.picture(data.find(code, "noto")) for code in ("1f680", "2764"))
    assert np.array_equal(heart, rocket[:, ::-1])


def test_keywords_come_rarest_first_without_names_and_emoticons(tmp_path, cache):
    rocket = EmojiData(emoji.build_emoji(tmp_path / "set", cache=cache, size=16)).concepts[0]
    assert rocket.keywords["en"] == ("rocketish", "space ship", "common")


def test_an_interrupted_build_goes_on(tmp_path, cache, monkeypatch):
    whole = emoji.build_emoji(tmp_path / "whole", cache=cache, size=16)

    def interrupt(done: int, total: int, what: str) -> None:
        if what == "draw noto":
            raise KeyboardInterrupt

    out = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        emoji.build_emoji(out, cache=cache, size=16, progress=interrupt)
    with pytest.raises(SfumatoError, match="not a complete emoji set"):
        EmojiData(out)
    drawn = []
    draw = emoji.draw_icon
    monkeypatch.setattr(emoji, "draw_icon", lambda data, size: drawn.append(data) or draw(data, size))
    emoji.build_emoji(out, cache=cache, size=16)
    assert len(drawn) == 3 + 2 + 3, "only noto, blob and twemoji were left to draw"
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }


def test_another_size_is_not_mixed_in(tmp_path, cache):
    out = emoji.build_emoji(tmp_path / "set", cache=cache, size=16)
    with pytest.raises(SfumatoError, match="another set"):
        emoji.build_emoji(out, cache=cache, size=32)
    with pytest.raises(SfumatoError, match="8 to 512"):
        emoji.build_emoji(out, cache=cache, size=4)


def test_a_damaged_set_is_refused(tmp_path, cache):
    out = emoji.build_emoji(tmp_path / "set", cache=cache, size=16)
    pictures = out / "images-flat.npy"
    pictures.write_bytes(pictures.read_bytes()[:-1])
    with pytest.raises(SfumatoError, match=r"images-flat\.npy is \d+ bytes, expected"):
        EmojiData(out)
    (out / "manifest.json").write_text("{")
    with pytest.raises(SfumatoError, match="damaged"):
        EmojiData(out)


def test_a_changed_archive_is_not_used_and_npm_is_asked_for(cache):
    package = emoji.PACKAGES["noto"]
    (cache / package.filename).write_bytes(b"other")
    with pytest.raises(SfumatoError, match="npm is not installed"):
        npm.fetch(package, cache)


def test_npm_finds_a_cache_that_was_named_from_here(tmp_path, cache, monkeypatch):
    package = next(iter(emoji.PACKAGES.values()))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "npm"  # npm pack NAME --pack-destination FOLDER ..., run in another folder
    program.write_text(f'#!/bin/sh\n/bin/cp "{cache}/{package.filename}" "$4/"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    assert npm.fetch(package, Path("other/cache")).samefile(tmp_path / "other" / "cache" / package.filename)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_fetched(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SfumatoError, match=r"cannot write to .*file/set: it is not a folder"):
        emoji.build_emoji(tmp_path / "file" / "set", cache=tmp_path / "nothing")


def test_links_in_an_archive_are_passed_over(tmp_path):
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("package/link.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert npm.read(archive, lambda path: True) == {}


def test_oversized_members_are_refused(cache, monkeypatch):
    monkeypatch.setattr(npm, "MEMBER_BYTES", 10)
    with pytest.raises(SfumatoError, match="larger than expected"):
        npm.read(cache / emoji.PACKAGES["noto"].filename, lambda path: True)


def test_the_holdout_keeps_a_style_of_every_known_concept():
    codes = [f"{n:x}" for n in range(3000)]
    chosen = emoji.choose_holdout({style: codes for style in STYLES})
    assert 30 < len(chosen["concepts"]) < 90 and 250 < len(chosen["pictures"]) < 470
    assert not {name.partition("/")[2] for name in chosen["pictures"]} & set(chosen["concepts"])
    alone = emoji.choose_holdout({"flat": codes})
    assert alone == {"concepts": chosen["concepts"], "pictures": []}


def test_splits_follow_the_holdout(tmp_path, cache, monkeypatch):
    held_out = json.dumps({"concepts": ["1f34e"], "pictures": ["blob/1f680"]}).encode()
    resource = emoji._resource
    monkeypatch.setattr(emoji, "_resource", lambda name: held_out if name == "holdout.json" else resource(name))
    data = EmojiData(emoji.build_emoji(tmp_path / "set", cache=cache, size=16))
    assert {data.concept(int(i)).hex for i in data.splits["unseen_concept"]} == {"1f34e"}
    assert [data.style(int(i)) for i in data.splits["unseen_picture"]] == ["blob"]
    assert sum(map(len, data.splits.values())) == len(data)


def test_compose_blends_over_the_colour():
    picture = torch.tensor([[[255, 0, 0, 255], [9, 9, 9, 0]]], dtype=torch.uint8)
    mixed = compose(picture, (0, 255, 0))
    assert mixed.shape == (3, 1, 2) and mixed.dtype == torch.float32
    assert mixed[:, 0, 0].tolist() == [1, -1, -1] and mixed[:, 0, 1].tolist() == [-1, 1, -1]
    batch = compose(picture.expand(5, 1, 2, 4), torch.tensor([[0, 255, 0]] * 5))
    assert torch.equal(batch, mixed.expand(5, 3, 1, 2))
