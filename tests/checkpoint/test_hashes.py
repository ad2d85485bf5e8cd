"""Hashes of large files are computed once, and again when the file changed."""

import hashlib
import os
from pathlib import Path

import pytest

from sfumato.checkpoint import hashes
from sfumato.errors import SfumatoError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_large_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(hashes.LARGE))
    assert hashes.kept_sha256(path) is None
    counts: list[int] = []
    for _ in range(2):
        assert hashes.sha256(path, counts.append) == hashlib.sha256(bytes(hashes.LARGE)).hexdigest()
    assert sum(counts) == hashes.LARGE
    assert hashes.kept_sha256(path) == hashes.sha256(path)


@pytest.mark.parametrize("change", ["content", "time", "gone"])
def test_a_changed_file_is_read_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(hashes.LARGE))
    hashes.sha256(path)
    if change == "content":
        path.write_bytes(bytes(hashes.LARGE) + b"1")
    elif change == "time":
        os.utime(path, ns=(0, 0))
    else:
        path.unlink()
    assert hashes.kept_sha256(path) is None


def test_what_was_kept_of_files_that_are_gone_is_forgotten(tmp_path: Path, home: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(bytes(hashes.LARGE))
        hashes.sha256(tmp_path / name)
        (tmp_path / name).unlink()
    kept = (home / "hashes.json").read_text()
    assert "two" in kept and "one" not in kept


@pytest.mark.parametrize("broken", ["{", "[]", '{"%s": 3}'])
def test_a_broken_record_is_as_good_as_none(tmp_path: Path, home: Path, broken: str) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(hashes.LARGE))
    home.mkdir()
    (home / "hashes.json").write_text(broken % path if "%" in broken else broken)
    assert hashes.kept_sha256(path) is None
    assert hashes.sha256(path) == hashes.kept_sha256(path)


def test_nowhere_to_keep_it_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_HOME", "/dev/null/home")
    path = tmp_path / "large"
    path.write_bytes(bytes(hashes.LARGE))
    assert hashes.sha256(path) == hashlib.sha256(bytes(hashes.LARGE)).hexdigest()
    with pytest.raises(SfumatoError, match="cannot read"):
        hashes.sha256(tmp_path / "missing")


def test_a_folder_s_hash_hangs_on_every_part_that_changes_pictures(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    assert hashes.model_hash(tmp_path) is None
    found = set()
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / "model.safetensors").write_bytes(part.encode())
        found.add(hashes.model_hash(tmp_path))
    (tmp_path / "text_encoder" / "model.safetensors").write_bytes(b"another")
    found.add(hashes.model_hash(tmp_path))
    assert len(found) == 5 and all(value is not None and len(value) == 10 for value in found)
    before = hashes.model_hash(tmp_path)
    (tmp_path / "safety_checker").mkdir()
    (tmp_path / "safety_checker" / "model.safetensors").write_bytes(b"x")
    (tmp_path / "model_index.json").write_text("{}")
    assert hashes.model_hash(tmp_path) == before


def test_a_file_s_hash_is_that_of_the_community(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"abc")
    assert hashes.model_hash(tmp_path / "m.safetensors") == hashlib.sha256(b"abc").hexdigest()[:10]
    assert hashes.model_hash(tmp_path / "none") is None
