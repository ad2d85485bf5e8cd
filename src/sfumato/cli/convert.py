"""`sfumato convert`: a checkpoint in another layout or precision."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from sfumato.cli.from_table import completion
from sfumato.cli.options import Prediction, TextEncoders, Vae, ZeroSnr, model_names
from sfumato.cli.progress import bar_of
from sfumato.errors import SfumatoError, unknown
from sfumato.files import atomic_write

if TYPE_CHECKING:
    from sfumato.loading.convert import Proof
    from sfumato.spec import Prediction as Kind

Source = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help="A .safetensors, a .ckpt, a diffusers folder, or the name of a model on this machine.",
        autocompletion=completion(model_names),
    ),
]


def convert(
    source: Source,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .safetensors, or a folder for the layout diffusers.")],
    layout: Annotated[
        str, typer.Option(help="original (one file, as the authors publish it) or diffusers (a folder).")
    ],
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16, or keep for the types of IN.")] = "keep",
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights of a file that holds both.")] = False,
    variant: Annotated[
        str | None, typer.Option(help="Which release a single file is, of those with the same tensors: base, turbo ...")
    ] = None,
    prediction: Prediction = None,
    zero_snr: ZeroSnr = None,
    vae: Vae = None,
    text_encoder: TextEncoders = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of IN's tokenizer, if that is not CLIP's own and IN brings none.")
    ] = None,
    quantise: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Store the large weights of what draws in fewer bits: fp8, int8, svdq-int4."),
    ] = None,
    proof: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the table of all tensors goes; else OUT.proof.tsv.")
    ] = None,
    force: Annotated[bool, typer.Option("--overwrite", "--force", help="Replace OUT if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every tensor.")] = False,
) -> None:
    """Write the model IN as OUT in a layout and precision, and prove that nothing was lost.

    The result is read back before it gets its name: mapped back to IN's layout it must be IN, bit by bit (with another
    precision: rounded once). The table of the proof lists every tensor of both sides by name, with shape, type and
    SHA-256, and why a tensor was left out, kept aside or made. Ctrl-C leaves nothing behind.
    """
    table = proof or out.with_name(out.name + ".proof.tsv")
    if table.exists() and not force:
        raise SfumatoError(f"{table} exists; name another file with --proof, or replace it with --overwrite")

    from sfumato.hub.local_models import locate
    from sfumato.loading.convert import DTYPES
    from sfumato.loading.convert import convert as run

    if dtype not in DTYPES:
        raise unknown("--dtype", dtype, DTYPES)
    path, known = locate(source)
    with bar_of() as progress:
        result = run(
            path,
            out,
            layout,
            dtype=DTYPES[dtype],
            ema=ema,
            variant=variant or known,
            prediction=cast("Kind | None", prediction),
            zero_snr=zero_snr,
            vae=None if vae is None else locate(vae, "vae")[0],
            text_encoders=[locate(one, "text encoder")[0] for one in text_encoder or ()],
            tokenizer=tokenizer,
            quantise=quantise,
            force=force,
            progress=progress,
        )
    with atomic_write(table) as file:
        file.write(result.table().encode())
    if as_json:
        record = dataclasses.asdict(result) | {"source": source, "out": str(out), "exact": result.exact}
        typer.echo(json.dumps(record | {"proof": str(table)}))
    else:
        _summary(result, table)


def _summary(result: Proof, table: Path) -> None:
    written = [row for row in result.rows if row.name is not None]
    notes = Counter(row.note for row in result.rows if row.note.startswith(("left out", "kept", "made")))
    plain = len(result.rows) - sum(notes.values())
    lines = [
        ("model", result.family),
        ("layout", " to ".join(result.layouts)),
        ("written", f"{len(written):,} tensors"),
    ]
    lines.append(("converted", f"{plain:,} tensors"))
    lines += [
        (note.split(":")[0], f"{count:,} tensors:{note.partition(':')[2] or ' not read'}")
        for note, count in notes.items()
    ]
    worst = max(result.rows, key=lambda row: row.error)
    exact = (
        "bit by bit"
        if result.exact
        else f"rounded by at most {worst.error:.2g} of a tensor's largest value ({worst.name})"
    )
    lines += [("proved", f"mapped back, the result is the input, {exact}"), ("table", str(table))]
    for name, text in lines:
        typer.echo(f"{name:<10} {text}")
