"""What a comparison with reference data is: a case, its result, and the rules by which two tensors agree."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError

UNKNOWN = "unknown kind of case"
DOCUMENTS = (".md", ".txt")


@dataclass(frozen=True)
class Result:
    """How a case went: differences against a tolerance, or a count of mismatches, or only a reason."""

    passed: bool
    absolute: float | None = None
    relative: float | None = None
    tolerance: str = ""
    mismatches: int | None = None
    compared: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Case:
    """One comparison. `stands_for_more` marks a broken file in place of the cases that it should have listed."""

    path: str
    check: Callable[[], Result]
    stands_for_more: bool = False

    def run(self) -> Result:
        """Compare; whatever goes wrong is this case's failure and no other's."""
        try:
            with torch.no_grad():
                return self.check()
        except Exception as error:  # a broken reference file or our own fault: both belong into this row
            text = str(error) if isinstance(error, SfumatoError) else f"{type(error).__name__}: {error}"
            return failed(" ".join(text.split()))


def failed(reason: str) -> Result:
    return Result(False, reason=reason)


def failing(path: str, reason: str, stands_for_more: bool = False) -> Case:
    """A case that is known to fail."""
    return Case(path, lambda: failed(reason), stands_for_more)


def unsupported(what: str) -> SfumatoError:
    return SfumatoError(f"not supported yet: {what}")


def close(pairs: Iterable[tuple[Tensor, Tensor]], tolerance: float, relative: bool = False) -> Result:
    """Compare (ours, reference) pairs by their largest difference.

    The tolerance bounds the absolute difference, and the relative one reported is that to the largest magnitude of the
    reference. With `relative` both are element by element: the tolerance bounds |ours - reference| / |reference|.
    """
    absolute, largest = 0.0, 0.0
    for ours, reference in pairs:
        if ours.shape != reference.shape:
            return failed(f"shape {tuple(ours.shape)}, expected {tuple(reference.shape)}")
        if not reference.numel():
            continue
        ours, reference = ours.to(torch.float64), reference.to(torch.float64)
        difference = (ours - reference).abs()
        scale = reference.abs() if relative else reference.abs().max()
        share = torch.where(difference > 0, difference / scale, difference)
        # NaN is larger than any tolerance; max() of floats would lose it.
        absolute = torch.tensor([absolute, difference.max()]).max().item()
        largest = torch.tensor([largest, share.max()]).max().item()
    passed = (largest if relative else absolute) <= tolerance
    return Result(passed, absolute, largest, f"{tolerance:.1e}{' rel' if relative else ''}")


def exact(ours: Sequence[Any], reference: Sequence[Any]) -> Result:
    """Compare item by item; every difference is a mismatch."""
    if len(ours) != len(reference):
        return failed(f"{len(ours)} items, expected {len(reference)}")
    return counted(sum(a != b for a, b in zip(ours, reference, strict=True)), len(reference))


def counted(mismatches: int, compared: int, reason: str = "") -> Result:
    """An exact comparison of `compared` things, of which some differ; comparing nothing proves nothing."""
    return Result(mismatches == 0 and compared > 0, mismatches=mismatches, compared=compared, reason=reason)


def stated_tolerance(text: str, name: str) -> float:
    """The float64 tolerance in the words of a reference file: the first number, or that for Karras variants."""
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?e-\d+", text)]
    if not numbers:
        raise SfumatoError(f"the file states no tolerance that can be read: {text!r}")
    return numbers[1] if "Karras variants" in text and "karras" in name else numbers[0]


def network_tolerance(path: str, rounding: float) -> float:
    """Tolerance of a float32 network output whose reference itself differs from float64 by `rounding`."""
    return max(10 * rounding, 2e-4 if path.startswith("e2e.") else 2e-5)


def read_json(path: Path) -> Any:
    """A JSON file, gzipped or not. Raises SfumatoError."""
    try:
        data = path.read_bytes()
        return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise SfumatoError(f"{path.name} cannot be read: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises SfumatoError."""
    if not path.is_file():
        raise SfumatoError(f"{path.name} is missing")
    with open_checkpoint(path) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


@contextmanager
def fields_of(path: Path) -> Iterator[None]:
    """Turn a missing or oddly typed field of a reference file into an SfumatoError that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SfumatoError(f"{path.name} lacks or misstates a field: {type(error).__name__} {error}") from error


def stem(path: Path) -> str:
    """The file's name without `.json`, `.json.gz`, `.safetensors` ..."""
    return path.name.split(".")[0]


def listed(path: Path, prefix: str, cases: Callable[[Path], Iterable[Case]]) -> Iterator[Case]:
    """The cases that a file lists, or one failing case in their place if it cannot be read."""
    try:
        with fields_of(path):
            found = list(cases(path))
    except SfumatoError as error:
        found = [failing(prefix, str(error), stands_for_more=True)]
    yield from found


def indexed(folder: Path, prefix: str, cases: Callable[[Path, Path, set[str]], Iterable[Case]]) -> Iterator[Case]:
    """The cases of a folder with an index.json, and one for every file that is neither listed in it nor read.

    `cases(folder, index, known)` adds the names of the files that it lists to `known`.
    """
    known: set[str] = set()
    index = folder / "index.json"
    if index.is_file():
        known.add(index.name)
        yield from listed(index, prefix, lambda path: cases(folder, path, known))
    yield from strangers(folder, known)


def files(folder: Path) -> list[Path]:
    """The entries of a folder that may hold reference data, sorted."""
    return sorted(entry for entry in folder.iterdir() if entry.suffix not in DOCUMENTS and entry.name[0] != ".")


def strangers(folder: Path, known: Iterable[str]) -> Iterator[Case]:
    """A failing case for every file of the folder that nothing read."""
    known = set(known)
    for entry in files(folder):
        if entry.name not in known:
            yield failing(f"{folder.name}/{entry.name}", UNKNOWN)
