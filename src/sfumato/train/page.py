"""The page that a run leaves, RUN/report.html: curves, sheets by step, data and settings, in one file without links."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sfumato.files import atomic_write
from sfumato.train.origin import origin_in
from sfumato.train.report import LOG

PAGE = "report.html"
WIDTH, HEIGHT, EDGE = 340, 150, 8  # of a curve, in pixels
MOST_POINTS = 400  # of a curve
MOST_SHEETS = 12
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#222}"
    "figure{display:inline-block;margin:0 1em 1em 0;vertical-align:top}figcaption{font-size:13px;color:#555}"
    "svg{background:#f7f7f7}img{max-width:100%}table{border-collapse:collapse}"
    "td,th{padding:2px 12px 2px 0;text-align:left;vertical-align:top}code{font-size:12px}"
)
Point = tuple[int, float]


def write_page(run: Path, record: Mapping[str, Any], data: Mapping[str, object], ended: str) -> Path:
    """Writes the page of a run from its log and its sheets, and returns its path.

    `record` is the recipe, `data` says what was learnt from, `ended` how the run ended.
    """
    curves = read_curves(run / LOG)
    parts = [
        f"<h1>{escape(run.resolve().name)}</h1><p>{escape(ended)}</p>",
        "<h2>Figures on data that training does not see</h2>", _figures(curves),
        "<h2>Curves</h2>", *(_curve(name, points) for name, points in curves.items()),
        "<h2>Sheets</h2>", *_sheets(sorted((run / "samples").glob("step-*.png"))),
        "<h2>Data</h2>", _table(data),
        "<h2>Settings</h2>", _table(dict(_flat(record))),
    ]  # fmt: skip
    head = f'<meta charset="utf-8"><title>{escape(run.name)}</title><style>{STYLE}</style>'
    with atomic_write(run / PAGE) as file:
        file.write(f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n".encode())
    return run / PAGE


def read_curves(log: Path) -> dict[str, list[Point]]:
    """Returns the finite values of a log by name, (step, value) in order; of several at a step the last counts."""
    found: dict[str, dict[int, float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        step = values.pop("step")
        for name, value in values.items():
            if math.isfinite(value):
                found.setdefault(name, {})[step] = value
    return {name: sorted(points.items()) for name, points in found.items()}


def _figures(curves: Mapping[str, Sequence[Point]]) -> str:
    """The lowest, the highest and the last value of each validation figure."""
    rows = ["<tr><th>figure<th>last<th>lowest (step)<th>highest (step)</tr>"]
    for name, points in curves.items():
        if name.startswith("val/"):
            low, high = (find(points, key=lambda point: point[1]) for find in (min, max))
            ends = "".join(f"<td>{value:.5g} ({step:,})" for step, value in (low, high))
            rows.append(f"<tr><td>{escape(name.removeprefix('val/'))}<td>{points[-1][1]:.5g}{ends}</tr>")
    return f"<table>{''.join(rows)}</table>" if len(rows) > 1 else "<p>This method measures none.</p>"


def _curve(name: str, points: Sequence[Point]) -> str:
    """A curve as inline SVG; its caption says between which values it lies."""
    points = points[:: math.ceil(len(points) / MOST_POINTS)] if len(points) > MOST_POINTS else points
    steps, values = zip(*points, strict=True)
    x, y = (_scale(numbers, side) for numbers, side in ((steps, WIDTH), (values, HEIGHT)))
    path = " ".join(f"{x(step):.1f},{HEIGHT - y(value):.1f}" for step, value in points)
    drawn = f'<polyline points="{path}" fill="none" stroke="#0072b2" stroke-width="1.5"/>'
    if len(points) == 1:
        drawn = f'<circle cx="{x(steps[0]):.1f}" cy="{HEIGHT - y(values[0]):.1f}" r="3" fill="#0072b2"/>'
    caption = f"{escape(name)}: {min(values):.4g} to {max(values):.4g}, steps {steps[0]:,} to {steps[-1]:,}"
    size = f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{caption}"'
    return f"<figure><svg {size}>{drawn}</svg><figcaption>{caption}</figcaption></figure>"


def _scale(numbers: Sequence[float], side: int) -> Any:
    low, high = min(numbers), max(numbers)
    return lambda number: EDGE + (side - 2 * EDGE) * ((number - low) / (high - low) if high > low else 0.5)


def _sheets(paths: Sequence[Path]) -> Iterator[str]:
    """Sheets with what they come from: the first, the last, and some of those between."""
    if not paths:
        yield "<p>There are none.</p>"
    count = min(MOST_SHEETS, len(paths))
    for place in sorted({round(k * (len(paths) - 1) / max(count - 1, 1)) for k in range(count)}):
        path = paths[place]
        step, found = int(path.stem.removeprefix("step-")), origin_in(path)
        lineage = f"<br>lineage <code>{escape(str(found['lineage']))}</code>" if found else ""
        source = base64.b64encode(path.read_bytes()).decode()
        picture = f'<img alt="sheet of step {step}" src="data:image/png;base64,{source}">'
        yield f"<figure>{picture}<figcaption>step {step:,}{lineage}</figcaption></figure>"


def _table(values: Mapping[str, object]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}<td>{escape(str(value))}</tr>" for name, value in values.items())
    return f"<table>{rows}</table>" if rows else "<p>Nothing is said of it.</p>"


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
