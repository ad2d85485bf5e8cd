"""Files that are whole or not there, and folders tried before long work."""

import errno
import os
import resource
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from sfumato import files
from sfumato.errors import SfumatoError
from sfumato.files import TEMPORARY, atomic_write, check_writable, hidden_folder, read_bytes, read_text, sweep


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


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(101))
    (tmp_path / "right").write_bytes("\ufeffa".encode())
    for name in (tmp_path / "pipe", "/dev/zero", tmp_path):
        with pytest.raises(SfumatoError, match=r"is no regular file|Is a directory"):
            read_bytes(name)
    with pytest.raises(SfumatoError, match="has 101 bytes; the limit here is 100"):
        read_bytes(tmp_path / "large", 100)
    assert read_text(tmp_path / "right") == "a"
    for name in ("x" * 5000, "a\0b", "none"):
        with pytest.raises(SfumatoError, match="cannot read") as error:
            read_bytes(tmp_path / name)
        assert len(str(error.value)) < 250
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(SfumatoError, match="is no text in UTF-8"):
        read_text(tmp_path / "latin")


def test_a_name_exists_only_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with atomic_write(path, replace=False) as file:
        file.write(b"one")
        assert not path.exists()
    with pytest.raises(FileExistsError), atomic_write(path, replace=False) as file:
        file.write(b"two")
    assert path.read_bytes() == b"one" and tree(tmp_path) == ["a"]


def test_a_folder_without_links_is_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", link)
    with atomic_write(tmp_path / "a", replace=False) as file:
        file.write(b"one")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "a", replace=False):
        pass
    assert (tmp_path / "a").read_bytes() == b"one" and tree(tmp_path) == ["a"]


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    old = time.time() - 3600
    for name in (f".a.12345678{TEMPORARY}", f".young.12345678{TEMPORARY}", ".b.12345678", f"c{TEMPORARY}"):
        (tmp_path / name).touch()
        if "young" not in name:
            os.utime(tmp_path / name, (old, old))
    with atomic_write(tmp_path / "d") as file:  # a writer that is at work keeps its file, however long it takes
        files._swept.clear()
        (held,) = tmp_path.glob(f".d.*{TEMPORARY}")
        os.utime(held, (old, old))
        sweep(tmp_path)
        file.write(b"d")
    assert tree(tmp_path) == [".b.12345678", f".young.12345678{TEMPORARY}", f"c{TEMPORARY}", "d"]


def test_folders_that_a_killed_process_left_are_swept(tmp_path: Path) -> None:
    old = time.time() - 3600
    with hidden_folder(tmp_path / "model") as working:  # its process lives
        left = tmp_path / f".model.12345678{TEMPORARY}"
        left.mkdir()
        (left / "weights").write_bytes(b"half")
        for folder in (left, working):
            (folder / ".lock").touch()
            os.utime(folder / ".lock", (old, old))
        files._swept.clear()
        sweep(tmp_path)
        assert working.is_dir() and not left.exists()
        (working / "model").touch()
    assert tree(tmp_path) == []


class Hides:
    """A writer like torch.save, which makes an error of its own of every failure."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, content: bytes) -> None:
        try:
            self.file.write(content)
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0") from None


def test_why_a_write_failed_is_said_whoever_hides_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(SfumatoError, match=r"cannot write .*a: File too large; choose another place"):
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limit[1]))
        try:
            with atomic_write(path) as file:
                Hides(file).write(bytes(1 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert path.read_bytes() == b"old" and tree(tmp_path) == ["a"]


def test_the_room_on_a_full_disk_is_said(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    needed = r"no space left \([\d,]+ bytes free, more than 3 needed\); make room"
    with pytest.raises(SfumatoError, match=needed), atomic_write(tmp_path / "a") as file:
        file.write(b"abc")
        raise full
    assert tree(tmp_path) == []
