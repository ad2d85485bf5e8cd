"""`sfumato evaluate`: the figures of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfumato.cli.guiding import Cfg
from sfumato.cli.options import Device, Dtype, Model, SamplerName, ScheduleName, Steps, TextEncoders, Vae
from sfumato.data.captions import STYLES
from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.evaluate.measure import Report

SHOWN = ("steps", "cfg", "sampler", "schedule", "width", "height", "seed")
SPLITS = {"unseen_picture": "unseen pictures", "unseen_concept": "unseen concepts"}

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
    vae: Vae = None,
    text_encoder: TextEncoders = None,
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

    R-precision: the share of drawn pictures whose caption a judge ranks first of 100, in the language of the prompt and
    then in English; beside it the same for the real pictures of these prompts, for other real pictures that no training
    saw, and for shuffled captions. The ratio to real pictures divides out what the judge itself does not know.

    Originality: distance to the nearest training picture, beside that of held-out pictures and of mere copies.

    Takes a few minutes on two cores; more pictures make the figures surer. Progress is printed on stderr.
    """
    styles = _checked(style)
    if sheet is not None:
        from sfumato.cli.output import Destination

        Destination.of(str(sheet), 1).check()

    # Importing torch takes over a second: after what can fail without it.
    import sfumato
    from sfumato.data.dataset import EmojiData
    from sfumato.tasks.settings import Settings

    emoji = EmojiData(data) if sheet is None else None
    sd = sfumato.load(model, device, dtype, vae=vae, text_encoders=text_encoder or ())
    settings = Settings.of(
        sd.spec, "-", steps=steps, cfg=cfg, seed=seed, sampler=sampler, schedule=schedule, watermark=False
    )
    said = {"model": sd.name, "hash": sd.hash} | {name: getattr(settings, name) for name in SHOWN}
    if sheet is not None:
        from sfumato.evaluate.sheet import draw_sheet
        from sfumato.provenance.picture import save

        with _watch() as watch:
            save(draw_sheet(sd, settings, watch), sheet)
        typer.echo(json.dumps({"file": str(sheet), "settings": said}) if as_json else str(sheet))
    elif emoji is not None:
        from sfumato.evaluate.judge import load_judge
        from sfumato.evaluate.measure import measure

        judging = load_judge(judge, emoji.size, sd.device)
        said |= {"judge": "embedded" if judge is None else str(judge), "styles": list(styles)}
        with _watch() as watch:
            report = measure(sd, emoji, judging, settings, pictures, styles, watch)
        typer.echo(json.dumps({"settings": said} | asdict(report)) if as_json else _text(report, said))


@contextmanager
def _watch() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr, or where that is no terminal a line for each thing that is begun."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden, begun = not console.is_terminal, ""
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=hidden) as bar:
        task = bar.add_task("start", total=None)

        def watch(what: str, done: int, total: int) -> None:
            nonlocal begun
            if what != begun:
                begun = what
                bar.reset(task, description=what, total=total)
                if hidden:
                    typer.echo(f"{what} ({total})", err=True)
            bar.update(task, completed=done)

        yield watch


def _checked(styles: list[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(styles or ()) - set(STYLES))
    if unknown:
        raise SfumatoError(f"unknown style '{unknown[0]}'; choose from {', '.join(STYLES)}")
    return tuple(style for style in STYLES if not styles or style in styles)


def _text(report: Report, said: dict[str, Any]) -> str:
    settings = (
        f"model {said['model']} ({said['hash'] or 'no hash'}), judge {said['judge']}",
        f"styles {', '.join(said['styles'])}",
        f"{said['steps']} steps of {said['sampler']} on {said['schedule']}, guidance {said['cfg']:g}, "
        f"{said['width']}x{said['height']}, seed {said['seed']}: {report.seconds_per_picture:.2f} s a picture",
    )
    background = f"background as asked: {_percent(report.background)}% of {report.prompts}"
    blocks = ("\n".join(settings), _reconstruction(report), _precision(report), _originality(report), background)
    return "\n\n".join(blocks)


def _reconstruction(report: Report) -> str:
    rows = [["PSNR in dB", "pictures", "white", "colours"]]
    for split, found in report.reconstruction.items():
        rows.append([SPLITS[split], str(found.pictures), f"{found.white:.1f}", f"{found.colours:.1f}"])
    return _table(rows)


def _precision(report: Report) -> str:
    rows = [["R-precision in %", "drawn", "real", "ratio", "by English:", "drawn", "real", "ratio", "shuffled"]]
    rows[0] += SPLITS.values()
    for language, found in report.precision.items():
        own = (found.drawn, found.real, found.ratio)
        english = (found.drawn_english, found.real_english, found.ratio_english)
        others = (found.shuffled, *(found.unseen.get(split) for split in SPLITS))
        rows.append([language, *map(_percent, own), "", *map(_percent, english + others)])
    error = 100 * report.standard_error
    return f"{_table(rows)}\n{report.prompts} prompts a language: standard error of a share up to {error:.1f}"


def _originality(report: Report) -> str:
    rows = [["to the nearest training picture", "pictures", "pixels", "near in %", "judge", "near in %"]]
    found = report.originality
    for name, row in found.distances.items():
        pixels = [f"{row.pixels:.3f}", _percent(row.pixels_near)]
        judge = [f"{row.judge:.4f}", _percent(row.judge_near)]
        rows.append([SPLITS.get(name, name), str(row.pictures), *pixels, *judge])
    limits = f"{found.pixels_threshold:.3f} and {found.judge_threshold:.4f}"
    return f"{_table(rows)}\nmedians; near is up to {limits}, where 95% of the copies lie"


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
