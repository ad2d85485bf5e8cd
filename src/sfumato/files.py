"""Files: reading whole ones, and writing so that a reader never sees half of one."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import stat
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sfumato.errors import SfumatoError

MAX_FILE = 1 << 28  # bytes of a file that a user names, unless its reader knows better
MAX_TEXT_FILE = 1 << 26
MAX_TOML = 1 << 20
_DOTTED = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){20}""")
TEMPORARY = ".sfumato-part"  # the end of names of files that are being written
_LOCK = ".lock"  # in a hidden folder: held by the process that fills it
_ABANDONED = 60  # seconds after which a temporary that nobody holds is swept
_NAME_KEPT = 100  # letters of a name that its temporary has
_LONGEST_NAME = 120  # letters of a path that a message shows


def read_bytes(path: str | Path, most: int = MAX_FILE) -> bytes:
    """All of a regular file, of at most `most` bytes: the one reader of files that users name.

    Raises SfumatoError where there is none, it cannot be read, it is a pipe, a device or a folder, or it is larger.
    """
    try:
        # What is no regular file may block or never end; without waiting, it is only looked at.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise SfumatoError(f"{short_path(path)} is no regular file; give the name of a file")
            if found.st_size > most:
                raise SfumatoError(f"{short_path(path)} has {found.st_size:,} bytes; the limit here is {most:,}")
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError for a NUL in its name
        reason = getattr(error, "strerror", None) or error
        raise SfumatoError(f"cannot read {short_path(path)}: {reason}; give the name of a file") from None
    if len(content) > most:  # it grew meanwhile
        raise SfumatoError(f"{short_path(path)} has more than {most:,} bytes, which is the limit here")
    return content


def short_path(path: str | Path) -> str:
    """A path as messages show it: its beginning and end where it is very long."""
    text = str(path)
    if len(text) <= _LONGEST_NAME:
        return text
    return f"{text[: _LONGEST_NAME // 2]}...{text[-_LONGEST_NAME // 2 :]}"


def read_text(path: str | Path, most: int = MAX_TEXT_FILE) -> str:
    """A file of UTF-8 text, with or without a byte order mark. Raises SfumatoError as `read_bytes`, and for no text."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"it is no text in UTF-8 (byte {error.start})"
        raise SfumatoError(f"cannot read {short_path(path)}: {reason}; save it in that encoding") from None


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table in a TOML file. Raises SfumatoError as `read_text`, and for what is no TOML or nested without sense."""
    text = read_text(path, MAX_TOML)
    try:
        if _DOTTED.search(text):  # Python's reader takes the square of their number
            raise ValueError("a name has more than 20 parts with dots between them")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise SfumatoError(f"{short_path(path)} is not valid TOML: {reason}; correct it") from error


def check_writable(folder: Path, name: str = "") -> None:
    """Try to write a file, of about this name, to a folder that may not be there yet; leave everything as it was.

    Raises SfumatoError where that is impossible: better before hours of work than after.
    """
    made: list[Path] = []
    try:
        for path in (*reversed(folder.parents), folder):
            if not path.is_dir():
                path.mkdir()
                made.append(path)
        with tempfile.NamedTemporaryFile(prefix=f".{name}.", dir=folder):
            pass
    except (FileExistsError, NotADirectoryError):
        raise SfumatoError(f"cannot write to {folder}: it is not a folder; choose another place") from None
    except OSError as error:
        raise SfumatoError(f"cannot write to {folder}: {error.strerror}; choose another place") from error
    finally:
        for path in reversed(made):
            with suppress(OSError):  # another program may have begun to use it
                path.rmdir()


@contextmanager
def atomic_write(path: str | Path, replace: bool = True) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for binary writing; on success sync it and give it the name `path`.

    After a crash or an exception the old file, or no file, is there; never a part of the new one. Without `replace`
    a file that has the name already stays, and FileExistsError says so. Temporaries that others left in the folder,
    and nobody writes any more, are removed. Raises SfumatoError when the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        handle, temporary = tempfile.mkstemp(TEMPORARY, f".{path.name[:_NAME_KEPT]}.", path.parent)
    except (OSError, ValueError) as error:  # ValueError for a NUL in its name
        reason = getattr(error, "strerror", None) or error
        message = f"cannot write {short_path(path)}: {reason}; choose a folder you may write to"
        raise SfumatoError(message) from error
    file = _Writer(io.FileIO(handle, "wb"))
    try:
        with file:
            _hold(handle)
            yield file
            file.flush()
            os.fsync(file.fileno())
            # mkstemp makes private files; a result should have the permissions any other new file would get.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            _name(temporary, path, replace)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        cause = file.failed if isinstance(error, Exception) and file.failed else error
        if isinstance(cause, OSError) and not (isinstance(cause, FileExistsError) and not replace):
            raise SfumatoError(f"cannot write {short_path(path)}: {_reason(cause, path, file.size)}") from error
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into one SfumatoError that names it, the reason and what to do."""
    try:
        yield
    except OSError as error:
        raise SfumatoError(f"cannot write {short_path(path)}: {_reason(error, path)}") from error


def sync_folder(folder: Path) -> None:
    """Make the disk keep the names in a folder; where a system cannot (Windows), do nothing."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Writer(io.BufferedWriter):
    """A file that remembers why a write failed: who writes through it may hide that, as torch.save does."""

    failed: OSError | None = None
    size = 0  # bytes that were to be written

    def write(self, content: Any) -> int:
        self.size += memoryview(content).nbytes
        try:
            return super().write(content)
        except OSError as error:
            self.failed = self.failed or error
            raise


def sync_tree(folder: Path) -> None:
    """Make the disk keep all files below a folder, and their names."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)


def _reason(error: OSError, path: Path, size: int | None = None) -> str:
    """Why a file or folder could not be written, and what to do; `size` is the number of bytes that were to be."""
    if error.errno != errno.ENOSPC:
        return f"{error.strerror}; choose another place"
    free = shutil.disk_usage(path.parent).free
    needed = "" if size is None else f", more than {size:,} needed"
    return f"no space left ({free:,} bytes free{needed}); make room, or choose another place"


@contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, in which what shall have that name is made; it goes with all that is left in it.

    Those that killed processes left are removed, as by `atomic_write`. Raises SfumatoError where it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        folder = Path(tempfile.mkdtemp(TEMPORARY, f".{path.name[:_NAME_KEPT]}.", path.parent))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SfumatoError(f"cannot write {short_path(path)}: {reason}; choose another place") from error
    try:
        with (folder / _LOCK).open("wb") as lock:
            _hold(lock.fileno())
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name(temporary: str, path: Path, replace: bool) -> None:
    """Give a whole file its name, in one step that either happens or does not."""
    if replace:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is claimed first
        path.open("x").close()
        os.replace(temporary, path)
        return
    os.unlink(temporary)


_swept: set[Path] = set()


def sweep(folder: Path) -> None:
    """Remove what killed writers left of `atomic_write` and `hidden_folder`; each folder is looked through once."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError):
        for found in folder.glob(f".*{TEMPORARY}"):
            held = found / _LOCK if found.is_dir() else found
            with suppress(OSError), held.open("rb") as file:
                if time.time() - os.fstat(file.fileno()).st_mtime > _ABANDONED and _hold(file.fileno()):
                    shutil.rmtree(found) if found.is_dir() else found.unlink()


def _hold(handle: int) -> bool:
    """Lock an open file, which ends with its process; False where another process has it."""
    try:
        import fcntl
    except ImportError:  # without locks nothing is known of a file's writer, and nothing is swept
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
