"""`sfumato evaluate`: the figures of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfumato.cli.options import Cfg, Loading, SamplerName, ScheduleName, Steps, command
from sfumato.data.emoji.captions import STYLES
from sfumato.errors import SfumatoError
from sfumato.files import check_writable

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion
    from sfumato.data.emoji.dataset import EmojiData
    from sfumato.evaluate.emoji.inpainting import InpaintingReport
    from sfumato.evaluate.emoji.prompts import Plan
    from sfumato.evaluate.emoji.report import Report
    from sfumato.evaluate.emoji.samples import Samples
    from sfumato.settings.settings import Settings

SHOWN = ("steps", "cfg", "sampler", "schedule", "width", "height", "seed")
Task = Literal["txt2img", "inpaint", "outpaint"]
Watch = Callable[[str, int, int], None]

Data = Annotated[Path, typer.Option(help="Folder that `sfumato data build emoji` made.")]
JudgeFolder = Annotated[
    Path | None, typer.Option("--judge", help="Export folder of `sfumato train clip`; else the judge that ships.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Draw a tenth: two minutes, and wide intervals.")]
Number = Annotated[
    int | None, typer.Option(min=2, max=1000, help="Names in each language; half as many sentences, and keywords.")
]
SceneNumber = Annotated[
    int | None,
    typer.Option("--scenes", min=0, max=100, help="Scenes of each kind in each language and wording; 0 is none."),
]
Seed = Annotated[int, typer.Option(help="Decides which prompts, and with what noise.")]
Styles = Annotated[
    list[str] | None, typer.Option("--style", help=f"Measure only {', '.join(STYLES)}. May be repeated.")
]
TaskName = Annotated[
    Task, typer.Option("--task", help="What to measure: drawing from words, or completing scenes that lack a thing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Page = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.html", help="Write figures and pictures as one page, too.")
]
Sheet = Annotated[Path | None, typer.Option(help="Draw 32 prompts in three styles to this file and measure nothing.")]


@command
def evaluate(
    data: Data = Path("data/emoji"),
    judge: JudgeFolder = None,
    quick: Quick = False,
    pictures: Number = None,
    scenes: SceneNumber = None,
    seed: Seed = 0,
    task: TaskName = "txt2img",
    style: Styles = None,
    steps: Steps = None,
    cfg: Cfg = None,
    sampler: SamplerName = None,
    schedule: ScheduleName = None,
    as_json: Json = False,
    report: Page = None,
    sheet: Sheet = None,
    *,
    loading: Loading,
) -> None:
    """Measure a model on the emoji set, every figure with its 95% interval and beside that of real pictures.

    Words: whether pictures show what plain names, sentences and keyword phrases in six languages ask for, as a judge
    sees it that no picture was made with; the sentences and phrases are such that training never saw.

    Scenes: whether things, backgrounds, colours, numbers, places, sizes and poses are as asked for, in plain words and
    in words that training never saw; beside it the same for composed scenes, which is the check's own error.

    Also: variety between seeds, distance to the nearest training picture, reconstruction, speed.

    With --task inpaint or outpaint scenes lack a thing that the caption names, and what is drawn there is judged.

    Takes about a quarter of an hour on two cores, with --quick two minutes. Progress is printed on stderr.
    """
    styles = _checked(style)
    _check_files(sheet, report)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.settings.settings import Options, Settings

    options: Options = {
        "steps": steps, "cfg": cfg, "seed": seed, "sampler": sampler, "schedule": schedule, "watermark": False,
    }  # fmt: skip
    if sheet is not None:
        sd = loading.load()
        settings = Settings.of(sd.spec, "-", **options)
        _draw_sheet(sd, settings, sheet, as_json)
        return
    from sfumato.data.emoji.dataset import EmojiData
    from sfumato.evaluate.emoji.prompts import Plan

    emoji = EmojiData(data)
    sd = loading.load()
    settings = Settings.of(sd.spec, "-", **options)
    plan = (Plan.quick if quick else Plan)(styles=styles)
    if pictures is not None:
        plan = replace(plan, names=pictures, sentences=pictures // 2, keywords=pictures // 2)
    if scenes is not None:
        plan = replace(plan, scenes=scenes)
    said = _said(sd, settings) | {"judge": "embedded" if judge is None else str(judge), "task": task}
    said |= {"styles": list(styles)}
    found, samples = _measured(sd, emoji, judge, settings, task, plan, _start(loading))
    if report is not None:
        from sfumato.evaluate.emoji.page import write_page

        write_page(report, found, samples, said)
    typer.echo(json.dumps({"settings": said} | asdict(found)) if as_json else _text(found, said))


def _check_files(sheet: Path | None, report: Path | None) -> None:
    """Raise SfumatoError for files that cannot be written."""
    if sheet is not None:
        from sfumato.cli.output import Destination

        Destination.of(str(sheet), 1).check()
    if report is not None:
        if report.suffix.lower() not in (".html", ".htm"):
            raise SfumatoError(f"cannot write a page as {report}; give a name that ends in .html")
        check_writable(report.parent, report.name)


def _said(sd: StableDiffusion, settings: Settings) -> dict[str, Any]:
    return {"model": sd.name, "hash": sd.hash} | {name: getattr(settings, name) for name in SHOWN}


def _draw_sheet(sd: StableDiffusion, settings: Settings, file: Path, as_json: bool) -> None:
    from sfumato.evaluate.emoji.sheet import draw_sheet
    from sfumato.images.files import save

    with _watch() as watch:
        save(draw_sheet(sd, settings, watch), file)
    typer.echo(json.dumps({"file": str(file), "settings": _said(sd, settings)}) if as_json else str(file))


def _measured(
    sd: StableDiffusion,
    data: EmojiData,
    judge: Path | None,
    settings: Settings,
    task: Task,
    plan: Plan,
    start: list[str],
) -> tuple[Report | InpaintingReport, Samples]:
    """The figures of the task; `start` are the options that load the model in another process."""
    from sfumato.evaluate import speed
    from sfumato.evaluate.emoji.inpainting import measure_inpainting
    from sfumato.evaluate.emoji.measure import measure
    from sfumato.pipeline.clip_scorer import JUDGE, load_scorer

    scorer = load_scorer(judge or JUDGE, sd.device)
    with _watch() as watch:
        if task != "txt2img":
            return measure_inpainting(sd, data, scorer, settings, task, plan.styles, max(1, plan.scenes), watch)
        return measure(sd, data, scorer, settings, plan, lambda: speed.first_picture(start, plan.process_starts), watch)


def _start(loading: Loading) -> list[str]:
    given = {
        "--model": loading.model,
        "--variant": loading.variant,
        "--device": loading.device,
        "--dtype": loading.dtype,
    }
    return [str(word) for option, value in given.items() if value is not None for word in (option, value)]


@contextmanager
def _watch() -> Iterator[Watch]:
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


def _text(report: Report | InpaintingReport, said: dict[str, Any]) -> str:
    from sfumato.evaluate.emoji.tables import tables

    settings = (
        f"model {said['model']} ({said['hash'] or 'no hash'}), judge {said['judge']}",
        f"styles {', '.join(said['styles'])}",
        f"{said['steps']} steps of {said['sampler']} on {said['schedule']}, guidance {said['cfg']:g}, "
        f"{said['width']}x{said['height']}, seed {said['seed']}",
    )
    return "\n\n".join(["\n".join(settings), *(table.text() for table in tables(report))])
