"""A report's figures as rows of text, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.data.emoji.captions import LANGUAGES
from sfumato.evaluate.emoji.inpainting import InpaintingReport
from sfumato.evaluate.emoji.report import Concepts, Report
from sfumato.evaluate.emoji.scores import Attributes, Matrix
from sfumato.evaluate.intervals import Estimate
from sfumato.evaluate.speed import STEPS, Speed

NAMES = {"drawn": "drawn", "real": "composed"}
SPLITS = {"unseen_picture": "unseen pictures", "unseen_concept": "unseen concepts"}
WORDINGS = {"name": "plain names", "sentence": "unseen sentences", "keywords": "unseen keyword phrases"}


@dataclass(frozen=True)
class Table:
    """The first row and the first column are headings; the first cell says what the table is about."""

    rows: list[list[str]]
    note: str = ""

    def text(self) -> str:
        """Aligned lines, the note below."""
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0])] + [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)])
            for row in self.rows
        ]
        return "\n".join([*lines, self.note] if self.note else lines)


def tables(report: Report | InpaintingReport) -> list[Table]:
    """All figures but the confusion."""
    if isinstance(report, InpaintingReport):
        return [_attributes("completed scenes: right in %", report.attributes)]
    return [
        _precision(report),
        _words(report),
        _unseen(report),
        *(
            _attributes(f"scenes in {'plain' if name == 'plain' else 'unseen'} words: right in %", found)
            for name, found in report.scenes.items()
        ),
        _variety(report),
        _originality(report),
        _reconstruction(report),
        _speed(report.speed),
    ]


def confusions(report: Report | InpaintingReport) -> list[Table]:
    """What was taken for what, on drawn pictures and on composed scenes."""
    groups = {"": report.attributes} if isinstance(report, InpaintingReport) else report.scenes
    return [
        _confusion(f"{attribute}, {NAMES[where]}{f', {name} words' if name else ''}", matrix)
        for name, attributes in groups.items()
        for attribute, sides in attributes.confusion.items()
        for where, matrix in sides.items()
        if matrix and (where == "drawn" or name in ("", "plain"))
    ]


def percent(share: Estimate | None, interval: bool = True) -> str:
    """Such as "93 (88-96)", or "-" for nothing."""
    if share is None:
        return "-"
    text = f"{100 * share.mean:.0f}"
    return f"{text} ({100 * share.low:.0f}-{100 * share.high:.0f})" if interval else text


def number(value: Estimate | None, places: int = 3) -> str:
    """Such as "0.123 (0.100-0.150)", or "-" for nothing."""
    return "-" if value is None else f"{value.mean:.{places}f} ({value.low:.{places}f}-{value.high:.{places}f})"


def _precision(report: Report) -> Table:
    rows = [["own caption first of 100, in %", "drawn", "real", "held out"]]
    for language, found in report.precision.items():
        rows.append([language, *map(percent, (found.drawn, found.real, found.held_out))])
    counts = next(iter(report.precision.values()))
    sizes = [0 if one is None else one.n for one in (counts.drawn, counts.held_out)]
    return Table(
        rows,
        f"{sizes[0]} drawn pictures a language beside the real ones of their prompts, and {sizes[1]} that the judge "
        "never saw; in brackets 95% intervals",
    )


def _words(report: Report) -> Table:
    rows = [["concept right in %", "of", *LANGUAGES]]

    def row(name: str, found: Mapping[str, Concepts], what: str) -> list[str]:
        cells = [percent(getattr(found[one], what)) if one in found else "" for one in LANGUAGES]
        return [name, what.removeprefix("of_"), *cells]

    for kind, name in (("real", "real pictures"), *WORDINGS.items()):
        rows += [row(name if what == "of_100" else "", report.words[kind], what) for what in ("of_100", "of_all")]
    return Table(rows, "keywords may fit several concepts, each of which is right")


def _unseen(report: Report) -> Table:
    found = report.unseen
    rows = [["unseen combinations of concept and style, in %", "pictures", "concept of 100", "of all", "style"]]
    count = str(found.style.n if found.style else 0)
    for name, concept, style in (("drawn", found.concept, percent(found.style)), ("real", found.real_concept, "")):
        rows.append([name, count, percent(concept.of_100), percent(concept.of_all), style])
    return Table(
        rows,
        "such as a cat in flat style of which training saw other styles; style: of the nearest artwork by pixels",
    )


def _attributes(title: str, found: Attributes) -> Table:
    rows = [[title, "asked", "drawn", "composed", *LANGUAGES]]
    for name, score in found.scores.items():
        languages = [percent(score.languages.get(language), interval=False) for language in LANGUAGES]
        rows.append([name.replace("_", " "), str(score.drawn.n), percent(score.drawn), percent(score.real), *languages])
    return Table(rows)


def _variety(report: Report) -> Table:
    found = report.variety
    rows = [
        ["variety of one prompt without a style", "", "pixels (RMSE)"],
        ["between seeds", "drawn", number(found.between_seeds)],
        ["between styles", "real", number(found.between_styles)],
        ["different styles", f"of {found.seeds} seeds", number(found.styles, 1)],
    ]
    return Table(rows)


def _originality(report: Report) -> Table:
    rows = [["to the nearest training picture", "pictures", "pixels", "near in %", "judge", "near in %"]]
    found = report.originality
    for name, row in found.distances.items():
        near = [f"{100 * share:.0f}" for share in (row.pixels_near, row.judge_near)]
        cells = [f"{row.pixels:.3f}", near[0], f"{row.judge:.4f}", near[1]]
        rows.append([SPLITS.get(name, name), str(row.pictures), *cells])
    limits = f"{found.pixels_threshold:.3f} and {found.judge_threshold:.4f}"
    return Table(rows, f"medians; near is up to {limits}, where 95% of the copies lie")


def _reconstruction(report: Report) -> Table:
    rows = [["reconstruction: PSNR in dB", "pictures", "white", "colours"]]
    for split, found in report.reconstruction.items():
        rows.append([SPLITS[split], str(found.white.n), number(found.white, 1), number(found.colours, 1)])
    return Table(rows)


def _speed(found: Speed) -> Table:
    first = "-" if found.first_picture is None else f"{found.first_picture:.2f}"
    rows = [
        ["speed", "seconds"],
        ["first picture, from the start of the process", first],
        [f"one picture of {STEPS} steps", f"{found.twenty_steps:.2f}"],
        ["a picture among many", f"{found.among_many:.2f}"],
    ]
    return Table(rows, f"{found.threads} threads")


def _confusion(title: str, matrix: Matrix) -> Table:
    seen = sorted({name for row in matrix.values() for name in row})
    rows = [[title, *seen]]
    rows += [[asked, *(str(row.get(name, 0) or "") for name in seen)] for asked, row in matrix.items()]
    return Table(rows)
