"""A report's figures as rows of text, for the terminal and the page alike."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.data.emoji.captions import LANGUAGES
from sfumato.evaluate.inpainting import InpaintingReport
from sfumato.evaluate.measure import Report
from sfumato.evaluate.scores import Attributes, Matrix

NAMES = {"drawn": "drawn", "real": "composed"}
SPLITS = {"unseen_picture": "unseen pictures", "unseen_concept": "unseen concepts"}


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
    found = [] if report.attributes is None else [_attributes(report.attributes, report.seeds)]
    return (
        found
        if isinstance(report, InpaintingReport)
        else [_reconstruction(report), _precision(report), _originality(report), *found]
    )


def confusions(attributes: Attributes | None) -> list[Table]:
    """What was taken for what, on drawn pictures and on composed scenes."""
    return [
        _confusion(f"{attribute}, {NAMES[where]}", matrix)
        for attribute, sides in (attributes.confusion if attributes else {}).items()
        for where, matrix in sides.items()
        if matrix
    ]


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _reconstruction(report: Report) -> Table:
    rows = [["PSNR in dB", "pictures", "white", "colours"]]
    for split, found in report.reconstruction.items():
        rows.append([SPLITS[split], str(found.pictures), f"{found.white:.1f}", f"{found.colours:.1f}"])
    return Table(rows)


def _precision(report: Report) -> Table:
    several = report.seeds > 1
    rows = [["R-precision in %", "drawn", "real", "ratio", "by English:", "drawn", "real", "ratio", "shuffled"]]
    rows[0] += [*SPLITS.values(), *(["spread"] if several else [])]
    for language, found in report.precision.items():
        own = (found.drawn, found.real, found.ratio)
        english = (found.drawn_english, found.real_english, found.ratio_english)
        others = (found.shuffled, *(found.unseen.get(split) for split in SPLITS))
        row = [language, *map(percent, own), "", *map(percent, english + others)]
        rows.append([*row, percent(found.spread)] if several else row)
    note = (
        f"{report.prompts} prompts a language{_with_seeds(report.seeds)}: standard error of a share up to "
        f"{100 * report.standard_error:.1f}; background as asked: {percent(report.background)}%"
    )
    return Table(rows, note)


def _originality(report: Report) -> Table:
    rows = [["to the nearest training picture", "pictures", "pixels", "near in %", "judge", "near in %"]]
    found = report.originality
    for name, row in found.distances.items():
        pixels = [f"{row.pixels:.3f}", percent(row.pixels_near)]
        judge = [f"{row.judge:.4f}", percent(row.judge_near)]
        rows.append([SPLITS.get(name, name), str(row.pictures), *pixels, *judge])
    limits = f"{found.pixels_threshold:.3f} and {found.judge_threshold:.4f}"
    return Table(rows, f"medians; near is up to {limits}, where 95% of the copies lie")


def _attributes(found: Attributes, seeds: int) -> Table:
    several = seeds > 1
    rows = [["scenes: right in %", "asked", "drawn", "real", "chance", *(["spread"] if several else []), *LANGUAGES]]
    for name, score in found.scores.items():
        row = [name, str(score.asked), *map(percent, (score.drawn, score.real, score.chance))]
        row += [percent(score.spread)] if several else []
        rows.append([*row, *(percent(score.languages.get(language)) for language in LANGUAGES)])
    note = f"{found.scenes} scenes in each language{_with_seeds(seeds)}, beside {found.real_scenes} composed ones"
    return Table(rows, note)


def _with_seeds(seeds: int) -> str:
    return f" with {seeds} seeds each" if seeds > 1 else ""


def _confusion(title: str, matrix: Matrix) -> Table:
    seen = sorted({name for row in matrix.values() for name in row})
    rows = [[title, *seen]]
    rows += [[asked, *(str(row.get(name, 0) or "") for name in seen)] for asked, row in matrix.items()]
    return Table(rows)
