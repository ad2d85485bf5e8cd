"""`sfumato train`: the autoencoder, the text-and-image model, the denoiser and variants of it, the depth network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.options import command

if TYPE_CHECKING:
    from sfumato.train.run import Options

app = typer.Typer(help="Train models.", no_args_is_help=True)

Config = Annotated[str, typer.Argument(help="A TOML file, or the name of a recipe that ships with sfumato.")]
Data = Annotated[Path, typer.Option(help="Folder that `sfumato data build emoji` made.")]
Out = Annotated[Path, typer.Option(help="Folder of the run.")]
Fresh = Annotated[bool, typer.Option("--fresh/--resume", help="Refuse to go on from a checkpoint in the run folder.")]
Seed = Annotated[int | None, typer.Option(help="Instead of the config's.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Steps in all, instead of the config's.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop with a checkpoint after so many minutes.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Init = Annotated[str | None, typer.Option(help="Folder of the model to change, instead of the config's.")]
Adapter = Annotated[Path | None, typer.Option(metavar="FILE", help="Variant whose differences are the first ones.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]


@dataclass(frozen=True)
class Running:
    """What any run understands."""

    fresh: Fresh = False
    seed: Seed = None
    steps: Steps = None
    max_minutes: Minutes = None
    device: Device = "auto"
    threads: Threads = None

    def options(self) -> Options:
        from sfumato.train.run import Options

        return Options(self.seed, self.fresh, self.steps, self.max_minutes, self.device, self.threads)


@app.command()
@command
def vae(
    config: Config,
    data: Data,
    out: Out,
    *,
    running: Running,
) -> None:
    """Train the autoencoder between pictures and latents."""
    from sfumato.train.run import train_vae

    train_vae(config, data, out, running.options())


@app.command()
@command
def clip(
    config: Config,
    data: Data,
    out: Out,
    *,
    running: Running,
) -> None:
    """Train the text-and-image model; with another seed the same recipe makes its judge."""
    from sfumato.train.run import train_clip

    train_clip(config, data, out, running.options())


@app.command()
@command
def ldm(
    config: Config,
    data: Data,
    out: Out,
    *,
    init: Annotated[
        str | None, typer.Option(help="Model to go on from: a path, or emoji for the one that ships.")
    ] = None,
    vae: Annotated[Path | None, typer.Option(help="Export folder of `sfumato train vae`; default: --init's.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Export folder of `sfumato train clip`; default: --init's.")] = None,
    latents: Annotated[Path | None, typer.Option(help="Folder that keeps encoded pictures; default: the run.")] = None,
    running: Running,
) -> None:
    """Train the denoiser on cached latents; leaves a complete model in RUN/export."""
    from sfumato.train.run import train_ldm

    train_ldm(config, data, out, init, vae, clip, latents, running.options())


@app.command("depth-net")
@command
def depth_net(
    config: Config,
    data: Data,
    out: Out,
    *,
    running: Running,
) -> None:
    """Train the small network that sees depth in a picture, on composed scenes."""
    from sfumato.train.run import train_depth_net

    train_depth_net(config, data, out, running.options())


@app.command()
@command
def beside(
    config: Config,
    data: Data,
    out: Out,
    *,
    init: Init = None,
    adapter: Adapter = None,
    depth_net: Annotated[
        Path | None, typer.Option(help="Export folder of `sfumato train depth-net`, for a variant that is told depth.")
    ] = None,
    running: Running,
) -> None:
    """Train a small change of a model by which it sees a picture with a hole, or depth; leaves a file in RUN/export."""
    from sfumato.train.run import train_beside

    train_beside(config, data, out, init, adapter, depth_net, running.options())


@app.command()
@command
def distil(
    config: Config,
    data: Data,
    out: Out,
    *,
    init: Init = None,
    adapter: Adapter = None,
    running: Running,
) -> None:
    """Train a small change of a model by which it draws in few steps without guidance; leaves a file in RUN/export."""
    from sfumato.train.run import train_distil

    train_distil(config, data, out, init, adapter, running.options())
