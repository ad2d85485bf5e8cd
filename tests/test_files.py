"""Files that are whole or not there, and folders tried before long work."""

from pathlib import Path

import pytest

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write, check_writable


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_write(path) as file:
        file.write(b"one")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"two")
        raise ZeroDivisionError
    assert path.read_bytes() == b"one" and tree(tmp_path) == ["new", "new/file"]
    assert path.stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("folder", ["", "new", "new/and/deeper", "old", "old/new"])
def test_a_folder_is_tried_and_left_as_it_was(tmp_path: Path, folder: str) -> None:
    (tmp_path / "old").mkdir()
    check_writable(tmp_path / folder, "cat.png")
    assert tree(tmp_path) == ["old"]


@pytest.mark.parametrize("folder", ["file", "file/new", "new/" + "x" * 300, "/proc/new", "/dev/null"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SfumatoError, match=r"cannot write to .*; choose another place"):
        check_writable(tmp_path / folder)
    assert tree(tmp_path) == ["file"]


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="name too long"):
        check_writable(tmp_path / "new", "x" * 250)
    assert tree(tmp_path) == []
