"""Names of pictures' files that clients choose, within the folder of outputs."""

from __future__ import annotations

import re
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write


def write_numbered(folder: Path, name: str, content: bytes) -> str:
    """Writes a PNG file whose name begins with `name`, which may have folders; returns its path below the folder.

    The number after it is the first above those of the files there, as in ComfyUI: heart_00001_.png. Raises
    SfumatoError for a name that leads out of the folder.
    """
    beginning = folder / name
    if not beginning.parent.resolve().is_relative_to(folder.resolve()):
        raise SfumatoError(f"the file name {name!r} leads out of the folder of outputs; give another name")
    known = re.compile(re.escape(beginning.name) + r"_(\d{5,9})_\.png")
    there = beginning.parent.iterdir() if beginning.parent.is_dir() else ()
    number = 1 + max((int(found[1]) for one in there if (found := known.fullmatch(one.name))), default=0)
    while True:
        path = beginning.with_name(f"{beginning.name}_{number:05}_.png")
        try:
            with atomic_write(path, replace=False) as target:
                target.write(content)
        except FileExistsError:  # another worker was faster
            number += 1
        else:
            return path.relative_to(folder).as_posix()
