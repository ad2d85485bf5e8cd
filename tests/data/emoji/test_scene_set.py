import json

import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli.data import app
from sfumato.data.emoji import scene_set
from sfumato.data.emoji.noun_scenes import NounScenes
from sfumato.data.emoji.scene_set import SceneSet, build_scenes
from sfumato.errors import SfumatoError


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scene_set, "SHARD", 4)


def test_a_built_set_reads_back(tmp_path, shapes):
    (shapes.path / "LICENSES.md").write_text("theirs")
    built = SceneSet(build_scenes(tmp_path / "set", shapes, 10, seed=5))
    scenes = NounScenes(shapes, 5)
    assert len(built) == len(built.entries) == 10
    for i in (0, 3, 4, 9):
        drawn, entry = scenes.draw(scenes[i]), built.entries[i]
        read = built.drawn(i)
        torch.testing.assert_close(read.picture, drawn.picture, atol=0.51 / 127.5, rtol=0)
        assert torch.equal(read.masks, drawn.masks)
        torch.testing.assert_close(read.depth, drawn.depth, atol=0.51 / 255, rtol=0)
        assert entry["number"] == i and entry["kind"] == scenes[i].kind
        assert [tuple(thing["box"]) for thing in entry["objects"]] == [thing.box for thing in scenes[i].objects]
        assert all(len(texts) == scene_set.CAPTIONS and all(texts) for texts in entry["captions"].values())
    files = json.loads((tmp_path / "set/manifest.json").read_text())["files"]
    assert {"set.json", "scenes-00002.npz", "scenes-00002.jsonl", "LICENSES.md"} <= files.keys()


def test_an_interrupted_build_goes_on(tmp_path, shapes, monkeypatch):
    whole = build_scenes(tmp_path / "whole", shapes, 10)

    def interrupt(done: int, total: int) -> None:
        seen.append(done)
        if done == 9:
            raise KeyboardInterrupt

    out, seen = tmp_path / "set", []
    with pytest.raises(KeyboardInterrupt):
        build_scenes(out, shapes, 10, progress=interrupt)
    assert sorted(set(seen)) == list(range(10)), "progress is said of every scene"
    with pytest.raises(SfumatoError, match="not a complete set of scenes"):
        SceneSet(out)
    written, write_shard = [], scene_set._write_shard
    monkeypatch.setattr(scene_set, "_write_shard", lambda *rest: written.append(rest[3]) or write_shard(*rest))
    build_scenes(out, shapes, 10)
    assert written == [range(8, 10)]
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }


def test_other_scenes_are_not_mixed_in(tmp_path, shapes):
    out = build_scenes(tmp_path / "set", shapes, 4)
    with pytest.raises(SfumatoError, match="another set"):
        build_scenes(out, shapes, 4, seed=1)
    with pytest.raises(SfumatoError, match="from 1"):
        build_scenes(tmp_path / "none", shapes, 0)


def test_a_damaged_set_is_refused(tmp_path, shapes):
    out = build_scenes(tmp_path / "set", shapes, 4)
    lines = out / "scenes-00000.jsonl"
    lines.write_bytes(lines.read_bytes()[:-1])
    with pytest.raises(SfumatoError, match=r"scenes-00000\.jsonl is damaged"):
        SceneSet(out)


def test_the_command_builds_a_set(tmp_path, shapes):
    out = tmp_path / "set"
    result = CliRunner().invoke(app, ["build", "scenes", str(out), "--emoji", str(shapes.path), "--count", "5"])
    assert result.exit_code == 0, result.output
    assert len(SceneSet(out)) == 5 and result.stderr == "compose scenes (0 of 5)\n"


def test_ctrl_c_says_how_to_go_on(tmp_path, shapes, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scene_set, "_write_shard", interrupted)
    out = tmp_path / "set"
    result = CliRunner().invoke(app, ["build", "scenes", str(out), "--emoji", str(shapes.path), "--count", "5"])
    assert result.exit_code == 130 and result.stderr == f"stopped; the same command goes on with {out}\n"
