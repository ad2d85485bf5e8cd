"""`sfumato upscale`: draw a picture larger."""

from __future__ import annotations

from typing import Annotated

import typer

from sfumato.cli.options import (
    Cfg,
    ClipSkip,
    Count,
    Device,
    Dtype,
    Json,
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

Picture = Annotated[str, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")]
Prompt = Annotated[str, typer.Argument(metavar="[PROMPT]", help="What the picture shows, in words.")]
Model = Annotated[
    str,
    typer.Option(help="An upscaler, such as Stable Diffusion x4: a checkpoint file or a diffusers folder."),
]
NoiseLevel = Annotated[
    int, typer.Option(help="From 0, which keeps closest to the picture, to 350, which lets the model invent more.")
]


def upscale(
    picture: Picture,
    prompt: Prompt = "",
    *,
    model: Model,
    negative: Negative = "",
    noise_level: NoiseLevel = 20,
    vae: Vae = None,
    text_encoder: TextEncoders = None,
    steps: Steps = None,
    cfg: Cfg = None,
    seed: Seed = None,
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
    """Draw a picture four times as wide and high.

    What is not given is the model's own default.

    The result is saved as `sfumato txt2img` saves its pictures.
    """
    from sfumato.cli.output import Destination
    from sfumato.provenance.picture import open_image

    destination = Destination.of(out, n)
    destination.check()
    image = open_image(picture)

    # Importing torch takes over a second: after what can fail without it.
    import sfumato
    from sfumato.cli.draw import draw
    from sfumato.tasks import upscale as task
    from sfumato.tasks.txt2img import Settings

    sd = sfumato.load(model, device, dtype, vae=vae, text_encoders=text_encoder or ())
    width, height = task.large_size(sd, image)
    settings = Settings.of(
        sd.spec, prompt, negative, steps=steps, cfg=cfg, seed=seed, width=width, height=height,
        sampler=sampler, schedule=schedule, clip_skip=clip_skip, n=n, watermark=watermark,
    )  # fmt: skip
    events = task.upscale(sd, image, settings, noise_level)
    draw(sd, settings, events, destination, as_json, {"noise_level": noise_level})
