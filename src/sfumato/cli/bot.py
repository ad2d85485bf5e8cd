"""`sfumato bot`: draw for a chat."""

from __future__ import annotations

import importlib
import os
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from sfumato.cli.status import status
from sfumato.errors import SfumatoError


class Service(StrEnum):
    DISCORD = "discord"
    TELEGRAM = "telegram"
    MATRIX = "matrix"


def bot(
    service: Annotated[Service, typer.Argument(help="The chat service.")],
    token: Annotated[
        str | None,
        typer.Option(help="The bot's token; by default that in DISCORD_TOKEN, TELEGRAM_TOKEN or MATRIX_TOKEN."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Homeserver of Matrix, by default https://matrix.org; or your own server of Telegram's API."),
    ] = None,
    server: Annotated[
        str, typer.Option(envvar="SFUMATO_SERVER", help="Address of the server that draws.")
    ] = "http://127.0.0.1:7860",
    server_token: Annotated[
        str | None, typer.Option(envvar="SFUMATO_TOKEN", help="Token of that server, if it asks for one.")
    ] = None,
    hourly: Annotated[int, typer.Option(min=1, help="Most pictures per hour for each person.")] = 60,
    at_once: Annotated[int, typer.Option(min=1, help="Most jobs of one person that are not done.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Most steps of a job.")] = 60,
    pixels: Annotated[int, typer.Option(min=64, help="Side of the largest square picture.")] = 1024,
    blocklist: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words and phrases that prompts must not have, one per line.")
    ] = None,
) -> None:
    """Draw for a chat, by the commands /imagine, /blend, /describe, /queue and /help; in Matrix !imagine and so on.

    The bot needs a running server (`sfumato serve`). Give tokens as environment variables: other users of this machine
    can see the options of a command.

    Example: DISCORD_TOKEN=... sfumato bot discord
    """
    from sfumato.bot.core import Bot
    from sfumato.bot.limits import Blocklist, Limits
    from sfumato.client import Client

    variable = f"{service.upper()}_TOKEN"
    token = token or os.environ.get(variable)
    if not token:
        raise SfumatoError(f"there is no token for {service}; set {variable}, or give --token")
    adapter, client = _adapter(service), Client(server, server_token)
    limits = Limits(hourly=hourly, at_once=at_once, steps=steps, pixels=pixels * pixels)
    painter = Bot(client, limits, None if blocklist is None else Blocklist.of(blocklist))
    client.jobs(1)  # raises where no server answers, or it wants another token
    status.say(f"the bot draws by {server}; Ctrl-C stops it")
    if service is Service.DISCORD:
        adapter.run(token, painter)
    else:
        adapter.run(token, painter, address)


def _adapter(service: Service) -> ModuleType:
    """The module for a service. Raises SfumatoError where its library is missing."""
    try:
        return importlib.import_module(f"sfumato.bot.{service}")
    except ModuleNotFoundError as error:
        raise SfumatoError(
            f'{service} needs the package {error.name}; pip install "sfumato[bot-{service}]" installs it'
        ) from error
