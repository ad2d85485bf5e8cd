"""Our reading of safetensors against the library's, and files that must be refused in one line."""

import json
import os
import socket
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sfumato.checkpoint.formats.safetensors_file import MAX_HEADER
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def raw(path: Path, header: bytes | dict, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def refused(path: Path, text: str) -> None:
    with pytest.raises(SfumatoError, match=text) as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path)) or str(path) in message
    assert "\n" not in message
    assert message.isprintable()


DTYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
]


def test_reads_what_the_library_writes(tmp_path):
    tensors = {str(dtype): (torch.randn(3, 5) * 4).to(dtype) for dtype in DTYPES}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 4)}
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors", {"author": "me"})
    with open_checkpoint(tmp_path / "a.safetensors") as checkpoint:
        assert checkpoint.metadata == {"author": "me"}
        assert checkpoint.container == "safetensors"
        for name, tensor in tensors.items():
            read = checkpoint.read(name)
            assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(read.view(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x033C])
def test_a_header_length_that_looks_like_another_format(tmp_path, length):
    header = json.dumps({"a": ENTRY}).encode().ljust(length)
    with open_checkpoint(raw(tmp_path / "a", header, bytes(8))) as checkpoint:
        assert checkpoint.read("a").tolist() == [0, 0]


def test_the_library_reads_what_we_write(write):
    tensors = {str(dtype): torch.randn(3, 5).to(dtype) for dtype in DTYPES} | {"empty": torch.empty(0, 4)}
    path = write(tensors, metadata={"format": "pt"})
    read = safetensors.torch.load_file(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name].view(torch.uint8), tensor.view(torch.uint8)) for name, tensor in tensors.items())


def test_tensors_are_views_of_the_file_and_writing_to_them_stays_private(write):
    path = write({"a": torch.ones(4)})
    before = path.read_bytes()
    with open_checkpoint(path) as checkpoint:
        checkpoint.read("a").zero_()
        assert checkpoint.read("a").sum() == 0
    assert path.read_bytes() == before


def test_reads_data_that_the_header_leaves_unaligned(tmp_path):
    header = json.dumps({"a": ENTRY}).encode()
    path = raw(tmp_path / "a", header + b" " * (1 + -len(header) % 4), struct.pack("<ff", 1.5, -2))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read("a").tolist() == [1.5, -2]


def test_a_symlink_to_a_file_is_followed(write, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(write({"a": torch.ones(4)}))
    with open_checkpoint(link) as checkpoint:
        assert checkpoint.read("a").sum() == 4


@pytest.mark.parametrize(
    ("header", "data", "text"),
    [
        (b"{", b"", "not valid JSON"),
        (b"{]", b"", "not valid JSON"),
        (b"{\xff}", b"", "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, b"", "not valid JSON"),
        ({"a": 1}, b"", "describes the tensor 'a' wrongly"),
        ({"a": {"dtype": "F32", "shape": [2]}}, b"", "describes the tensor 'a' wrongly"),
        ({"a": {**ENTRY, "dtype": "I3"}}, b"\0" * 8, "unknown type 'I3'"),
        ({"a": {**ENTRY, "dtype": ["F32"]}}, b"\0" * 8, "unknown type"),
        ({"a": {**ENTRY, "shape": [3]}}, b"\0" * 8, "a size that is not its shape's"),
        ({"a": {**ENTRY, "shape": [-2]}}, b"\0" * 8, "wrongly"),
        ({"a": {**ENTRY, "shape": [2.0]}}, b"\0" * 8, "wrongly"),
        ({"a": {**ENTRY, "shape": [True, 2]}}, b"\0" * 8, "wrongly"),
        ({"a": {**ENTRY, "shape": [1] * 100_000 + [2]}}, b"\0" * 8, "rank 100001, at most 8"),
        ({"a": {**ENTRY, "shape": [2**40, 2**40], "data_offsets": [0, 0]}}, b"", "size that is not its shape's"),
        ({"a": {**ENTRY, "data_offsets": [-8, 0]}}, b"\0" * 8, "wrongly"),
        ({"a": {**ENTRY, "data_offsets": [8, 16]}}, b"\0" * 16, "leave gaps"),
        ({"a": ENTRY, "b": ENTRY}, b"\0" * 8, "overlap"),
        ({"a": ENTRY}, b"\0" * 4, "cut short|missing"),
        ({"a": ENTRY}, b"\0" * 12, "4 bytes too many"),
        ({"__metadata__": {"a": 1}}, b"", "metadata that is not text"),
        ({"__metadata__": "x"}, b"", "metadata that is not text"),
        ({"a\0b": ENTRY}, b"\0" * 8, r"named 'a\\x00b'"),
        ({"../../etc/passwd": ENTRY}, b"\0" * 8, "named '../../etc/passwd'"),
        ({"a\x1b[2J": ENTRY}, b"\0" * 8, "holds a tensor named"),
        ({"": ENTRY}, b"\0" * 8, "holds a tensor named ''"),
        ({"a" * 1000: ENTRY}, b"\0" * 8, "holds a tensor named 'aaa"),
        (b'{"a":%b,"a":%b}' % ((json.dumps(ENTRY).encode(),) * 2), b"\0" * 8, "names 'a' twice"),
        (b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}', b"\0" * 8, "names 'dtype' twice"),
    ],
)
def test_broken_headers_are_refused(tmp_path, header, data, text):
    refused(raw(tmp_path / "broken.safetensors", header, data), text)


def test_headers_are_bounded(tmp_path):
    refused(raw(tmp_path / "a", {"a": ENTRY}, length=1 << 30), f"at most {MAX_HEADER}")
    refused(raw(tmp_path / "b", {"a": ENTRY}, length=MAX_HEADER), "cut short within its header")
    many = {f"t{i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(60_000)}
    refused(raw(tmp_path / "c", many), "holds 60000 tensors, at most 50000")


def test_what_is_no_regular_file_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.safetensors")
    refused(tmp_path / "fifo.safetensors", "is not a regular file")
    refused(Path("/dev/zero"), "is not a regular file")
    monkeypatch.chdir(tmp_path)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        refused(Path("socket"), "cannot open")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "cannot")
    refused(tmp_path / "nowhere.safetensors", "No such file")
    (tmp_path / "empty").touch()
    refused(tmp_path / "empty", "is empty")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"<!DOCTYPE html><html>sign in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n....", "is a picture"),
        (b"hello, world, this is a text", "is no model file"),
        (b"x", "is no model file"),
    ],
)
def test_strangers_are_named(tmp_path, content, text):
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path / "model.safetensors", text)


def test_a_file_changed_while_it_is_read_is_refused(write):
    path = write({"a": torch.ones(4)})
    with open_checkpoint(path) as checkpoint:
        with open(path, "ab") as file:
            file.write(b"more")
        with pytest.raises(SfumatoError, match="was changed while it was being read"):
            checkpoint.read("a")
