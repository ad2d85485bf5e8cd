"""`sfumato models`: what is known and what is on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sfumato.cli.progress import bar_of
from sfumato.cli.table import print_table
from sfumato.user_config import shipped

if TYPE_CHECKING:
    from sfumato.hub.local_models import Model


def models(
    hash_files: Annotated[
        bool, typer.Option("--hash", help="Compute the SHA-256 of every file that has none yet; it is kept.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list.")] = False,
) -> None:
    """List the official releases and the models on this machine.

    Looks into the folder that `sfumato pull` fills, the Hugging Face cache, and the folders named by SFUMATO_MODELS or
    `models` in config.toml: folders of models, or of A1111 or ComfyUI. Files are known by their tensors, of which only
    the names are read; one that is broken is listed as such.
    """
    from sfumato.hub.local_models import models as list_models

    if hash_files:
        _hash_all()
    found = list_models()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], default=str))
        return
    print_table([("NAME", "WHAT", "SIZE", "TYPE", "LICENCE", "SHA-256", "WHERE"), *map(_row, found)])


def _row(one: Model) -> tuple[str, ...]:
    return (
        _printable(one.name),
        _printable(one.what),
        _size(one.size) if one.size else "",
        one.dtype or "",
        one.licence or "",
        (one.sha256 or "")[:10],
        _where(one.path) + (f" ({_printable(one.problem)})" if one.problem else ""),
    )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _where(path: Path | None) -> str:
    if path is None:
        return "not here"
    if path.is_relative_to(shipped("")):
        return "ships with sfumato"
    home = Path.home()
    return _printable(f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path))


def _hash_all() -> None:
    from sfumato.checkpoint.hashes import hashed_file, kept_sha256, sha256
    from sfumato.hub.local_models import found

    files = [file for one in found() if (file := hashed_file(one.path)) and kept_sha256(file) is None]
    total, done = sum(file.stat().st_size for file in files), 0
    with bar_of() as progress:
        for file in files:

            def advance(count: int, name: str = file.name) -> None:
                nonlocal done
                done += count
                progress(done, total, name)

            sha256(file, advance)


def _printable(text: str) -> str:
    """A name from outside, without what could move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in text)
