"""`sfumato evaluate`: the figures of a model."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfumato.cli.txt2img import Cfg, Device, Dtype, Model, SamplerName, ScheduleName, Steps
from sfumato.data.captions import STYLES
from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.evaluate.measure import Report
    from sfumato.model import StableDiffusion
    from sfumato.tasks.txt2img import Settings

Data = Annotated[Path, typer.Option(help="Folder that `sfumato data build emoji` made.")]
JudgeFolder = Annotated[
    Path | None, typer.Option("--judge", help="Export folder of `sfumato train clip`; else the judge that ships.")
]
Number = Annotated[int, typer.Option(min=2, max=1000, help="Prompts in each language.")]
Seed = Annotated[int, typer.Option(help="Decides which prompts, with what noise, against which captions.")]
Styles = Annotated[
    list[str] | None, typer.Option("--style", help=f"Measure only {', '.join(STYLES)}. May be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Sheet = Annotated[Path | None, typer.Option(help="Draw 32 prompts in three styles to this file and measure nothing.")]


def evaluate(
    model: Model = None,
    data: Data = Path("data/emoji"),
    judge: JudgeFolder = None,
    pictures: Number = 40,
    seed: Seed = 0,
    style: Styles = None,
    steps: Steps = None,
    cfg: Cfg = None,
    sampler: SamplerName = None,
    schedule: ScheduleName = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
    sheet: Sheet = None,
) -> None:
    """Measure a model on the emoji set: reconstruction, obedience to the prompt, originality.

    Reconstruction: PSNR of held-out pictures through the model's autoencoder.

    R-precision: the share of drawn pictures whose own caption a judge ranks first of 100, beside the same for the real
    pictures of these prompts, for other real pictures that no training saw, and for shuffled captions.

    Originality: distance to the nearest training picture, beside that of held-out pictures and of mere copies.

    Takes about four minutes on two cores; more pictures make the figures surer. Progress is printed on stderr.
    """
    styles = _checked(style)
    if sheet is not None:
        from sfumato.cli.output import Destination

        Destination.of(str(sheet), 1).check()

    # Importing torch takes over a second: after what can fail without it.
    import sfumato
    from sfumato.tasks.txt2img import Settings

    asked = Settings("-", steps=steps, cfg=cfg, seed=seed, sampler=sampler, schedule=schedule, watermark=False)
    if sheet is not None:
        from sfumato.evaluate.sheet import draw_sheet
        from sfumato.provenance.picture import save

        sd = sfumato.load(model, device, dtype)
        settings = asked.complete(sd.spec)
        with Watch() as watch:
            save(draw_sheet(sd, settings, watch), sheet)
        typer.echo(json.dumps({"file": str(sheet), "settings": _said(sd, settings)}) if as_json else str(sheet))
        return

    from sfumato.data.dataset import EmojiData
    from sfumato.evaluate.judge import load_judge
    from sfumato.evaluate.measure import measure

    emoji = EmojiData(data)
    sd = sfumato.load(model, device, dtype)
    settings = asked.complete(sd.spec)
    with Watch() as watch:
        report = measure(sd, emoji, load_judge(judge, emoji.size, sd.device), settings, pictures, styles, watch)
    said = _said(sd, settings) | {"judge": "embedded" if judge is None else judge.name, "styles": list(styles)}
    if as_json:
        typer.echo(json.dumps({"settings": said} | asdict(report)))
    else:
        typer.echo("\n\n".join(_text(report, said)))


class Watch(AbstractContextManager["Watch"]):
    """A bar on stderr, or where that is no terminal a line for each thing that is begun."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._plain = not console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=self._plain)
        self._task = self._bar.add_task("start", total=None)
        self._what = ""

    def __enter__(self) -> Watch:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self._what = what
            self._bar.reset(self._task, description=what, total=total)
            if self._plain:
                typer.echo(f"{what} ({total})", err=True)
        self._bar.update(self._task, completed=done)


def _checked(styles: list[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(styles or ()) - set(STYLES))
    if unknown:
        raise SfumatoError(f"unknown style '{unknown[0]}'; choose from {', '.join(STYLES)}")
    return tuple(style for style in STYLES if not styles or style in styles)


def _said(sd: StableDiffusion, settings: Settings) -> dict[str, Any]:
    names = ("steps", "cfg", "sampler", "schedule", "width", "height", "seed")
    return {"model": sd.name, "hash": sd.hash} | {name: getattr(settings, name) for name in names}


def _text(report: Report, said: dict[str, Any]) -> list[str]:
    """The report in blocks of lines."""
    splits = {"unseen_picture": "unseen pictures", "unseen_concept": "unseen concepts"}
    drawing = (
        f"model {said['model']} ({said['hash']}), judge {said['judge']}, styles {' '.join(said['styles'])}\n"
        f"{said['steps']} steps of {said['sampler']} on {said['schedule']}, guidance {said['cfg']:g}, "
        f"{said['width']}x{said['height']}, seed {said['seed']}: {report.seconds_per_picture:.2f} s a picture"
    )
    psnr = [["PSNR in dB", "pictures", "white", "colours"]]
    for split, got in report.reconstruction.items():
        psnr.append([splits[split], str(got.pictures), f"{got.white:.1f}", f"{got.colours:.1f}"])
    r = [["R-precision %", "drawn", "real", "ratio", "by English:", "drawn", "real", "ratio", "shuffled"]]
    r[0] += splits.values()
    for language, p in report.precision.items():
        own = [_percent(p.drawn), _percent(p.real), _percent(p.ratio), ""]
        english = [_percent(p.drawn_english), _percent(p.real_english), _percent(p.ratio_english)]
        others = [_percent(p.unseen.get(split)) for split in splits]
        r.append([language, *own, *english, _percent(p.shuffled), *others])
    note = (
        f"{report.prompts} prompts a language; the standard error of a share is up to {100 * report.standard_error:.0f}"
    )
    near = report.originality
    d = [["nearest training picture", "pictures", "pixels", "near %", "judge", "near %"]]
    for name, row in near.distances.items():
        figures = [f"{row.pixels:.3f}", _percent(row.pixels_near), f"{row.judge:.3f}", _percent(row.judge_near)]
        d.append([splits.get(name, name), str(row.pictures), *figures])
    limits = f"medians; near is up to {near.pixels_threshold:.3f} and {near.judge_threshold:.3f}, as 95% of copies are"
    background = f"background as asked: {_percent(report.background)}% of {report.prompts}"
    return [drawing, _table(psnr), f"{_table(r)}\n{note}", f"{_table(d)}\n{limits}", background]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _table(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(lines)
