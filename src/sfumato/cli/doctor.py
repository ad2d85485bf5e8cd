"""`sfumato doctor`: what a bug report needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.status import status

if TYPE_CHECKING:
    from sfumato.runtime.machine import Device
    from sfumato.verify.doctor import Examination

GOOD, BAD = "ok", "FAILED"


def doctor(
    test: Annotated[bool, typer.Option("--test/--no-test", help="Run the self-test, which takes some seconds.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what a bug report needs: this machine, versions, models, and a self-test against reference data.

    The self-test draws small pictures with the model that ships, runs samplers whose results are known, and reads
    prompts. Your name and the machine's name are left out. The exit status is 1 if something is wrong.

    Example: sfumato doctor > report.txt
    """
    from sfumato.verify.doctor import examine

    found = examine(test, status.loading)
    status.clear()
    if as_json:
        typer.echo(json.dumps(found.record()))
    else:
        for name, text in _lines(found):
            typer.echo(f"{name:<11} {text}".rstrip())
    raise typer.Exit(0 if found.fine else 1)


def _lines(found: Examination) -> list[tuple[str, str]]:
    machine = found.machine
    cores = "1 core" if machine.cores == 1 else f"{machine.cores} cores"
    lines = [
        ("versions", ", ".join(f"{name} {version}" for name, version in machine.versions.items())),
        ("extras", ", ".join(f"{name} {version}" for name, version in found.extras.items()) or "none"),
        ("system", f"{machine.system}, {machine.python}" + (", in a container" if machine.container else "")),
        ("processor", f"{machine.processor}, {cores}, {machine.threads} of torch's threads"),
        ("features", f"{', '.join(machine.features) or 'not stated'}; torch's kernels: {machine.kernels}"),
        ("memory", f"{gigabytes(machine.free)} free of {gigabytes(machine.memory)}"),
        ("disk", f"{gigabytes(found.disk)} free in {found.folders['data']}"),
        *(("device", device_line(one)) for one in machine.devices),
        ("variables", ", ".join(f"{name}={value}" for name, value in machine.variables.items()) or "none"),
        ("folders", ", ".join(f"{kind} {path}" for kind, path in found.folders.items())),
        ("offline", {True: "yes", False: "no", None: "not known"}[found.offline]),
    ]
    for one in found.models:
        problem = f" ({one['problem']})" if one["problem"] else ""
        lines.append((one["kind"], f"{one['name']}: {one['what']}, {gigabytes(one['bytes'])}{problem}"))
    lines += [("problem", one) for one in found.problems]
    if found.test is not None:
        for check in found.test.checks:
            lines.append(("self-test", f"{GOOD if check.passed else BAD}  {check.name}  {check.figure}"))
        lines.append(("self-test", f"{'passed' if found.test.passed else BAD} in {found.test.seconds:.1f} s"))
    return [(name, "".join(c if c.isprintable() else " " for c in text)) for name, text in lines]


def device_line(one: Device) -> str:
    """A device in words."""
    memory = "" if one.memory is None else f", {gigabytes(one.free)} free of {gigabytes(one.memory)}"
    return f"{one.name}: {one.title}{memory}, draws in {one.dtype}"


def gigabytes(size: int | None) -> str:
    """A number of bytes as people read it."""
    if size is None:
        return "unknown"
    unit, name = next((one for one in ((1e9, "GB"), (1e6, "MB")) if size >= one[0] / 10), (1e3, "kB"))
    return f"{size / unit:.1f} {name}"
