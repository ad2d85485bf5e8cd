"""`sfumato serve`: draw for clients over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.status import status


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; more than this machine needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 7860,
    folder: Annotated[Path | None, typer.Option(help="Where jobs and pictures are kept.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option(help="Drawn with where a client names none.", show_default=False)] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="cpu, cuda:0 ...; repeated, each has a worker.", show_default=False)
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.", show_default=False)] = None,
    memory: Annotated[
        float | None,
        typer.Option(min=0.1, help="Gigabytes of models that stay loaded.", show_default="half of what is free"),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="How many jobs may wait.")] = 256,
    exact: Annotated[
        bool, typer.Option("--exact", help="No two requests share a call of the network: pictures as if drawn alone.")
    ] = False,
) -> None:
    """Draw for clients over HTTP: web UIs, chat programs, scripts. Jobs survive a crash.

    Example: sfumato serve --port 7860
    """
    # Importing the server takes over a second.
    from sfumato.server.config import Config, own_folder
    from sfumato.server.serve import serve as run

    config = Config(
        folder=folder or own_folder(), host=host, port=port, model=model, devices=tuple(device or (None,)),
        dtype=dtype, memory=None if memory is None else int(memory * 1e9), queue=queue, exact=exact,
    )  # fmt: skip
    run(config, lambda address: status.say(f"sfumato listens on {address}; Ctrl-C stops it"))
