"""Files: reading whole ones, and writing so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sfumato.errors import SfumatoError


def read_bytes(path: str | Path) -> bytes:
    """All of a file. Raises SfumatoError where there is none, or it cannot be read."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError for a NUL in its name
        reason = getattr(error, "strerror", None) or error
        raise SfumatoError(f"cannot read {path}: {reason}; give the name of a file") from None


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
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for binary writing; on success sync it and rename it onto `path`.

    After a crash or an exception the old file, or no file, is there; never a part of the new one.
    Raises SfumatoError when the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise SfumatoError(f"cannot write {path}: {error.strerror}; choose a folder you may write to") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes private files; a result should have the permissions any other new file would get.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise SfumatoError(f"cannot write {path}: {error.strerror}; choose another place") from error
        raise
