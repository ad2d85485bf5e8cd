"""`sfumato lora`: LoRAs made of models and of other LoRAs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.from_table import completion
from sfumato.cli.options import model_names
from sfumato.cli.progress import bar_of

if TYPE_CHECKING:
    from sfumato.merging.loras import MadeLora

COUNT = "{task.completed}/{task.total}"
app = typer.Typer(no_args_is_help=True, help="Make LoRAs: out of two models, or out of other LoRAs.")

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The .safetensors to write.")]
Rank = Annotated[int | None, typer.Option(help="The most that the rank of a layer may be.")]
Energy = Annotated[
    float | None,
    typer.Option(help="The share of a layer's change (its sum of squares) that must be kept, such as 0.95."),
]
Dtype = Annotated[str, typer.Option(help="float16, bfloat16 or float32.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Fits = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="A model that the LoRAs fit, if it has the sizes of no release."),
]


@app.command()
def extract(
    tuned: Annotated[
        str,
        typer.Argument(
            metavar="TUNED", help="The model that has what the LoRA shall have.", autocompletion=completion(model_names)
        ),
    ],
    base: Annotated[
        str,
        typer.Argument(
            metavar="BASE", help="The model that it was trained from.", autocompletion=completion(model_names)
        ),
    ],
    out: Out,
    rank: Rank = None,
    energy: Energy = None,
    parts: Annotated[
        str | None, typer.Option(help="Parts of the model, such as unet,text; all that LoRAs can change by default.")
    ] = None,
    dtype: Dtype = "float16",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make a LoRA of two models.

    It is what training made of BASE to get TUNED; of rank 64, unless --rank or --energy is given.

    Example: sfumato lora extract portrait.safetensors v1-5.safetensors --rank 32 --out portrait-lora.safetensors
    """
    from sfumato.merging.loras import extract_lora

    with bar_of(COUNT) as progress:
        made = extract_lora(
            tuned, base, out, rank=rank, energy=energy, dtype=dtype, overwrite=overwrite, progress=progress,
            parts=None if parts is None else [part.strip() for part in parts.split(",")],
        )  # fmt: skip
    _print(made, as_json)


@app.command()
def resize(
    lora: Annotated[str, typer.Argument(metavar="LORA", help="A LoRA's file, or its name in the model folders.")],
    out: Out,
    rank: Rank = None,
    energy: Energy = None,
    dtype: Dtype = "float16",
    model: Fits = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a LoRA with a smaller rank.

    Each layer becomes the nearest of that rank.

    Example: sfumato lora resize style.safetensors --rank 8 --out style-8.safetensors
    """
    if rank is None and energy is None:
        raise typer.BadParameter("give --rank, --energy or both")
    merge([lora], out, rank, energy, model, dtype, overwrite, as_json)


@app.command()
def merge(
    loras: Annotated[
        list[str],
        typer.Argument(metavar="LORA[:WEIGHT] ...", help="Files or names, with weights as in prompts: style:0.8."),
    ],
    out: Out,
    rank: Rank = None,
    energy: Energy = None,
    model: Fits = None,
    dtype: Dtype = "float16",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write one LoRA that does what several do.

    The result is exact; --rank or --energy make it smaller.

    Example: sfumato lora merge style.safetensors:0.8 hero.safetensors:0.5 --out both.safetensors
    """
    from sfumato.merging.loras import merge_loras

    with bar_of(COUNT) as progress:
        made = merge_loras(
            loras, out, rank=rank, energy=energy, model=model, dtype=dtype, overwrite=overwrite, progress=progress
        )
    _print(made, as_json)


def _print(made: MadeLora, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(made), default=str))
        return
    least, most = made.ranks
    lines = [
        ("family", made.family),
        ("layers", f"{made.layers:,}, of rank {least}" + (f" to {most}" if most > least else "")),
        ("kept", f"{made.kept:.2%} of the change of these layers (of its squares)"),
        ("written", str(made.out)),
    ]
    if made.left_out:
        lines.insert(
            3, ("left out", f"{made.left_out:,} changed norms, biases and word vectors, which LoRAs do not have")
        )
    for name, text in lines:
        typer.echo(f"{name:<10} {text}")
