"""`sfumato train`: the autoencoder, the text-and-image model and the denoiser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train models.", no_args_is_help=True)

Config = Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that ships with sfumato.")]
Data = Annotated[Path, typer.Option(help="Folder that `sfumato data build emoji` made.")]
Out = Annotated[Path, typer.Option(help="Folder of the run.")]
Fresh = Annotated[bool, typer.Option("--fresh/--resume", help="Refuse to go on from a checkpoint in the run folder.")]
Seed = Annotated[int | None, typer.Option(help="Instead of the config's.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps in all, instead of the config's.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop with a checkpoint after so many minutes.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]


@app.command()
def vae(
    config: Config,
    data: Data,
    out: Out,
    fresh: Fresh = False,
    seed: Seed = None,
    steps: Steps = None,
    max_minutes: Minutes = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train the autoencoder between pictures and latents."""
    from sfumato.train.run import Options, train_vae

    train_vae(config, data, out, Options(seed, fresh, steps, max_minutes, device, threads))


@app.command()
def clip(
    config: Config,
    data: Data,
    out: Out,
    fresh: Fresh = False,
    seed: Seed = None,
    steps: Steps = None,
    max_minutes: Minutes = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train the text-and-image model; with another seed the same recipe makes its judge."""
    from sfumato.train.run import Options, train_clip

    train_clip(config, data, out, Options(seed, fresh, steps, max_minutes, device, threads))


@app.command()
def ldm(
    config: Config,
    data: Data,
    out: Out,
    init: Annotated[
        str | None, typer.Option(help="Model to go on from: a path, or emoji for the one that ships.")
    ] = None,
    vae: Annotated[Path | None, typer.Option(help="Export folder of `sfumato train vae`; default: --init's.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Export folder of `sfumato train clip`; default: --init's.")] = None,
    latents: Annotated[Path | None, typer.Option(help="Folder that keeps encoded pictures; default: the run.")] = None,
    fresh: Fresh = False,
    seed: Seed = None,
    steps: Steps = None,
    max_minutes: Minutes = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train the denoiser on cached latents; leaves a complete model in RUN/export."""
    from sfumato.train.run import Options, train_ldm

    options = Options(seed, fresh, steps, max_minutes, device, threads)
    train_ldm(config, data, out, init, vae, clip, latents, options)
