"""Pickled checkpoints: what torch.save writes is read; nothing in a file is ever executed."""

import builtins
import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.checkpoint.formats import unpickle
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError


@pytest.fixture
def callback(monkeypatch):
    """An object of a class that trainers leave in checkpoints, which is not importable when the file is read."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    return module.ModelCheckpoint()


def tensors() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    return {
        "plain": base.clone(),
        "half": torch.randn(3, 2).half(),
        "bf16": torch.randn(5).bfloat16(),
        "ids": torch.arange(77)[None],
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(0.5),
        "empty": torch.empty(0, 3),
        "transposed": base.T,
        "slice": base[1:3, ::2],
        "shared": base[2],
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_reads_what_torch_writes(tmp_path, callback, new):
    state = collections.OrderedDict(tensors())
    root = {
        "state_dict": state,
        "epoch": 3,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "callbacks": {type(callback): {"best": np.float64(0.5), "path": Path("/x")}, "object": callback},
        "hyper_parameters": Namespace(lr=1e-4),
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}}],
        "counts": collections.defaultdict(int, a=1),
        "rng": np.zeros(3),
        "set": {1, 2},
    }
    path = tmp_path / "model.ckpt"
    torch.save(root, path, _use_new_zipfile_serialization=new)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == "torch"
        assert checkpoint.metadata["global_step"] == "470000"
        assert list(checkpoint.tensors) == list(state)
        for name, tensor in state.items():
            read = checkpoint.read(name)
            assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(read, tensor), name


def test_paths_of_python_3_13_do_no_harm(tmp_path, monkeypatch):
    """There their classes live in another module."""

    class PosixPath:
        __module__, __qualname__ = "pathlib._local", "PosixPath"

        def __init__(self, *parts):
            self.parts = parts

        def __reduce__(self):
            return PosixPath, self.parts

    module = types.ModuleType("pathlib._local")
    module.PosixPath = PosixPath
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": tensors(), "data": PosixPath("/", "data")}, path)
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint.tensors) == set(tensors())


def test_content_decides_not_the_name(tmp_path, write):
    path = write({"a": torch.ones(2)}, "really_safetensors.ckpt")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.container == "safetensors"
    torch.save({"a": torch.ones(2)}, tmp_path / "really_torch.safetensors")
    with open_checkpoint(tmp_path / "really_torch.safetensors") as checkpoint:
        assert checkpoint.container == "torch"


@pytest.mark.parametrize("file", ["ti_a1111.pt", "ti_diffusers_1d.bin", "hypernetwork_linear121.pt"])
def test_equals_torch_load_on_files_of_other_tools(golden, file):
    path = golden / "embeddings" / file
    expected: dict[str, torch.Tensor] = {}

    def walk(value, name):
        if isinstance(value, torch.Tensor):
            expected[name] = value
        elif isinstance(value, dict | list | tuple):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                walk(item, f"{name}.{key}" if name else str(key))

    walk(torch.load(path, weights_only=True), "")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors.keys() == expected.keys()
        assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in expected.items())


class Attack:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


ATTACKS = {
    "os.system": Attack(os.system, "touch {marker}"),
    "eval": Attack(builtins.eval, "open('{marker}', 'w')"),
    "exec": Attack(builtins.exec, "open('{marker}', 'w')"),
    "open": Attack(builtins.open, "{marker}", "w"),
    "getattr": Attack(builtins.getattr, "", "format"),
    "import": Attack(builtins.__import__, "antigravity"),
    "popen": Attack(__import__("subprocess").Popen, ["touch", "{marker}"]),
    "torch.load": Attack(torch.load, "{marker}"),
    "partial": Attack(__import__("functools").partial, os.system),
    "numpy.load": Attack(np.load, "{marker}"),
    "webbrowser": Attack(__import__("webbrowser").open, "http://localhost"),
    "operator": Attack(__import__("operator").attrgetter("system").__class__, "system"),
    "pickle": Attack(pickle.loads, b"cos\nsystem\n."),
}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ATTACKS)
def test_malicious_pickles_are_refused_by_name(tmp_path, name, new):
    marker, path = tmp_path / "ran", tmp_path / "model.ckpt"
    attack = ATTACKS[name]
    arguments = tuple(
        [part.replace("{marker}", str(marker)) if isinstance(part, str) else part for part in argument]
        if isinstance(argument, list)
        else argument.replace("{marker}", str(marker))
        if isinstance(argument, str)
        else argument
        for argument in attack.call[1]
    )
    torch.save(
        {"state_dict": {"a": torch.ones(1), "b": Attack(attack.call[0], *arguments)}},
        path,
        _use_new_zipfile_serialization=new,
    )
    with pytest.raises(SfumatoError, match=r"wants to run '.*', which no model needs") as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.",
        b"\x80\x02cpytorch_lightning\nos.system\n)R.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
        b"\x80\x02(X\x02\0\0\0idios\nsystem\n.",
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x09\0\0\0__class__cos\nsystem\nsb.",
    ],
)
def test_hand_made_pickles_are_refused(code):
    with pytest.raises(unpickle.PickleError, match=r"wants to run|no checkpoint needs"):
        unpickle.unpickle(io.BytesIO(code))


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02.",  # nothing on the stack
        b"\x80\x02e.",  # no mark
        b"\x80\x02h\x07.",  # nothing in the memo
        b"\x80\x02Q.",
        b"\x80\x02",  # no end
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a string longer than the file
        b"\x80\x02\x8a\xff.",
        b"\x80\x02)R.",
        b"\x80\x02}]Ns.",  # a list as a key is dropped, an absent target fails
    ],
)
def test_broken_pickles_are_named(code):
    try:
        unpickle.unpickle(io.BytesIO(code))
    except unpickle.PickleError as error:
        assert "\n" not in str(error)


def test_a_pickle_bomb_of_references_ends_early(tmp_path):
    """Sixty lists, each of the one before twice: 10^18 items for who walks them."""
    deep: list = [torch.ones(1)]
    for _ in range(60):
        deep = [deep, deep]
    torch.save({"a": deep}, tmp_path / "bomb.pt")
    with pytest.raises(SfumatoError, match="nests its contents too deeply"):
        open_checkpoint(tmp_path / "bomb.pt")


def test_a_pickle_of_endless_instructions_ends(monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_OPCODES", 1000)
    with pytest.raises(unpickle.PickleError, match="more than 1000 pickle instructions"):
        unpickle.unpickle(io.BytesIO(b"\x80\x02" + b"N0" * 1000 + b"N."))


def test_an_absurd_number_is_refused():
    with pytest.raises(unpickle.PickleError, match="absurdly large number"):
        unpickle.unpickle(io.BytesIO(pickle.dumps({"a": 1 << 100_000}, 2)))


def archive(path: Path, pickled: bytes, data: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        for key, content in data.items():
            file.writestr(f"archive/data/{key}", content)
    return path


class _Pickler(pickle.Pickler):
    """Writes a tuple ("storage", ...) as torch's reference to a storage."""

    def persistent_id(self, value):
        return tuple(value) if isinstance(value, Reference) else None


