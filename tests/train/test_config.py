from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.train.clip import CLIPTraining
from sfumato.train.config import LoopConfig, read_config
from sfumato.train.ldm import LDMTraining
from sfumato.train.vae import VAETraining
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


@pytest.mark.parametrize(
    ("name", "kind"), [("emoji-vae", VAETraining), ("emoji-clip", CLIPTraining), ("emoji-ldm", LDMTraining)]
)
def test_shipped_recipes_are_valid(name: str, kind: type):
    assert read_config(name, kind).loop.steps > 0


def test_nested_tables_tuples_and_whole_numbers_for_floats():
    cfg = build(LDMTraining, {"loop": LOOP | {"lr": 1}, "net": {"channels": [8, 16]}, "styles": {"3d": 2}}, "here")
    assert (cfg.loop.lr, cfg.net.channels, cfg.styles) == (1.0, (8, 16), {"3d": 2})


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ({"loop": LOOP | {"step": 3}}, "step"),
        ({"loop": {"steps": 10, "batch": 4}}, "lr"),
        ({"loop": LOOP | {"steps": "many"}}, "steps"),
        ({"loop": LOOP | {"steps": True}}, "steps"),
        ({"loop": LOOP | {"lr_schedule": "linear"}}, "cosine"),
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
    with pytest.raises(SfumatoError, match="it is no text"):
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


def test_a_former_key_may_have_moved_into_a_table():
    with pytest.warns(SfumatoWarning, match=r"'inner\.size'"):
        cfg = build(Moved, {"width": 3, "inner": {"name": "x"}}, "here")
    assert cfg == Moved(Inner("x", 3))
    with pytest.raises(SfumatoError, match="inner is 5"):
        build(Moved, {"width": 3, "inner": 5}, "here")
