"""`sfumato licence`: under which terms a model comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.hub.licence_text import Terms


def licence(
    name: Annotated[str, typer.Argument(help="A release, a model file or folder, or a licence's own name.")],
) -> None:
    """Show the licence of a model in short, and where its text is.

    Of a file or folder that is no official release the licence of its family is shown; who made it may ask for more.
    """
    from sfumato.hub.licence_text import terms

    typer.echo(summary(terms(name)))


def summary(terms: Terms) -> str:
    """What a model comes under, in some lines."""
    licence = terms.licence
    lines = [f"{terms.title}: {licence.title}", licence.url]
    for heading, points in (("You may", licence.allows), ("You must", licence.asks), ("Not allowed", licence.forbids)):
        if points:
            lines += ["", f"{heading}:", *(f"  - {point}" for point in points)]
    lines += ["", "This is a summary; what counts is the text at the address above."]
    return "\n".join([*lines, f"Note: {terms.note}."] if terms.note else lines)
