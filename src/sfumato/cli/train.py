"""`sfumato train METHOD`: a command for each of the training methods that the registry lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sfumato.cli.from_table import completion
from sfumato.cli.options import command
from sfumato.cli.resumable import resumable
from sfumato.runtime.threads import MAX_THREADS
from sfumato.train.registry import METHODS, Method

if TYPE_CHECKING:
    from sfumato.data.pictures.protocol import SampleSource
    from sfumato.train.run import Options

app = typer.Typer(no_args_is_help=True)


def _list(asked: bool) -> None:
    if not asked:
        return
    from rich.console import Console

    methods = [method for method in METHODS if not method.former]
    width = max(len(method.name) for method in methods)
    lines = [f"{method.name:<{width}}  {method.learns}" for method in methods]
    lines += ["", f"recipes that ship: {', '.join(sorted(_recipes()))}"]
    Console(highlight=False).print("\n".join(lines), soft_wrap=True, markup=False)
    raise typer.Exit


@app.callback()
def train(
    listed: Annotated[
        bool, typer.Option("--list", callback=_list, is_eager=True, help="Print all methods and recipes.")
    ] = False,
) -> None:
    """Train models: adapters and whole models on your own pictures, and the parts of the model that ships.

    `sfumato train METHOD --help` says what a method needs. To begin, put pictures into a folder, each with its caption
    in a text file of the same name.

    Example: sfumato train lora --model emoji --data pictures --out runs/lora
    """


def _recipes() -> list[str]:
    return [Path(file.name).stem for file in resources.files("sfumato.train").joinpath("configs").iterdir()]


Config = Annotated[
    str | None,
    typer.Argument(
        help="A recipe: a TOML file, or the name of one that ships with sfumato. Some methods need none.",
        autocompletion=completion(_recipes),
    ),
]
Data = Annotated[
    Path, typer.Option(help="Folder that `sfumato data build emoji` made, or for some methods your own pictures.")
]
Out = Annotated[Path, typer.Option(help="Folder of the run: checkpoints, samples, logs and the result.")]
Fresh = Annotated[
    bool, typer.Option("--fresh/--resume", help="If --out holds a run: --fresh is an error, --resume continues it.")
]
Seed = Annotated[int | None, typer.Option(help="Seed, instead of the recipe's.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Number of steps, instead of the recipe's.")]
Minutes = Annotated[float | None, typer.Option(min=0, help="Stop with a checkpoint after this many minutes.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, max=MAX_THREADS, help="CPU threads.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check the data, try one step, print the time and memory of a run, and train nothing."
    ),
]


Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe, such as loop.lr=1e-4; repeatable."),
]


@dataclass(frozen=True)
class RunOptions:
    """Options that every training command has."""

    fresh: Fresh = False
    seed: Seed = None
    steps: Steps = None
    max_minutes: Minutes = None
    device: Device = "auto"
    threads: Threads = None
    dry_run: DryRun = False
    assignments: Assignments = None

    def options(self) -> Options:
        """Returns the options as the trainer takes them."""
        from sfumato.train.run import Options

        return Options(
            self.seed, self.fresh, self.steps, self.max_minutes, self.device, self.threads,
            tuple(self.assignments or ()),
        )  # fmt: skip


def opened(data: Path, own_pictures: bool) -> SampleSource:
    """Returns the emoji set in a folder, or a user's pictures where a method learns from these."""
    from sfumato.data.emoji.build import MANIFEST
    from sfumato.data.emoji.training import EmojiTrainingSet
    from sfumato.data.pictures.readers.find import OwnPictures

    return OwnPictures(data) if own_pictures and not (data / MANIFEST).is_file() else EmojiTrainingSet(data)


def _command(method: Method) -> Callable[..., None]:
    """Returns the command of a method, with an option for each of its inputs."""
    group = dataclasses.make_dataclass(
        "Inputs",
        [
            (entry.name, Annotated[entry.kind | None, typer.Option(help=entry.help, metavar=entry.metavar)], None)
            for entry in method.inputs
        ],
        frozen=True,
    )

    def explain(key: str | None) -> None:
        if key is not None:
            from sfumato.train.recipe_keys import explained

            typer.echo(explained(method.load()[0], key))
            raise typer.Exit

    def run(
        config: Config = None, *, data: Data, out: Out, explain: str | None = None, inputs: Any, running: RunOptions
    ) -> None:
        from sfumato.cli.dry_run import dry_run
        from sfumato.train.run import run_method

        recipe = config or method.recipe
        if not recipe:
            raise typer.BadParameter(f"`sfumato train {method.name}` needs a recipe; give a TOML file")
        with resumable(f"with {out}"):
            work = dry_run if running.dry_run else run_method
            work(method, recipe, opened(data, method.own_pictures), out, vars(inputs), running.options())

    shown = typer.Option(
        metavar="KEY",
        callback=explain,
        is_eager=True,
        help="Say what a key of the recipe does; all lists them.",
    )
    run.__annotations__ |= {"inputs": group, "explain": Annotated[str | None, shown]}
    run.__doc__ = method.help
    return command(run)


for _method in METHODS:
    app.command(_method.name, hidden=_method.former)(_command(_method))
