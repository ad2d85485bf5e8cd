"""`sfumato serve`: draw for clients over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.status import status

app = typer.Typer(invoke_without_command=True)
user = typer.Typer(no_args_is_help=True, help="Manage the users of a server.")
app.add_typer(user, name="user")

Users = Annotated[
    Path | None,
    typer.Option("--users", metavar="FILE", help="File of users; `sfumato serve user add` makes it."),
]


Token = Annotated[
    str | None,
    typer.Option(
        envvar="SFUMATO_TOKEN",
        help="Secret that clients must send as Bearer token or password, browsers once as ?token=.",
        show_default=False,
    ),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Further host name by which clients may call the server.", show_default=False),
]
Origins = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL", help="Other site whose pages may call the server: https://example.org.", show_default=False
    ),
]


@app.callback()
def serve(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in, with --token or --users.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    folder: Annotated[Path | None, typer.Option(help="Folder for jobs and pictures.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option(help="Model for requests that name none.", show_default="the one that ships")
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Device: cpu, cuda:0 ... Give several, and each has a worker.", show_default="the best one"),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Precision: float32, float16, bfloat16, int8, or auto: the fastest of the exact ones.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(min=0.1, help="Gigabytes of models that stay loaded.", show_default="half of what is free"),
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Largest number of waiting jobs.")] = 256,
    exact: Annotated[
        bool, typer.Option("--exact", help="Draw each request alone, so that no other one changes its rounding.")
    ] = False,
    token: Token = None,
    users: Users = None,
    allow_host: Hosts = None,
    origin: Origins = None,
    licences: Annotated[
        bool, typer.Option("--require-licences", help="Refuse models whose licence was not accepted here.")
    ] = False,
    safety_checker: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER",
            help="Blank pictures that this safety checker finds unsafe; `model` uses the one of the model itself.",
            show_default=False,
        ),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Allow requests to give pictures by public web addresses.")
    ] = False,
    credentials: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="KEY CERTIFICATES", help="Sign pictures (C2PA) with these PEM files.", show_default=False),
    ] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log one JSON object per line.")] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Log prompts too.")] = False,
) -> None:
    """Start the server: a page for browsers, and an HTTP API for web UIs, chat programs and scripts.

    Open http://127.0.0.1:7860 in a browser; `sfumato up` does that for you. Jobs survive a crash.

    Example: sfumato serve --port 7860
    """
    if context.invoked_subcommand is not None:
        return
    # Importing the server takes over a second.
    from sfumato.server.config import Config, own_folder
    from sfumato.server.logs import write_logs
    from sfumato.server.serve import serve as run

    config = Config(
        folder=folder or own_folder(), host=host, port=port, model=model, devices=tuple(device or (None,)),
        dtype=dtype, memory=None if memory is None else int(memory * 1e9), queue=queue, exact=exact, token=token,
        users=users, hosts=tuple(allow_host or ()), origins=tuple(origin or ()), licences=licences,
        safety=safety_checker, credentials=credentials, log_prompts=log_prompts,
    )  # fmt: skip
    if fetch:
        os.environ["SFUMATO_FETCH"] = "1"
    write_logs(log_json)
    run(config, lambda address: status.say(f"sfumato listens on {address}; Ctrl-C stops it"))


@user.command()
def add(
    name: Annotated[str, typer.Argument(help="The user's name.")],
    password: Annotated[
        str,
        typer.Option(
            prompt=True, hide_input=True, confirmation_prompt=True, help="Password; without it you are asked."
        ),
    ],
    users: Users = None,
) -> None:
    """Add a user, or change the password of one.

    Example: sfumato serve user add ada --users users.txt
    """
    from sfumato.server.config import own_folder
    from sfumato.server.safety.users import add_user

    path = users or own_folder() / "users"
    add_user(path, name, password)
    status.say(f"{name} is in {path}; start the server with --users {path}")
