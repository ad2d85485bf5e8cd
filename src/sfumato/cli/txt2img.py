"""`sfumato txt2img`: draw pictures from words."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sfumato.cli.options import (
    Cfg,
    ClipSkip,
    Count,
    Device,
    Dtype,
    Json,
    Model,
    Negative,
    Out,
    SamplerName,
    ScheduleName,
    Seed,
    Steps,
    TextEncoders,
    Vae,
    Watermark,
)
from sfumato.errors import SfumatoError

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw, in words.")]
Variant = Annotated[
    str | None,
    typer.Option(
        help="Which release a single file is, where several have the same tensors: base or turbo of XL and 3.5 large, "
        "base or 768-v of 2.x; an unknown name lists them."
    ),
]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels, such as 512x768.")]
Slg = Annotated[
    float | None,
    typer.Option(help="Scale of skip-layer guidance, for 3.5 medium: 2.5 is what its authors use, 0 is none."),
]
T5Length = Annotated[
    int | None, typer.Option("--t5-length", help="Tokens that T5 reads at least; else 256. The original code has 77.")
]
T5File = Annotated[
    str | None,
    typer.Option(
        "--t5-tokenizer",
        metavar="FILE",
        help="T5's spiece.model or tokenizer.json, for a model of 3 or 3.5 that brings none.",
    ),
]
CfgRescale = Annotated[
    float | None, typer.Option(help="Take back contrast that strong guidance adds, from 0 (not) to 1; 0.7 is usual.")
]
Refiner = Annotated[
    str | None, typer.Option(metavar="MODEL", help="A model, such as XL's refiner, that finishes what MODEL began.")
]
SwitchAt = Annotated[
    float | None,
    typer.Option(help="After which share of the noise schedule the refiner goes on, from 0 to 1; else 0.8."),
]
OriginalSize = Annotated[
    str | None, typer.Option(metavar="WxH", help="XL: the size of the imagined original; else the drawn size.")
]
Crop = Annotated[
    str | None, typer.Option(metavar="X,Y", help="XL: what is cut off the original at its left and top; else 0,0.")
]
TargetSize = Annotated[
    str | None, typer.Option(metavar="WxH", help="XL: the size that it is told to draw; else the drawn size.")
]
AestheticScore = Annotated[
    float | None, typer.Option(help="XL's refiner: how good a picture it shall make, from 0 to 10; else 6.")
]


def txt2img(
    prompt: Prompt,
    negative: Negative = "",
    model: Model = None,
    variant: Variant = None,
    vae: Vae = None,
    text_encoder: TextEncoders = None,
    t5_tokenizer: T5File = None,
    t5_length: T5Length = None,
    steps: Steps = None,
    cfg: Cfg = None,
    seed: Seed = None,
    size: Size = None,
    sampler: SamplerName = None,
    schedule: ScheduleName = None,
    clip_skip: ClipSkip = None,
    cfg_rescale: CfgRescale = None,
    slg: Slg = None,
    refiner: Refiner = None,
    switch_at: SwitchAt = None,
    original_size: OriginalSize = None,
    crop: Crop = None,
    target_size: TargetSize = None,
    aesthetic_score: AestheticScore = None,
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

    width, height = parse_pair("size", size) or (None, None)
    numbers = {
        "original_size": parse_pair("original size", original_size),
        "crop": parse_pair("crop", crop, ",", "left,top in pixels, such as 0,128"),
        "target_size": parse_pair("target size", target_size),
    }
    destination = Destination.of(out, n)
    destination.check()

    # Importing torch takes over a second: after what can fail without it.
    import sfumato
    from sfumato.cli.draw import draw
    from sfumato.tasks import txt2img as task

    sd = sfumato.load(
        model, device, dtype,
        variant=variant, vae=vae, text_encoders=text_encoder or (), t5_tokenizer=t5_tokenizer,
        t5_length=t5_length,
    )  # fmt: skip
    second = None if refiner is None else sfumato.load(refiner, device, dtype)
    settings = task.Settings.of(
        sd.spec, prompt, negative, steps=steps, cfg=cfg, seed=seed, width=width, height=height,
        sampler=sampler, schedule=schedule, clip_skip=clip_skip, n=n, watermark=watermark, cfg_rescale=cfg_rescale,
        slg=slg, **numbers, aesthetic_score=aesthetic_score, switch_at=switch_at,
        refiner=None if second is None else second.spec,
    )  # fmt: skip
    draw(sd, settings, task.txt2img(sd, settings, second), destination, as_json)


def parse_pair(
    name: str, text: str | None, mark: str = "xX×", form: str = "width x height in pixels, such as 512x768"
) -> tuple[int, int] | None:
    """Both numbers of 'WxH', or of what is written with another mark; None of None. Raises SfumatoError."""
    if text is None:
        return None
    match = re.fullmatch(rf"\s*([0-9]{{1,6}})\s*[{mark}]\s*([0-9]{{1,6}})\s*", text)
    if match is None:
        raise SfumatoError(f"the {name} is {text!r}; give {form}")
    return int(match[1]), int(match[2])
