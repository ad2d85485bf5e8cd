"""`sfumato inspect`: what a checkpoint is and what is missing in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from sfumato.cli.from_table import completion
from sfumato.cli.options import Prediction, TextEncoders, Vae, Variant, ZeroSnr, model_names
from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.adapters.describe import Description
    from sfumato.loading.inspect import Inspection
    from sfumato.spec import Prediction as Kind

SHOWN = 10


def inspect(
    file: Annotated[
        str,
        typer.Argument(
            help="A .safetensors, a .ckpt or .pt, a diffusers folder, or the name of a model on this machine.",
            autocompletion=completion(model_names),
        ),
    ],
    variant: Variant = None,
    prediction: Prediction = None,
    zero_snr: ZeroSnr = None,
    vae: Vae = None,
    text_encoder: TextEncoders = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what memory FILE takes, or the family of that name at full size.")
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="For --plan: the limit, such as 4G, that drawing with --memory would keep to."
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="For --plan: float32, float16 or bfloat16. Default: float16; with --memory what drawing takes here."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every name.")] = False,
) -> None:
    """Say what FILE is: family, layout, types, parameters of each part, metadata, and what is missing.

    Parts given apart count as its own. Nothing in the file is executed. Exits with 0 when FILE could be described,
    whether or not it can be drawn with, and with 2 when it cannot be read.
    """
    if plan:
        _print_plan(Path(file), dtype, vae, text_encoder or [], memory, as_json)
        return
    if memory is not None:
        raise SfumatoError("--memory is for the plan; add --plan")
    from sfumato.hub.local_models import locate
    from sfumato.loading.inspect import inspect_checkpoint
    from sfumato.loading.resolve import Overrides

    adapter = _adapter(file)
    if adapter is not None:
        _print_adapter(*adapter, as_json)
        return
    path, known = locate(file)
    overrides = Overrides(variant or known, cast("Kind | None", prediction), zero_snr)
    encoders = [locate(one, "text encoder")[0] for one in text_encoder or ()]
    found = inspect_checkpoint(path, None if vae is None else locate(vae, "vae")[0], encoders, overrides)
    if as_json:
        typer.echo(json.dumps(found.record()))
        return
    _print_model(found)


def _print_model(found: Inspection) -> None:
    lines = [
        ("model", found.what),
        ("layout", f"{found.layout} ({found.container})" if found.layout else found.container),
        ("size", f"{found.bytes:,} bytes"),
        ("types", ", ".join(f"{kind} x {count}" for kind, count in found.dtypes.items())),
        *(
            (name, f"{part['parameters']:,} parameters in {part['tensors']:,} tensors")
            for name, part in found.parts.items()
        ),
    ]
    if found.spec is not None:
        zero = ", zero terminal SNR" if found.spec.noise.zero_terminal_snr else ""
        size = f"{found.spec.defaults.width}x{found.spec.defaults.height}"
        lines.append(("predicts", f"{found.spec.prediction}{zero}; draws {size} pixels unless told otherwise"))
    lines += [("says", one) for one in found.stated]
    if found.family:
        lines.append(("averaged", "yes (EMA weights beside the plain ones)" if found.ema else "no"))
    for name, names in (
        ("missing", found.missing),
        ("left over", found.left_over),
        ("misshapen", found.misshapen),
        ("ignored", found.ignored),
    ):
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append((name, ", ".join(names[:SHOWN]) + more))
    if found.carried:
        lines.append(("carries", ", ".join(found.carried)))
    lines += [("metadata", f"{key}: {value}") for key, value in found.metadata.items()]
    lines.append(("usable", "yes" if found.problem is None else f"no, {found.problem}"))
    for name, text in lines:
        typer.echo(f"{name:<10} {_printable(text)}")


def _adapter(file: str) -> tuple[Path, Description] | None:
    """The adapter that a path or name means; None where it means something else."""
    from sfumato.adapters.describe import describe_file
    from sfumato.hub.local_adapters import IMAGE_KIND, KINDS, find_adapter

    path = Path(file).expanduser()
    if not path.exists():
        try:
            path = find_adapter(file, (*KINDS, IMAGE_KIND))
        except SfumatoError:
            return None
    found = describe_file(path)
    return None if found is None else (path, found)


def _print_adapter(path: Path, found: Description, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"path": str(path), **found.record()}))
        return
    lines = [
        ("adapter", found.kind),
        ("made for", found.family or ("no family that is known here" if found.layers else "")),
        ("rank", ", ".join(map(str, found.ranks))),
        ("layers", str(found.layers or "")),
        ("words", ", ".join(found.words)),
        *(("metadata", f"{key}: {value}") for key, value in sorted(found.metadata.items())),
    ]
    for name, text in lines:
        if text:
            typer.echo(f"{name:<10} {_printable(text)}")


def _print_plan(
    file: Path, dtype: str | None, vae: str | None, text_encoders: list[str], memory: str | None, as_json: bool
) -> None:
    from sfumato.loading.memory import memory_plan
    from sfumato.runtime.device import choose_device, choose_dtype

    kind = "float16" if memory is None else str(choose_dtype(None, choose_device(None))).removeprefix("torch.")
    plan = memory_plan(file, dtype or kind, vae, text_encoders, memory)
    if as_json:
        typer.echo(json.dumps(plan.record()))
        return
    typer.echo(f"{plan.title} as {plan.dtype}" + ("" if plan.file is None else f", a file of {_gigabytes(plan.file)}"))
    for part, size in plan.weights.items():
        typer.echo(f"{part:<12}{_gigabytes(size)}  {plan.parameters[part]:>14,} parameters")
    for name, size in (
        ("loading", plan.loading),
        (f"one step at {plan.width}x{plan.height}, two rows", plan.step),
        (f"decoding at {plan.width}x{plan.height}", plan.decode),
        ("drawing one picture, all networks in memory", plan.drawing),
    ):
        typer.echo(f"{_gigabytes(size)}  {name}")
    if plan.budget is None:
        return
    typer.echo(f"{_gigabytes(plan.budget.peak)}  drawing one picture with --memory {memory}:")
    for part, held in plan.parts.items():
        typer.echo(f"{part:<12}{plan.budget.manner(part, held)}")
    typer.echo(f"{'decoding':<12}{'whole' if plan.budget.tile is None else f'in tiles of {plan.budget.tile} pixels'}")


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:8.2f} GB"


def _printable(text: str) -> str:
    """Text out of a file on one line, without what could move a terminal's cursor."""
    text = text if len(text) <= 2000 else text[:1997] + "..."
    return "".join(c if c.isprintable() else " " for c in text)
