"""`sfumato merge`: one model out of several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.from_table import completion
from sfumato.cli.options import TextEncoders, Vae, model_names
from sfumato.cli.progress import bar_of
from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.merging.merge import Merged


Models = Annotated[
    list[str],
    typer.Argument(
        metavar="A B ...",
        help="Checkpoint files, diffusers folders, or names of models on this machine. A gives what is not merged.",
        autocompletion=completion(model_names),
    ),
]
MethodName = Annotated[
    str,
    typer.Option(
        help="sum: A (1-w) + B w. difference: A + (B-C) w. slerp: along the arc from A to B. mean: of all. ties, "
        "dare, dare-ties: A with the changes from A to all others."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "--weight",
        help="The w of the formula, 0.5 for sum and slerp, 1 for difference; for mean, ties and dare one for all, "
        "or one for each (of ties and dare none for A), such as 1,2,1.",
    ),
]
BlockWeights = Annotated[
    str | None,
    typer.Option(
        help="Weights of single blocks: a number for each (of 1.x 25, of XL 19, or BASE first), or names, such as "
        "IN00-IN05=0.2,M00=1,OUT=0.7,text=0."
    ),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[:WEIGHT]",
        help="Add a LoRA to the result, or to A alone: a file or a name, with its weight as in prompts. "
        "May be repeated.",
    ),
]


def merge(
    models: Models,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .safetensors, or a folder for the layout diffusers.")],
    method: MethodName = "sum",
    weights: Weights = None,
    blocks: BlockWeights = None,
    density: Annotated[
        float | None, typer.Option(help="The share of each change that ties (0.2) and dare (0.5) keep.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Which values dare keeps.")] = 0,
    parts: Annotated[
        str | None, typer.Option(help="The networks to merge, such as unet,text; the others are A's. All by default.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16, or keep for the types of A.")] = "keep",
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights of each file that has both.")] = False,
    lora: Loras = None,
    lora_partial: Annotated[
        bool, typer.Option("--lora-partial", help="Use what fits of a LoRA that fits the model only in part.")
    ] = False,
    vae: Vae = None,
    text_encoder: TextEncoders = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "--force", help="Replace OUT if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make one model of several, tensor by tensor, so that files larger than the memory can be merged.

    The files may have different layouts and types. The result says in its metadata what it was made of. Ctrl-C leaves
    nothing behind.

    Example: sfumato merge a.safetensors b.safetensors --weight 0.3 --out ab.safetensors
    """
    from sfumato.hub.local_models import locate
    from sfumato.merging.merge import merge as run

    with bar_of() as progress:
        result = run(
            models,
            out,
            method=method,
            weights=None if weights is None else _numbers(weights),
            blocks=blocks,
            density=density,
            seed=seed,
            parts=None if parts is None else [part.strip() for part in parts.split(",")],
            dtype=dtype,
            ema=ema,
            vae=None if vae is None else locate(vae, "vae")[0],
            text_encoders=[locate(one, "text encoder")[0] for one in text_encoder or ()],
            loras=lora or (),
            lora_partial=lora_partial,
            overwrite=overwrite,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps({"out": str(out), "family": result.family, "tensors": result.tensors, **result.recipe}))
        return
    _summary(result)


def _numbers(text: str) -> list[float]:
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise SfumatoError(f"--weights is {text!r}; give numbers with commas between them, such as 1,0.5") from None


def _summary(result: Merged) -> None:
    recipe = result.recipe
    names = zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", recipe["models"], strict=False)
    weights = ", ".join(f"{w:g}" for w in recipe["weights"])
    formula = f"{recipe['formula']}, w = {weights}" if weights else recipe["formula"]
    lines = [
        *((name, f"{one['name']}  {(one['sha256'] or '')[:10]}") for name, one in names),
        (recipe["method"], formula),
        *(("LoRA", f"{one['name']}  {one['sha256'][:10]}, {one['weight']:g}") for one in recipe.get("loras", ())),
        ("merged", f"{result.tensors:,} tensors"),
        ("written", str(result.out)),
    ]
    for name, text in lines:
        typer.echo(f"{name:<10} {text}")