class Reference(tuple):
    pass


def pickled_tensor(count: int, offset: object, shape: object, stride: object, kind: type = torch.FloatStorage) -> bytes:
    class Build:
        def __reduce__(self):
            reference = Reference(("storage", kind, "0", "cpu", count))
            return torch._utils._rebuild_tensor_v2, (reference, offset, shape, stride, False, collections.OrderedDict())

    stream = io.BytesIO()
    _Pickler(stream, 2).dump({"a": Build()})
    return stream.getvalue()


def test_the_hand_made_archive_is_valid(tmp_path):
    path = archive(tmp_path / "a.pt", pickled_tensor(4, 1, (3,), (1,)), {"0": struct.pack("<4f", 0, 1, 2, 3)})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.read("a").tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("count", "offset", "shape", "stride", "text"),
    [
        (4, 2, (3,), (1,), "larger than its data"),
        (4, 0, (5,), (1,), "larger than its data"),
        (4, 0, (1 << 40,), (0,), "larger than its data"),
        (4, 0, (2, 2), (4, 1), "larger than its data"),
        (4, -1, (3,), (1,), "wrongly"),
        (4, 0, (-3,), (1,), "wrongly"),
        (4, 0, (2, 2), (1,), "wrongly"),
        (4, 0, (True,), (1,), "wrongly"),
        (4, "0", (4,), (1,), "wrongly"),
        (4, 0, [4], (1,), "wrongly"),
        (4, 0, (1,) * 9, (1,) * 9, "rank 9, at most 8"),
        (5, 0, (5,), (1,), "keeps 16 bytes where it describes others"),
        (1 << 60, 0, (1 << 60,), (1,), "impossible size"),
    ],
)
def test_tensors_that_are_not_their_data_are_refused(tmp_path, count, offset, shape, stride, text):
    path = archive(tmp_path / "a.pt", pickled_tensor(count, offset, shape, stride), {"0": b"\0" * 16})
    with pytest.raises(SfumatoError, match=text):
        open_checkpoint(path)


