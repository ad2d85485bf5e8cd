"""Reads WebDataset shards: tar archives in which files of one name belong together, whatever their endings."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

from sfumato.data.pictures.entry import ENDINGS, Entry, Slice
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.readers.caption_files import default_captions, from_file
from sfumato.data.pictures.readers.folder import MASK
from sfumato.errors import SfumatoError
from sfumato.files import MAX_FILE, short_path

MASKS = tuple(f".mask{ending}" for ending in ENDINGS)  # NAME.mask.png, and NAME_mask.png


def shard_entries(path: Path, options: PictureOptions) -> Iterator[Entry]:
    """Yields an entry for each picture of a shard; it stays in the archive, of which only the list is read now.

    Captions are the members with one of `caption_endings`, a mask has the ending .mask.png or the like. Raises
    SfumatoError for a broken or compressed archive.
    """
    for members in _groups(path):
        picture = next((members[ending] for ending in ENDINGS if ending in members), None)
        if picture is None:
            continue
        mask = next((members[ending] for ending in MASKS if ending in members), None)
        captions = _captions(members, options) or default_captions(options)
        yield Entry(picture, captions, options, mask if options.masks == "beside" else None)


def _captions(members: dict[str, Slice], options: PictureOptions) -> tuple[str, ...]:
    for ending in options.caption_endings:
        if ending in members:
            source = members[ending]
            try:
                text = source.read().decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise SfumatoError(f"{source.name} is no text in UTF-8 (byte {error.start}); save it so") from None
            if found := from_file(text, ending, source.name, options):
                return found
    return ()


def _groups(path: Path) -> Iterator[dict[str, Slice]]:
    """The members of each name by their endings in lower case, in the order of the archive."""
    groups: dict[str, dict[str, Slice]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.rpartition("/")
                name, dot, ending = file.partition(".")
                if not member.isfile() or not dot or not name:
                    continue
                what = f"{short_path(path)}: {member.name}"
                if member.size > MAX_FILE:
                    raise SfumatoError(f"{what} has {member.size:,} bytes; the limit here is {MAX_FILE:,}")
                if name.endswith(MASK):
                    name, ending = name.removesuffix(MASK), f"{MASK[1:]}.{ending}"
                own = groups.setdefault(f"{folder}/{name}", {})
                own[f".{ending.lower()}"] = Slice(path, what, member.offset_data, member.size)
    except (tarfile.TarError, OSError) as error:
        hint = "unpack it first if it is compressed, or fetch it again"
        raise SfumatoError(f"{short_path(path)} is no plain tar archive ({error}); {hint}") from None
    yield from groups.values()
