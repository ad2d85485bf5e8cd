"""`sfumato evaluate`: the figures of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sfumato.cli.guidance_options import Cfg
from sfumato.cli.options import Loading, SamplerName, ScheduleName, Steps, command
from sfumato.data.emoji.captions import STYLES
from sfumato.errors import SfumatoError
from sfumato.files import check_writable

if TYPE_CHECKING:
    from sfumato.evaluate.inpainting import InpaintingReport
    from sfumato.evaluate.measure import Report

SHOWN = ("steps", "cfg", "sampler", "schedule", "width", "height", "seed")

Data = Annotated[Path, typer.Option(help="Folder that `sfumato data build emoji` made.")]
JudgeFolder = Annotated[
    Path | None, typer.Option("--judge", help="Export folder of `sfumato train clip`; else the judge that ships.")
]
Number = Annotated[int, typer.Option(min=2, max=1000, help="Prompts in each language.")]
SceneNumber = Annotated[
    int, typer.Option("--scenes", min=0, max=1000, help="Composed scenes in each language; 0 is none.")
]
Seed = Annotated[int, typer.Option(help="Decides which prompts, with what noise, against which captions.")]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="How often each prompt is drawn; several show the spread.")]
Styles = Annotated[
    list[str] | None, typer.Option("--style", help=f"Measure only {', '.join(STYLES)}. May be repeated.")
]
TaskName = Annotated[
    Literal["txt2img", "inpaint", "outpaint"],
    typer.Option("--task", help="What to measure: drawing from words, or completing scenes that lack a thing."),
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
    pictures: Number = 30,
    scenes: SceneNumber = 20,
    seed: Seed = 0,
    seeds: Seeds = 1,
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
    """Measure a model on the emoji set: reconstruction, obedience to the prompt, originality.

    Reconstruction: PSNR of held-out pictures through the model's autoencoder.

    R-precision: the share of drawn pictures whose caption a judge ranks first of 100, in the language of the prompt and
    then in English; beside it the same for the real pictures of these prompts, for other real pictures that no training
    saw, and for shuffled captions. The ratio to real pictures divides out what the judge itself does not know.

    Scenes: the share of drawn scenes with the right things, colours, number and places; beside it the same for composed
    scenes, which is the check's own error, and for answers by chance.

    Originality: distance to the nearest training picture, beside that of held-out pictures and of mere copies.

    With --task inpaint or outpaint scenes lack a thing that the caption names, and what is drawn there is judged.

    Takes a few minutes on two cores; more pictures make the figures surer. Progress is printed on stderr.
    """
    styles = _checked(style)
    _check_targets(sheet, report)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.data.emoji.dataset import EmojiData
    from sfumato.settings.settings import Settings

    emoji = EmojiData(data) if sheet is None else None
    sd = loading.load()
    settings = Settings.of(
        sd.spec, "-", steps=steps, cfg=cfg, seed=seed, sampler=sampler, schedule=schedule, watermark=False
    )
    said = {"model": sd.name, "hash": sd.hash} | {name: getattr(settings, name) for name in SHOWN}
    if sheet is not None:
        from sfumato.evaluate.sheet import draw_sheet
        from sfumato.images.files import save

        with _watch() as watch:
            save(draw_sheet(sd, settings, watch), sheet)
        typer.echo(json.dumps({"file": str(sheet), "settings": said}) if as_json else str(sheet))
    elif emoji is not None:
        from sfumato.evaluate.inpainting import measure_inpainting
        from sfumato.evaluate.judge import load_judge
        from sfumato.evaluate.measure import Plan, measure

        judging = load_judge(judge, emoji.size, sd.device)
        said |= {"judge": "embedded" if judge is None else str(judge), "task": task, "styles": list(styles)}
        plan = Plan(pictures, scenes, seeds, styles)
        found: Report | InpaintingReport
        with _watch() as watch:
            if task == "txt2img":
                found, samples = measure(sd, emoji, judging, settings, plan, watch)
            else:
                found, samples = measure_inpainting(sd, emoji, judging, settings, task, plan, watch)
        if report is not None:
            from sfumato.evaluate.page import write_page

            write_page(report, found, samples, said)
        typer.echo(json.dumps({"settings": said} | asdict(found)) if as_json else _text(found, said))


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


def _check_targets(sheet: Path | None, page: Path | None) -> None:
    """Raises SfumatoError for a file that cannot be written."""
    if sheet is not None:
        from sfumato.cli.output import Destination

        Destination.of(str(sheet), 1).check()
    if page is not None:
        if page.suffix.lower() not in (".html", ".htm"):
            raise SfumatoError(f"cannot write a page as {page}; give a name that ends in .html")
        check_writable(page.parent, page.name)


def _checked(styles: list[str] | None) -> tuple[str, ...]:
    unknown = sorted(set(styles or ()) - set(STYLES))
    if unknown:
        raise SfumatoError(f"unknown style '{unknown[0]}'; choose from {', '.join(STYLES)}")
    return tuple(style for style in STYLES if not styles or style in styles)


def _text(report: Report | InpaintingReport, said: dict[str, Any]) -> str:
    from sfumato.evaluate.tables import tables

    settings = (
        f"model {said['model']} ({said['hash'] or 'no hash'}), judge {said['judge']}",
        f"styles {', '.join(said['styles'])}",
        f"{said['steps']} steps of {said['sampler']} on {said['schedule']}, guidance {said['cfg']:g}, "
        f"{said['width']}x{said['height']}, seed {said['seed']}: {report.seconds_per_picture:.2f} s a picture",
    )
    return "\n\n".join(["\n".join(settings), *(table.text() for table in tables(report))])
