"""The options that several commands understand, the same in each of them."""

from __future__ import annotations

from typing import Annotated

import typer

Negative = Annotated[str, typer.Option(help="What to keep out of the picture.", show_default=False)]
Model = Annotated[
    str | None,
    typer.Option(
        help="A checkpoint file (.safetensors, .ckpt), a diffusers folder, or the name of one on this machine, such as "
        "sd1.5 (`sfumato models` lists them); else the embedded model."
    ),
]
Vae = Annotated[
    str | None,
    typer.Option("--vae", metavar="FILE|FOLDER", help="An autoencoder that replaces the model's, or that it lacks."),
]
TextEncoders = Annotated[
    list[str] | None,
    typer.Option(
        "--text-encoder",
        metavar="FILE|FOLDER",
        help="A text encoder (CLIP-L, CLIP-G, T5) that replaces the model's, or that it lacks. May be repeated.",
    ),
]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.")]
Cfg = Annotated[
    float | None, typer.Option(help="Guidance scale: how closely to follow the prompt; 1 is none and faster.")
]
Seed = Annotated[
    int | None,
    typer.Option(help="Seed of the first picture, the next have the numbers after it; else drawn at random."),
]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="euler, euler_ancestral, heun, ddim, plms, dpmpp_2m, dpmpp_2m_sde, dpmpp_sde, lcm and more, also by the "
        "names of web UIs ('Euler a'); an unknown name lists them all.",
    ),
]
ScheduleName = Annotated[
    str | None,
    typer.Option("--schedule", help="discrete, karras, exponential, sgm_uniform, leading, trailing or ddim_uniform."),
]
ClipSkip = Annotated[
    int | None, typer.Option(help="Layer of the text encoder to read, counted from the last, which is 1.")
]
Count = Annotated[int, typer.Option("-n", "--number", help="How many pictures.")]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER",
        help="For one picture a .png, .jpg or .webp file, replaced if it exists; or a folder, where nothing is ever "
        "replaced. Else sfumato-SEED.png here, under a new name if that exists.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; else a GPU where there is one.")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, float16 or bfloat16; else float16 on CUDA and float32 elsewhere.")
]
Watermark = Annotated[bool, typer.Option("--watermark/--no-watermark", help="Mark pictures invisibly as generated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the names of the files.")]