def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    good = pickled_tensor(4, 0, (4,), (1,))

    def refused(path: Path, text: str) -> None:
        with pytest.raises(SfumatoError, match=text):
            open_checkpoint(path)

    bomb = archive(tmp_path / "bomb.pt", good, {"0": b"\0" * (1 << 24)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 1 << 16
    refused(bomb, "compressed")
    refused(archive(tmp_path / "none.pt", good, {}), "lacks the data of a tensor")
    refused(archive(tmp_path / "many.pt", good, {str(i): b"" for i in range(60_000)}), "at most 50000")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    refused(tmp_path / "other.zip", "zip archive without weights")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as file:
        file.writestr("archive/data.pkl", b"")
        file.writestr("archive/constants.pkl", b"")
    refused(tmp_path / "script.pt", "TorchScript program")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "twice.pt", "w") as file:
        for name in ("data.pkl", "data/0", "data/0"):
            file.writestr(f"archive/{name}", good)
    refused(tmp_path / "twice.pt", "two entries of one name")

    path = archive(tmp_path / "overlap.pt", good, {"0": b"\0" * 4096, "1": b"\0" * 4096})
    # Two entries that claim more than the file holds must share bytes.
    path.write_bytes(path.read_bytes().replace(struct.pack("<II", 4096, 4096), struct.pack("<II", 6000, 6000)))
    refused(path, "more data than it holds")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_cut_files_are_named(tmp_path, new, part):
    path = tmp_path / "a.ckpt"
    torch.save({"a": torch.randn(1000)}, path, _use_new_zipfile_serialization=new)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(SfumatoError, match="download it again"):
        open_checkpoint(path)


def test_other_pickles_are_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(SfumatoError, match="a pickle that torch did not write"):
        open_checkpoint(tmp_path / "a.pkl")


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    for new in (True, False):
        torch.save(
            {"state_dict": {"a": torch.randn(4, 4), "b": torch.randn(3)[::2]}, "step": 1},
            folder / f"{new}.pt",
            _use_new_zipfile_serialization=new,
        )
    return sorted(folder.iterdir())


@given(data=st.data())
def test_damaged_files_are_read_or_refused_but_never_fail_otherwise(samples, tmp_path_factory, data):
    sample = data.draw(st.sampled_from(samples))
    content = bytearray(sample.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(content)
    try:
        with open_checkpoint(path) as checkpoint:
            for name in checkpoint.tensors:
                checkpoint.read(name)
    except SfumatoError as error:
        assert "\n" not in str(error)


@given(st.binary(max_size=200))
def test_random_pickles_are_read_or_refused(code):
    try:
        unpickle.unpickle(io.BytesIO(b"\x80\x02" + code))
    except unpickle.PickleError as error:
        assert "\n" not in str(error)
