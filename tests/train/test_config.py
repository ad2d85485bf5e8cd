from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.train.config import LoopConfig, read_config
from sfumato.train.methods.concat import ConcatTraining
from sfumato.train.methods.distil import DistilTraining
from sfumato.train.methods.ldm import LDMTraining
from sfumato.train.methods.vae import VAETraining
from sfumato.typed import build

LOOP = {"steps": 10, "batch": 4, "lr": 1e-3}


@dataclass(frozen=True)
class Inner:
    name: str
    size: int = 0


@dataclass(frozen=True)
class Moved:
    inner: Inner

    RENAMED: ClassVar[dict[str, str]] = {"width": "inner.size"}


def test_nested_tables_tuples_and_whole_numbers_for_floats():
    data = {"styles": {"3d": 2}}
    cfg = build(LDMTraining, {"loop": LOOP | {"lr": 1}, "net": {"channels": [8, 16]}, "data": data}, "here")
    assert (cfg.loop.lr, cfg.net.channels, cfg.data) == (1.0, (8, 16), data)


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ({"loop": LOOP | {"step": 3}}, "step"),
        ({"loop": {"steps": 10, "batch": 4}}, "lr"),
        ({"loop": LOOP | {"steps": "many"}}, "steps"),
        ({"loop": LOOP | {"steps": True}}, "steps"),
        ({"loop": LOOP | {"lr_schedule": "wave"}}, "cosine"),
        ({"loop": LOOP | {"batch": 0}}, "batch"),
        ({"loop": LOOP | {"seed": -1}}, "seed"),
        ({"loop": LOOP | {"seed": 2**63}}, "seed"),
        ({"loop": 3}, "loop"),
        ({"loop": LOOP, "net": {"channels": [1, "x"]}}, r"channels\[1\]"),
    ],
)
def test_what_is_wrong_is_named(table: dict, names: str):
    with pytest.raises(SfumatoError, match=names):
        build(VAETraining, table, "here")


def test_missing_and_broken_files(tmp_path: Path):
    with pytest.raises(SfumatoError, match="emoji-vae"):
        read_config(tmp_path / "absent.toml", LoopConfig)
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff")
    with pytest.raises(SfumatoError, match="is no text in UTF-8"):
        read_config(tmp_path / "picture.toml", LoopConfig)
    (tmp_path / "broken.toml").write_text("steps = = 3")
    with pytest.raises(SfumatoError, match="not valid TOML"):
        read_config(tmp_path / "broken.toml", LoopConfig)


def test_former_keys_are_read_and_their_present_names_said():
    with pytest.warns(SfumatoWarning, match="here: loop: 'schedule' is now called 'lr_schedule'"):
        cfg = build(VAETraining, {"loop": LOOP | {"schedule": "constant"}}, "here")
    assert cfg.loop.lr_schedule == "constant"
    with pytest.raises(SfumatoError, match="both 'schedule' and 'lr_schedule'"):
        build(VAETraining, {"loop": LOOP | {"schedule": "constant", "lr_schedule": "cosine"}}, "here")


def test_recipes_of_earlier_versions_are_read():
    table = {"loop": LOOP, "net": {}, "styles": {"3d": 1}, "scenes": 9, "sheet_styles": ["flat"]}
    with pytest.warns(SfumatoWarning, match="is now called"):
        cfg = build(LDMTraining, table, "here")
    assert cfg.data == {"styles": {"3d": 1}, "scenes": 9} and cfg.sheet_endings == ("flat",)
    with pytest.warns(SfumatoWarning, match="'condition'"):
        assert build(ConcatTraining, {"loop": LOOP, "sees": "depth"}, "here").condition == "depth"
    with pytest.warns(SfumatoWarning, match="'composed'"):
        assert build(DistilTraining, {"loop": LOOP, "scene_share": 0.2}, "here").composed == 0.2


def test_a_former_key_may_have_moved_into_a_table():
    with pytest.warns(SfumatoWarning, match=r"'inner\.size'"):
        cfg = build(Moved, {"width": 3, "inner": {"name": "x"}}, "here")
    assert cfg == Moved(Inner("x", 3))
    with pytest.raises(SfumatoError, match="inner is 5"):
        build(Moved, {"width": 3, "inner": 5}, "here")
