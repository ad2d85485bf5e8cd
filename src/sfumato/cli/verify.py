"""`sfumato verify`: this program against reference data."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.verify.cases import Result

PATTERN = "A glob on a case's path ('*/euler*'), or the beginning of it in whole names (tiny/sd1). May be repeated."


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of reference data, all of it or some.")],
    only: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help=f"Take these cases. {PATTERN}")] = None,
    without: Annotated[list[str] | None, typer.Option("--except", metavar="PATTERN", help="Leave these out.")] = None,
    t5_tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="spiece.model or tokenizer.json of T5, to compare its ids by."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run every case of DIR through this program and print a row for each.

    A row gives the largest absolute and relative difference and the tolerance, or the number of mismatches where
    things must be equal. Exits with 0 if every selected case passed, with 1 if one failed, with 2 if none is selected.
    A kind of case that this version does not know counts as failed.
    """
    from sfumato.verify.folder import find_cases, select

    cases = select(find_cases(folder, t5_tokenizer), only or (), without or ())
    width = max(len(case.path) for case in cases)
    rows = []
    if not as_json:
        typer.secho(f"{'case':{width}}  {'absolute':>9}  {'relative':>9}  {'tolerance':>11}  result", bold=True)
    for case in cases:
        result = case.run()
        rows.append({"case": case.path} | asdict(result))
        if not as_json:
            verdict = typer.style("pass", fg="green") if result.passed else typer.style("FAIL", fg="red", bold=True)
            typer.echo(f"{case.path:{width}}  {_figures(result)}  {verdict}{_reason(result)}")
    bad = sum(not row["passed"] for row in rows)
    if as_json:
        finite = [{key: _finite(value) for key, value in row.items()} for row in rows]
        typer.echo(json.dumps({"passed": len(rows) - bad, "failed": bad, "cases": finite}))
    else:
        typer.echo(f"{len(rows) - bad} passed, {bad} failed")
    raise typer.Exit(1 if bad else 0)


def _figures(result: Result) -> str:
    if result.mismatches is not None:
        return f"{result.mismatches} of {result.compared} differ".rjust(20) + " " * 2 + "exact".rjust(11)
    absolute, relative = ("" if value is None else f"{value:.1e}" for value in (result.absolute, result.relative))
    return f"{absolute:>9}  {relative:>9}  {result.tolerance:>11}"


def _reason(result: Result) -> str:
    return f"  {result.reason}" if result.reason else ""


def _finite(value: object) -> object:
    """JSON knows no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
