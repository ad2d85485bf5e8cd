"""Files of strangers are read in work that grows as they do: headers, pickles, what lies beside a checkpoint, TOML."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from growth import MOST, instructions, scans
from sfumato.checkpoint.formats.unpickle import PickleError, unpickle
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.files import read_toml
from sfumato.loading.evidence import PARAMETERIZATION, SCALING, ZERO_SNR


def grown(work: Callable[[int], object], size: int) -> float:
    """How many times the instructions are executed for twice the size."""
    return instructions(lambda: work(2 * size)) / instructions(lambda: work(size))


HEADERS: dict[str, Callable[[int], object]] = {
    "tensors": lambda n: {f"a{k}": {"dtype": "U8", "shape": [1], "data_offsets": [k, k + 1]} for k in range(n)},
    "metadata": lambda n: {"__metadata__": {f"a{k}": "b" * 20 for k in range(n)}},
    "a long name": lambda n: {"a" * 100 * n: {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}},
    "a long shape": lambda n: {"a": {"dtype": "U8", "shape": [1] * n, "data_offsets": [0, 1]}},
    "names within names": lambda n: {
        f"state_dict.module.{'a.' * 9}{k}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for k in range(n)
    },
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_safetensors(kind: str, tmp_path: Path) -> None:
    def read(n: int) -> None:
        header = HEADERS[kind](n)
        text = json.dumps(header).encode()
        data = bytes(n if kind == "tensors" else 1 if kind == "a long shape" else 0)
        (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        with suppress(SfumatoError):
            open_checkpoint(tmp_path / "a.safetensors").close()

    assert grown(read, 300) <= MOST


def nested(n: int) -> bytes:
    return b"\x80\x02" + b"]" * n + b"a" * (n - 1) + b"."


PICKLES: dict[str, Callable[[int], bytes]] = {
    "a dict": lambda n: pickle.dumps({f"a{k}": k for k in range(n)}, 2),
    "a list": lambda n: pickle.dumps([str(k) for k in range(n)], 2),
    "lists in lists": nested,
    "tuples": lambda n: b"\x80\x02" + b"(" * n + b"t" * n + b".",
    "memory": lambda n: b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", k) for k in range(n)) + b".",
    "the same again": lambda n: b"\x80\x02]q\x00" + b"h\x00a" * n + b".",
    "dicts that are set": lambda n: b"\x80\x02}" + b"(K\x01K\x02u" * n + b".",
    "what is dropped": lambda n: b"\x80\x02N" + b"N0" * n + b".",
    "doubled": lambda n: b"\x80\x02N" + b"2\x86" * min(n, 40) + b"0N" * n + b".",
    "long numbers": lambda n: b"\x80\x02" + b"\x8a\xff" + b"\x01" * 255 + (b"0\x8a\xff" + b"\x01" * 255) * n + b".",
    "words": lambda n: b"\x80\x02" + b"X" + struct.pack("<I", n * 50) + b"a" * (n * 50) + b".",
}


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles(kind: str) -> None:
    def read(n: int) -> None:
        with suppress(PickleError):
            unpickle(io.BytesIO(PICKLES[kind](n)))

    assert grown(read, 400) <= MOST


YAML = ("\n", " ", "\t", "parameterization", "parameterization:", "parameterization : \n", "zero_snr:\n", "ztsnr : ",
        "EpsScaling", "VScaling ", "Eps", " \n ", "#")  # fmt: skip


@pytest.mark.parametrize("pattern", [PARAMETERIZATION, SCALING, ZERO_SNR], ids=["parameterization", "scaling", "snr"])
@pytest.mark.parametrize("one", YAML)
def test_the_web_uis_configuration(pattern, one: str) -> None:
    assert scans(lambda text: pattern.findall(text), lambda n: one * (n // len(one)), 100_000) <= MOST


TOML: dict[str, Callable[[int], str]] = {
    "keys": lambda n: "".join(f"a{k} = 1\n" for k in range(n)),
    "a dotted key": lambda n: "a." * n + "a = 1\n",
    "a dotted key with blanks": lambda n: "a . " * n + "a = 1\n",
    "a dotted key in quotes": lambda n: "'a'." * n + "a = 1\n",
    "a dotted table": lambda n: "[" + "a." * n + "a]\n",
    "tables": lambda n: "".join(f"[a{k}]\n" for k in range(n)),
    "arrays of tables": lambda n: "[[a]]\n" * n,
    "lists in lists": lambda n: "a = " + "[" * n + "]" * n,
    "a long word": lambda n: "a" * 20 * n + " = 1\n",
    "a text that does not end": lambda n: 'a = """' + "b " * n,
    "a list": lambda n: "a = [" + "1," * n + "]",
    "blank lines": lambda n: "\n" * n,
    "comments": lambda n: "# a.b\n" * n,
}


@pytest.mark.parametrize("kind", TOML)
def test_recipes(kind: str, tmp_path: Path) -> None:
    def read(n: int) -> None:
        (tmp_path / "a.toml").write_text(TOML[kind](n))
        with suppress(SfumatoError):
            read_toml(tmp_path / "a.toml")

    assert grown(read, 300) <= MOST


def test_what_is_no_toml_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    for text, words in (("a.b" * 30 + " = 1", "more than 20 parts"), ("a = " + "[" * 5000, "not valid TOML"),
                        ("a", "not valid TOML"), ("a = '" + "b.c." * 9 + "'", "")):  # fmt: skip
        path.write_text(text)
        if words:
            with pytest.raises(SfumatoError, match=words):
                read_toml(path)
        else:
            assert read_toml(path)["a"].startswith("b.c.")
