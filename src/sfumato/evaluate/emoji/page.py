"""Figures and the pictures behind them as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from PIL import Image

from sfumato.evaluate.emoji.attributes import WHOLE, Answer
from sfumato.evaluate.emoji.inpainting import InpaintingReport
from sfumato.evaluate.emoji.report import Report
from sfumato.evaluate.emoji.samples import Samples, SceneSample, SingleSample, WordsSample
from sfumato.evaluate.emoji.scores import share_right
from sfumato.evaluate.emoji.tables import Table, confusions, tables
from sfumato.files import atomic_write

T = TypeVar("T")
SIDE = 128  # pixels; larger pictures are scaled down
QUALITY = 80
SHEET, BEST = 18, 9  # pictures that chance picks, and the best and the worst of all

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .6rem; border-bottom: 1px solid #8886; text-align: right; white-space: nowrap }
th:first-child { text-align: left }
tr:first-child th { border-bottom-width: 2px }
.note, figcaption { font-size: 12px; opacity: .85 }
.matrices { display: flex; flex-wrap: wrap; gap: 0 2.5rem }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 1rem }
figure { margin: 0 }
figure div { display: flex; gap: 4px }
img { width: 128px; height: 128px; border-radius: 4px; background: #fff }
.right::before { content: "✓ "; color: #2a2 }
.wrong::before { content: "✗ "; color: #e44 }
"""


def write_page(path: Path, report: Report | InpaintingReport, samples: Samples, said: Mapping[str, Any]) -> None:
    """Write the page at once or not at all; `said` are the settings."""
    with atomic_write(path) as file:
        file.write(page(report, samples, said).encode())


def page(report: Report | InpaintingReport, samples: Samples, said: Mapping[str, Any]) -> str:
    """The whole document. Under each picture stands what was asked for, beside it a real picture of the same."""
    title = f"sfumato evaluate: {said['model']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        _settings(said),
        *map(_table, tables(report)),
    ]
    if matrices := confusions(report):
        parts += [
            "<h2>What was taken for what</h2>",
            "<p>Rows are what was asked for, columns what was seen: in drawn pictures, and in composed ones, which "
            "show the check's own errors.</p>",
            f'<div class="matrices">{"".join(map(_table, matrices))}</div>',
        ]
    if samples.scenes:
        parts += _scenes(samples.scenes)
    if samples.singles:
        parts += _singles(samples.singles)
    if samples.words:
        parts += _words(samples.words)
    if samples.varied:
        parts += ["<h2>Variety</h2>", "<p>One prompt, which names no style, with several seeds.</p>"]
        parts += [_row(prompt, images) for prompt, images in samples.varied]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(parts)}\n</body></html>\n"
    )


def _scenes(scenes: Sequence[SceneSample]) -> list[str]:
    ranked = sorted(scenes, key=lambda scene: share_right(scene.answers), reverse=True)
    return [
        "<h2>Scenes</h2>",
        "<p>Left the drawn picture; right the scene whose caption it was asked for, or what was given to complete.</p>",
        *_sheet("Not picked", map(_scene, _unpicked(scenes))),
        *_sheet("Best", map(_scene, ranked[:BEST])),
        *_sheet("Worst", map(_scene, ranked[-BEST:])),
    ]


def _singles(singles: Sequence[SingleSample]) -> list[str]:
    ranked = sorted(singles, key=lambda single: single.likeness, reverse=True)
    nearest = sorted(singles, key=lambda single: single.distance)
    return [
        "<h2>Single things</h2>",
        "<p>Left the drawn picture, right the real one whose caption it was asked for; below how like each other the "
        "judge finds them (cosine).</p>",
        *_sheet("Not picked", map(_single, _unpicked(singles))),
        *_sheet("Best", map(_single, ranked[:BEST])),
        *_sheet("Worst", map(_single, ranked[-BEST:])),
        "<h2>Originality</h2>",
        "<p>The drawn pictures that come nearest to a training picture, which is on the right, and their distance.</p>",
        *_sheet("", map(_pair, nearest[:BEST])),
    ]


def _words(words: Sequence[WordsSample]) -> list[str]:
    wrong = [one for one in words if one.right < 0.5]
    return [
        "<h2>Unseen sentences and keywords</h2>",
        "<p>Left the drawn picture, right a real one of the concept; below what the judge takes it for.</p>",
        *_sheet("Not picked", map(_worded, _unpicked(words))),
        *_sheet("Wrong", map(_worded, _unpicked(wrong))),
    ]


def _unpicked(things: Sequence[T]) -> list[T]:
    """Up to SHEET of them in their order, the same in every run."""
    return [things[k] for k in sorted(Random(0).sample(range(len(things)), min(SHEET, len(things))))]


def _sheet(title: str, figures: Iterable[str]) -> list[str]:
    return [*([f"<h3>{title}</h3>"] if title else []), f'<div class="sheet">{"".join(figures)}</div>']


def _scene(scene: SceneSample) -> str:
    marks = " ".join(map(_mark, scene.answers))
    return _figure(scene.image, scene.real, f"{_asked(scene)}<br>{marks}")


def _single(single: SingleSample) -> str:
    return _figure(single.image, single.real, f"{_asked(single)}<br>likeness {single.likeness:.2f}")


def _worded(one: WordsSample) -> str:
    mark = f'<span class="{"right" if one.right >= 0.5 else "wrong"}">{escape(one.seen)}</span>'
    return _figure(one.image, one.real, f"{_asked(one)}<br>{mark}")


def _row(prompt: str, images: Sequence[Image.Image]) -> str:
    return f"<figure><div>{''.join(map(_image, images))}</div><figcaption>{escape(prompt)}</figcaption></figure>"


def _pair(single: SingleSample) -> str:
    return _figure(single.image, single.nearest, f"{_asked(single)}<br>distance {single.distance:.3f}")


def _asked(shown: SceneSample | SingleSample | WordsSample) -> str:
    return f'<span lang="{shown.language}">{escape(shown.prompt)}</span> (seed {shown.seed})'


def _mark(answer: Answer) -> str:
    text = WHOLE if answer.attribute == WHOLE else f"{answer.attribute} {answer.seen}"
    return f'<span class="{"right" if answer.right else "wrong"}">{escape(text)}</span>'


def _figure(left: Image.Image, right: Image.Image, caption: str) -> str:
    return f"<figure><div>{_image(left)}{_image(right)}</div><figcaption>{caption}</figcaption></figure>"


def _image(image: Image.Image) -> str:
    if max(image.size) > SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return f'<img alt="" src="data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _settings(said: Mapping[str, Any]) -> str:
    words = (f"{name} {', '.join(value) if isinstance(value, list) else value}" for name, value in said.items())
    return f"<p>{escape('; '.join(words))}</p>"


def _table(table: Table) -> str:
    head, *body = table.rows
    rows = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for first, *cells in body:
        rows.append(f"<tr><th>{escape(first)}</th>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return f'<div class="wide"><table>{"".join(rows)}</table>{note}</div>'
