"""The files of `torch.save` (.ckpt, .pt, .pth, .bin), both the zip archives and those of torch before 1.6.

Nothing in them is executed (see unpickle.py), and tensors are read straight from where they lie.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from types import MappingProxyType
from typing import Any

from sfumato.checkpoint.checkpoint import MAX_TENSORS, Stored, WeightFile, check_names
from sfumato.checkpoint.formats.unpickle import PickleError, StorageRef, TensorRef, storage_reference, unpickle
from sfumato.errors import SfumatoError

MAX_PICKLE = 16 << 20
MAX_DIRECTORY = 16 << 20
MAX_NESTING = 6
CHUNK = 1 << 24  # bytes whose sum is taken at once

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def is_zip(start: bytes) -> bool:
    return start.startswith(b"PK\x03\x04")


def is_pickle(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a binary pickle."""
    return start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"


def parse_zip(file: WeightFile) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and metadata of a torch zip archive. Raises SfumatoError."""
    entries = _entries(file)
    index = next(entry for name, entry in entries.items() if name.rpartition("/")[2] == "data.pkl")
    folder = index.filename[: -len("data.pkl")]
    if index.file_size > MAX_PICKLE:
        raise file.error(f"has an index of {index.file_size} bytes, at most {MAX_PICKLE} are read; this is no model")
    if folder + "byteorder" in entries and _content(file, entries[folder + "byteorder"]) != b"little":
        raise file.error("was written on a big-endian machine; convert it there")

    sums: dict[int, Callable[[], None]] = {}

    def place(storage: StorageRef) -> tuple[int, int]:
        entry = entries.get(f"{folder}data/{storage.key}")
        if entry is None:
            raise file.error(f"lacks the data of a tensor ({storage.key[:40]}); it is not whole, download it again")
        start = _data_start(file, entry)
        sums[start] = cache(partial(_check_sum, file, start, entry))  # several tensors may share a storage
        return start, entry.file_size

    root = _unpickled(file, io.BytesIO(_content(file, index)))
    return _collect(file, root, place, sums)


def _check_sum(file: WeightFile, start: int, entry: zipfile.ZipInfo) -> None:
    """Raises SfumatoError for data that are not those whose sum (CRC-32) the archive states; 0 states none."""
    found, place, end = 0, start, start + entry.file_size
    while entry.CRC and place < end:
        part = file.read(place, min(CHUNK, end - place))
        if not part:
            break
        found, place = zlib.crc32(part, found), place + len(part)
    if entry.CRC and found != entry.CRC:
        raise file.error(f"holds damaged data ({entry.filename[-60:]}: the sums differ); download it again")


def _entries(file: WeightFile) -> dict[str, zipfile.ZipInfo]:
    """The archive's directory; sizes are checked before anything is read."""
    # Ending records: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.14 to 4.3.16.
    tail_start = max(0, file.size - (1 << 16) - 22)
    tail = file.read(tail_start, file.size - tail_start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise file.error("is cut short (a zip archive without its directory); download it again")
    if at + 22 + struct.unpack_from("<H", tail, at + 20)[0] != len(tail):
        raise file.error("goes on after the end of its archive; it is broken or malicious, do not use it")
    count, size = struct.unpack_from("<HI", tail, at + 10)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        record = file.read(struct.unpack_from("<Q", tail, at - 12)[0], 56)
        if len(record) == 56:
            count, size = struct.unpack_from("<QQ", record, 32)
    if count > MAX_TENSORS + 16 or size > MAX_DIRECTORY:
        raise file.error(f"is a zip archive of {count} entries, at most {MAX_TENSORS} are read; this is no model")
    try:
        listing = zipfile.ZipFile(file.raw).infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise file.error("is a broken zip archive; download it again") from error
    names = [entry.filename.rpartition("/")[2] for entry in listing]
    if names.count("data.pkl") != 1 or "constants.pkl" in names:
        what = "a TorchScript program" if "constants.pkl" in names else "a zip archive without weights"
        raise file.error(f"is {what}, not a checkpoint; give a file written by torch.save")
    for entry in listing:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
            raise file.error("is a compressed or encrypted archive, which torch never writes; unpack it first")
    if sum(entry.file_size for entry in listing) > file.size:
        raise file.error("declares more data than it holds; it is broken or malicious, do not use it")
    end = 0
    for entry in sorted(listing, key=lambda entry: entry.header_offset):
        if entry.header_offset < end or (not end and entry.header_offset):
            raise file.error("holds data outside or on top of its entries; it is broken or malicious, do not use it")
        end = entry.header_offset + 30 + entry.file_size
    entries = {entry.filename: entry for entry in listing}
    if len(entries) != len(listing):
        raise file.error("holds two entries of one name; it is broken or malicious, do not use it")
    return entries


def _data_start(file: WeightFile, entry: zipfile.ZipInfo) -> int:
    local = file.read(entry.header_offset, 30)
    if len(local) != 30 or local[:4] != b"PK\x03\x04":
        raise file.error("is a broken zip archive; download it again")
    name, extra = struct.unpack_from("<HH", local, 26)
    start: int = entry.header_offset + 30 + name + extra
    if start + entry.file_size > file.size:
        raise file.error("is cut short; download it again")
    return start


def _content(file: WeightFile, entry: zipfile.ZipInfo) -> bytes:
    return file.read(_data_start(file, entry), entry.file_size)


def parse_legacy(file: WeightFile) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and metadata of a file by torch before 1.6: five pickles, then every storage. Raises SfumatoError."""
    stream = io.BytesIO(file.read(0, min(file.size, MAX_PICKLE)))
    storages: dict[str, StorageRef] = {}
    magic = _unpickled(file, stream)
    if magic != LEGACY_MAGIC:
        raise file.error("is a pickle that torch did not write; give a file written by torch.save")
    protocol, system = _unpickled(file, stream), _unpickled(file, stream)
    if protocol != LEGACY_PROTOCOL or not isinstance(system, dict) or not system.get("little_endian"):
        raise file.error("was written by an unknown torch or a big-endian machine; save it again")
    root = _unpickled(file, stream, storages)
    keys = _unpickled(file, stream)
    if not isinstance(keys, list) or not all(isinstance(k, str) and k in storages for k in keys):
        raise file.error("lists data that it does not describe; it is broken, download it again")

    places: dict[str, tuple[int, int]] = {}
    end = stream.tell()
    for key in keys:
        storage = storages[key]
        if storage.dtype is None:
            raise file.error("keeps data without a type in torch's old format; save it again with a newer torch")
        count = struct.unpack("<q", file.read(end, 8).ljust(8, b"\xff"))[0]
        if count != storage.count:
            raise file.error("is cut short, or its data is not what it describes; download it again")
        places[key] = end + 8, count * storage.dtype.itemsize
        end += 8 + count * storage.dtype.itemsize
    if end != file.size:
        raise file.error("is not whole; download it again")

    def place(storage: StorageRef) -> tuple[int, int]:
        if storage.key not in places:
            raise file.error("lacks the data of a tensor; it is not whole, download it again")
        return places[storage.key]

    return _collect(file, root, place)


def _unpickled(file: WeightFile, stream: io.BytesIO, storages: dict[str, StorageRef] | None = None) -> Any:
    def persistent(reference: Any) -> StorageRef:
        storage = storage_reference(reference)
        if storages is not None:
            storages[storage.key] = storage
        return storage

    try:
        return unpickle(stream, persistent)
    except PickleError as error:
        raise SfumatoError(f"{file.path} {error}") from error


def _collect(
    file: WeightFile, root: Any, place: Any, sums: Mapping[int, Callable[[], None]] = MappingProxyType({})
) -> tuple[dict[str, Stored], dict[str, str]]:
    """All tensors below `root` under dotted names; those of a nested `state_dict` alone where there is one.

    `sums` are checks of the storages that begin at these places, before a tensor is read.
    """
    metadata: dict[str, str] = {}
    if isinstance(root, dict):
        metadata = {str(key): str(value)[:1000] for key, value in root.items() if isinstance(value, str | int | float)}
        root = root["state_dict"] if isinstance(root.get("state_dict"), dict) else root
    found: dict[str, TensorRef] = {}
    visits = 0

    def walk(value: Any, name: str, depth: int) -> None:
        nonlocal visits
        visits += 1
        # The same dict may be referred to many times, so that a small pickle is a huge tree.
        if visits > 4 * MAX_TENSORS or depth > MAX_NESTING:
            raise file.error("nests its contents too deeply; this is no model")
        if isinstance(value, TensorRef):
            found[name] = value
        elif isinstance(value, dict | list | tuple):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(item, TensorRef | dict | list | tuple):
                    walk(item, f"{name}.{key}" if name else str(key), depth + 1)

    walk(root, "", 0)
    if len(found) > MAX_TENSORS:
        raise file.error(f"holds {len(found)} tensors, at most {MAX_TENSORS} are read; this is no model")
    check_names(file, found)
    places = {name: place(reference.storage) for name, reference in found.items()}
    stored = {name: _stored(file, reference, *places[name]) for name, reference in found.items()}
    return {name: replace(one, check=sums.get(places[name][0])) for name, one in stored.items()}, metadata


def _stored(file: WeightFile, reference: TensorRef, start: int, size: int) -> Stored:
    storage = reference.storage
    if storage.count * (storage.dtype.itemsize if storage.dtype else 1) != size:
        raise file.error(f"keeps {size} bytes where it describes others; it is broken, download it again")
    contiguous = 1
    strides: list[int] = []
    for n in reversed(reference.shape):
        strides.insert(0, contiguous)
        contiguous *= n
    plain = all(n == 1 or a == b for n, a, b in zip(reference.shape, reference.stride, strides, strict=True))
    return Stored(
        file,
        start + reference.offset * reference.dtype.itemsize,
        reference.shape,
        reference.dtype,
        None if plain else reference.stride,
    )
