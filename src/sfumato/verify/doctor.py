"""What a bug report needs: this machine, this installation, and whether both compute as they should."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sfumato import user_config
from sfumato.checkpoint.hashes import model_hash
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.hub.local_models import embedded_model, models
from sfumato.runtime.machine import Machine, free_disk, measure
from sfumato.verify.cases import Case
from sfumato.verify.folder import SELFTEST, find_cases

EXTRAS = ("gguf", "spandrel", "av", "pyarrow", "resvg-py", "tensorboard", "opentelemetry-api", "ray")
PASSED = "selftest.json"  # in the state folder: on what the self-test passed last


@dataclass(frozen=True)
class Check:
    """A case of the self-test; `figure` is the largest difference, or what went wrong."""

    name: str
    passed: bool
    figure: str


@dataclass(frozen=True)
class SelfTest:
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.checks)


@dataclass(frozen=True)
class Examination:
    """All that was found. `problems` say what is wrong with the settings; `test` is None where none was asked for."""

    machine: Machine
    folders: Mapping[str, str]
    disk: int | None
    models: tuple[Mapping[str, Any], ...]
    extras: Mapping[str, str]
    offline: bool | None
    problems: tuple[str, ...]
    test: SelfTest | None

    @property
    def fine(self) -> bool:
        return not self.problems and (self.test is None or self.test.passed)

    def record(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self) | {"fine": self.fine}


def examine(test: bool = True, watch: Callable[[str], None] = lambda name: None) -> Examination:
    """Looks at all there is, and with `test` runs the self-test; `watch` is told the name of each of its cases.

    The user's own folder is written as "~", and neither the machine's nor the user's name is looked at, since the
    result is made for others to read.
    """
    problems: list[str] = []
    data = user_config.folder("data")
    found: tuple[Mapping[str, Any], ...] = ()
    offline = None
    try:
        offline = user_config.offline()
        found = tuple(
            {"name": one.name, "what": one.what, "kind": one.kind, "bytes": one.size, "problem": one.problem}
            for one in models() if one.path is not None
        )  # fmt: skip
    except SfumatoError as error:
        problems.append(str(error))
    return Examination(
        machine=measure(),
        folders={kind: tilde(user_config.folder(kind)) for kind in ("config", "data", "state", "cache")},
        disk=free_disk(data),
        models=found,
        extras={name: version for name in EXTRAS if (version := _version(name)) is not None},
        offline=offline,
        problems=tuple(problems),
        test=self_test(watch) if test else None,
    )


def self_test(watch: Callable[[str], None] = lambda name: None) -> SelfTest:
    """Runs the reference data that ships through this installation: samplers, tokens, pictures of the model that ships.

    Takes some seconds. What passes is remembered, see `passed_before`.
    """
    began, checks = time.perf_counter(), []
    for case in find_cases(user_config.shipped(SELFTEST)):
        watch(case.path)
        checks.append(_check(case))
    result = SelfTest(tuple(checks), round(time.perf_counter() - began, 2))
    if result.passed:
        with suppress(SfumatoError), atomic_write(_kept()) as file:  # a state folder that cannot be written is no fault
            file.write(json.dumps(_circumstances()).encode())
    return result


def passed_before() -> bool:
    """Whether the self-test passed on this machine with the same versions and the same model."""
    try:
        return bool(json.loads(_kept().read_bytes()) == _circumstances())
    except (OSError, ValueError):
        return False


def tilde(path: Path) -> str:
    """A path without the name of whose home it is in."""
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) and path != home else str(path)


def _check(case: Case) -> Check:
    result = case.run()
    figure = result.reason
    if not figure and result.mismatches is not None:
        figure = f"{result.mismatches} of {result.compared} differ"
    elif not figure and result.absolute is not None:
        shown = f"{result.absolute:.1e}" if math.isfinite(result.absolute) else str(result.absolute)
        figure = f"{shown}, tolerance {result.tolerance}"
    return Check(case.path, result.passed, figure)


def _kept() -> Path:
    return user_config.folder("state") / PASSED


def _circumstances() -> dict[str, Any]:
    """What the outcome of the self-test depends on."""
    machine = measure()
    return {
        "versions": dict(machine.versions),
        "model": model_hash(embedded_model()),
        "reference": _digest(user_config.shipped(SELFTEST)),
        "processor": machine.processor,
        "kernels": machine.kernels,
        "devices": [one.title for one in machine.devices],
    }


def _digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
