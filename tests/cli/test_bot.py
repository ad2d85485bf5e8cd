"""`sfumato bot` before it talks to anybody."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from typer.testing import Result

Run = Callable[..., Result]


def test_what_is_missing_is_named(run: Run, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISCORD_TOKEN", "TELEGRAM_TOKEN", "MATRIX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    refused(run("bot", "discord"), "DISCORD_TOKEN")
    refused(run("bot", "irc"), "irc")
    monkeypatch.setenv("MATRIX_TOKEN", "good")
    monkeypatch.delitem(sys.modules, "sfumato.bot.matrix", raising=False)
    monkeypatch.setitem(sys.modules, "nio", None)
    refused(run("bot", "matrix"), "nio", "sfumato[bot-matrix]")


def test_without_a_server_it_does_not_begin(run: Run, refused: Callable[..., None]) -> None:
    pytest.importorskip("discord")
    refused(run("bot", "discord", "--token", "x", "--server", "http://127.0.0.1:9"), "sfumato serve")
