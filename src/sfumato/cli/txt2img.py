"""`sfumato txt2img`: draw pictures from words."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sfumato.errors import SfumatoError

# What a command that draws understands, the same in each of them.
Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw, in words.")]
Negative = Annotated[str, typer.Option(help="What to keep out of the picture.", show_default=False)]
Model = Annotated[
    str | None,
    typer.Option(help="A checkpoint file (.safetensors, .ckpt) or a diffusers folder; else the embedded model."),
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
Variant = Annotated[
    str | None,
    typer.Option(
        help="Which release a single file is, where several have the same tensors: base or turbo of XL, base or 768-v "
        "of 2.x; an unknown name lists them."
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
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels, such as 512x768.")]
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


def txt2img(
    prompt: Prompt,
    negative: Negative = "",
    model: Model = None,
    variant: Variant = None,
    vae: Vae = None,
    text_encoder: TextEncoders = None,
    steps: Steps = None,
    cfg: Cfg = None,
    seed: Seed = None,
    size: Size = None,
    sampler: SamplerName = None,
    schedule: ScheduleName = None,
    clip_skip: ClipSkip = None,
    n: Count = 1,
    out: Out = None,
    device: Device = None,
    dtype: Dtype = None,
    watermark: Watermark = True,
    as_json: Json = False,
) -> None:
    """Draw pictures from words.

    What is not given is the model's own default.

    Every picture is saved the moment it is finished, with its settings in the file. Ctrl-C stops and keeps them. The
    files' names are printed on stdout, progress on stderr.
    """
    from sfumato.cli.output import Destination

    width, height = parse_size(size)
    destination = Destination.of(out, n)
    destination.check()

    # Importing torch takes over a second: after what can fail without it.
    import sfumato
    from sfumato.cli.draw import draw
    from sfumato.tasks import txt2img as task

    sd = sfumato.load(model, device, dtype, variant=variant, vae=vae, text_encoders=text_encoder or ())
    settings = task.Settings.of(
        sd.spec, prompt, negative, steps=steps, cfg=cfg, seed=seed, width=width, height=height,
        sampler=sampler, schedule=schedule, clip_skip=clip_skip, n=n, watermark=watermark,
    )  # fmt: skip
    draw(sd, settings, task.txt2img(sd, settings), destination, as_json)


def parse_size(text: str | None) -> tuple[int | None, int | None]:
    """(width, height) of 'WxH'; (None, None) leaves both to the model. Raises SfumatoError for anything else."""
    if text is None:
        return None, None
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*[xX×]\s*([0-9]{1,6})\s*", text)
    if match is None:
        raise SfumatoError(f"the size is {text!r}; give width x height in pixels, such as 512x768")
    return int(match[1]), int(match[2])
