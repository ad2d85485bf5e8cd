"""`sfumato licence`: under which terms a model comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.hub.licences import Licence


def licence(
    name: Annotated[str, typer.Argument(help="A release, a model file or folder, or a licence's own name.")],
) -> None:
    """Show the licence of a model in short, and where its text is.

    Of a file or folder that is no official release the licence of its family is shown; who made it may ask for more.
    """
    from sfumato.hub.terms import terms

    found = terms(name)
    typer.echo(summary(found.title, found.licence))
    if found.note:
        typer.echo(f"\nNote: {found.note}.")


def summary(title: str, terms: Licence) -> str:
    """A licence in some lines."""
    lines = [f"{title}: {terms.title}", terms.url]
    for heading, points in (("You may", terms.allows), ("You must", terms.asks), ("Not allowed", terms.forbids)):
        if points:
            lines += ["", f"{heading}:", *(f"  - {point}" for point in points)]
    return "\n".join([*lines, "", "This is a summary; what counts is the text at the address above."])
