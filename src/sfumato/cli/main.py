"""The command line: which commands there are, and how failures reach the user.

A command's module is imported when that command is run or its own help is asked; the list of commands needs none.
"""

from __future__ import annotations

import importlib
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from sfumato import SfumatoError, __version__
from sfumato.cli.status import status
from sfumato.errors import OptionError, SfumatoWarning

# name: (where the `typer.Typer` or the function of the command is, one line of help)
COMMANDS = {
    "txt2img": ("sfumato.cli.txt2img:txt2img", "Draw pictures from words."),
    "img2img": ("sfumato.cli.img2img:img2img", "Draw pictures on top of a picture."),
    "outpaint": ("sfumato.cli.outpaint:outpaint", "Draw a picture on beyond its edges."),
    "inpaint": ("sfumato.cli.inpaint:inpaint", "Draw part of a picture anew."),
    "upscale": ("sfumato.cli.upscale:upscale", "Draw a picture larger."),
    "depth2img": ("sfumato.cli.depth2img:depth2img", "Draw pictures with the depth of a picture."),
    "interpolate": ("sfumato.cli.interpolate:interpolate", "Draw the way from one picture to another."),
    "grid": ("sfumato.cli.grid:grid", "Draw a picture under many settings, side by side."),
    "augment": ("sfumato.cli.augment:augment", "Draw a folder of pictures slightly anew."),
    "anonymise": ("sfumato.cli.augment:anonymise", "Draw a folder of pictures so that people in it are others."),
    "replay": ("sfumato.cli.replay:replay", "Draw a picture again from what its file says."),
    "compress": ("sfumato.cli.compress:compress", "Write a picture as very few bytes."),
    "decompress": ("sfumato.cli.compress:decompress", "Draw a picture that was compressed."),
    "tokens": ("sfumato.cli.tokens:tokens", "Show how a prompt is read: tokens, weights, steps."),
    "interrogate": ("sfumato.cli.interrogate:interrogate", "Say what a picture shows."),
    "score": ("sfumato.cli.score:score", "Say how much people would like pictures."),
    "samplers": ("sfumato.cli.samplers:samplers", "List the samplers and the schedules, with their options."),
    "models": ("sfumato.cli.models:models", "List the known releases and the models on this machine."),
    "pull": ("sfumato.cli.pull:pull", "Download a release, after its licence is accepted."),
    "licence": ("sfumato.cli.licence:licence", "Show under which terms a model comes."),
    "inspect": ("sfumato.cli.inspect:inspect", "Say what a checkpoint is and what is missing in it."),
    "convert": ("sfumato.cli.convert:convert", "Write a checkpoint in another layout or precision, with proof."),
    "merge": ("sfumato.cli.merge:merge", "Make one model of several, by a formula."),
    "lora": ("sfumato.cli.lora:app", "Make LoRAs: out of two models, or out of other LoRAs."),
    "control": ("sfumato.cli.control:app", "Make hints for ControlNets: edges, depth, lines ..."),
    "watermark": ("sfumato.cli.watermark:app", "Read the invisible watermark of generated pictures."),
    "data": ("sfumato.cli.data:app", "Make the data sets that models are trained on, and check your own."),
    "train": ("sfumato.cli.train:app", "Train adapters, models on your own pictures, and the model that ships."),
    "evaluate": (
        "sfumato.cli.evaluate:evaluate",
        "Measure a model: reconstruction, obedience to the prompt, originality.",
    ),
    "up": ("sfumato.cli.up:up", "Test this machine, start the server, and open its page."),
    "serve": ("sfumato.cli.serve:app", "Start the server: a page, and an HTTP API for other programs."),
    "bot": ("sfumato.cli.bot:bot", "Draw for a chat in Discord, Telegram or Matrix."),
    "doctor": ("sfumato.cli.doctor:doctor", "Measure and test this machine, for a bug report."),
    "verify": ("sfumato.cli.verify:verify", "Compare every network, sampler and format with reference data."),
}

# The commands whose options a user may look for in another of them.
TASKS = ("txt2img", "img2img", "inpaint", "outpaint", "upscale", "depth2img", "interpolate", "grid", "augment")
# What other programs call these commands, without marks between words.
OTHER_NAMES = {
    **dict.fromkeys(("draw", "generate", "imagine", "create", "run", "paint"), "txt2img"),
    **dict.fromkeys(("t2i", "text2img", "text2image", "texttoimage"), "txt2img"),
    **dict.fromkeys(("i2i", "image2image", "img2image", "edit"), "img2img"),
    **dict.fromkeys(("info", "show", "describe", "detect"), "inspect"),
    **dict.fromkeys(("download", "fetch", "install", "get"), "pull"),
    **dict.fromkeys(("list", "ls"), "models"),
    **dict.fromkeys(("metadata", "recipe", "reproduce", "regenerate"), "replay"),
    **dict.fromkeys(("caption", "clip", "blip"), "interrogate"),
    **dict.fromkeys(("tokenize", "tokenise"), "tokens"),
    **dict.fromkeys(("hires", "enlarge", "superresolution"), "upscale"),
    **dict.fromkeys(("start", "gui", "ui", "webui", "launch", "web"), "up"),
    **dict.fromkeys(("server", "api"), "serve"),
    **dict.fromkeys(("diagnose", "check", "env", "selftest"), "doctor"),
    **dict.fromkeys(("xyz", "xyplot", "plot"), "grid"),
}  # fmt: skip
# How typer's library refuses what is no number.
NUMBERS = re.compile(r"Input should be a valid (integer|number), unable to parse string as an? (?:integer|number)")
KINDS = {"integer": "whole number", "number": "number"}
ALIKE = 0.9  # how like an option's name another must be that is meant instead, 1 for the same
FEW_OWNERS = 3  # an option that more of them have is no hint

BASIC = "What everybody needs"
PANELS = (
    BASIC, "Arguments", "Options", "On a picture", "The way", "Pictures", "Sampling", "Words", "Guidance", "Speed",
    "Adapters", "Second, larger pass", "XL", "Model and machine", "Output",
)  # fmt: skip
FIRST = ("--out", "--model", "--size", "--steps", "--cfg", "--seed")
LAST = PANELS[-1]
EXAMPLE = "Example:"

# Help without boxes and colours is printed in half the time.
PLAIN = None

EXIT_FAULT, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


def _fail(message: str, code: int) -> NoReturn:
    """End with one line on stderr; with SFUMATO_DEBUG set, after the traceback."""
    status.clear()
    if os.environ.get("SFUMATO_DEBUG"):
        traceback.print_exc()
    typer.echo(" ".join(message.split()), err=True)
    raise typer.Exit(code) from None


@contextmanager
def _notes() -> Iterator[None]:
    """Print our own warnings as one line each on stderr, and leave those of other libraries to Python."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, SfumatoWarning):
                status.say(f"note: {message}")
            else:
                others(message, category, *where, **more)

        warnings.showwarning = show
        warnings.simplefilter("always", SfumatoWarning)
        yield


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn every failure into one line and an exit code: 2 for bad input, 130 for Ctrl-C, 1 for our own faults."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise  # typer ends quietly on these
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer keeps this class to itself
            typer.echo(error.format_message(), err=True)
            raise typer.Exit(error.exit_code) from None
        context = getattr(error, "ctx", None)
        hint = _meant(error) or (f"; try '{context.command_path} --help'" if context else "")
        said = NUMBERS.sub(lambda match: f"it takes a {KINDS[match[1]]}", error.format_message().rstrip("."))
        _fail(f"error: {said}{hint}", error.exit_code)
    except OptionError as error:
        from sfumato.cli.from_table import FLAGS

        _fail(f"error: {error.spelled(FLAGS)}", EXIT_BAD_INPUT)
    except SfumatoError as error:
        _fail(f"error: {error}", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _fail("stopped", EXIT_INTERRUPTED)
    except Exception as error:
        _fail(
            f"error: {type(error).__name__}: {error} (a fault in sfumato; SFUMATO_DEBUG=1 shows the traceback)",
            EXIT_FAULT,
        )


def _meant(error: Any) -> str:
    """What to give instead of what a command does not have; empty where nothing is like it."""
    if (command := re.match(r"No such command '([\w-]{1,30})'", error.message)) is not None:
        instead = OTHER_NAMES.get(command[1].lower().replace("-", "").replace("_", ""))
        if instead is None:
            return ""
        error.message = command[0]
        return f"; here it is `sfumato {instead}`"
    if error.ctx is not None and error.message.startswith("Got unexpected extra argument"):
        takes_words = any("PROMPT" in (one.metavar or one.name.upper()) for one in error.ctx.command.params)
        return "; put a prompt of several words in quotes" if takes_words else ""
    if type(error).__name__ != "NoSuchOption" or error.ctx is None:  # typer keeps this class to itself
        return ""
    from sfumato.cli.from_table import FLAGS
    from sfumato.settings.table import ARGUMENTS, OPTIONS

    name = error.option_name.lstrip("-").replace("-", "_")
    known = _flags(error.ctx.command)
    names = next((one.name for one in OPTIONS.values() if name in (one.name, *one.also)), ARGUMENTS.get(name, name))
    meant = FLAGS.get(names, "--" + names.replace("_", "-"))
    arguments = {parameter.name: parameter for parameter in error.ctx.command.params if parameter.opts[0][0] != "-"}
    if meant in known or (names in ("width", "height") and "--size" in known):
        error.possibilities = None
        said = "--size WxH says both sides" if meant not in known else f"here it is {meant}"
        return f"; {said}"
    if names == "image":
        names = next((name for name in ("picture", "pictures") if name in arguments), names)
    if names in arguments:
        error.possibilities = None
        return f"; here it is given without a name, as {arguments[names].metavar or names.upper()}"
    if near := get_close_matches(meant, sorted(known), 1, ALIKE):
        error.possibilities = None
        return f"; did you mean {near[0]}?"
    owners = [name for name in TASKS if meant in _flags(_load(name))]
    if not owners or len(owners) > FEW_OWNERS:
        return ""
    error.possibilities = None
    return f"; {meant} belongs to {' and '.join(f'`sfumato {name}`' for name in owners)}"


def _flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def _load(name: str) -> Any:
    """Import the command `name`."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if isinstance(command, typer.Typer):
        command.rich_markup_mode = PLAIN
        return typer.main.get_group(command)
    alone = typer.Typer(add_completion=False, rich_markup_mode=PLAIN)
    alone.command(name, cls=Sectioned)(command)
    return typer.main.get_command(alone)


class Sectioned(TyperCommand):
    """A command whose help lists the options of each panel under the panel's name.

    What everybody needs comes first, with the example of the command's text ("Example: ..."); then what is this
    command's own, then the panels in the order of `PANELS`, then the rest.
    """

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        whole = self.help
        if self._has_basic(ctx):  # else the example stays where it is
            self.help = "\n\n".join(part for part in _paragraphs(whole) if not part.startswith(EXAMPLE))
        super().format_help_text(ctx, formatter)
        self.help = whole

    def _has_basic(self, ctx: Any) -> bool:
        return any(getattr(parameter, "rich_help_panel", None) == BASIC for parameter in self.get_params(ctx))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, dict[str, tuple[str, str]]] = {}
        basic = self._has_basic(ctx)
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                first = BASIC if basic else "Arguments"
                kind = first if parameter.param_type_name == "argument" else "Options"
                panel = getattr(parameter, "rich_help_panel", None) or (
                    LAST if basic and parameter.name == "help" else kind
                )
                sections.setdefault(panel, {})[parameter.opts[0]] = record
        for title in sorted(sections, key=_place):
            with formatter.section(title):
                rows = sections[title]
                formatter.write_dl([rows[name] for name in sorted(rows, key=_rank)])
            if title == BASIC:
                for example in (part for part in _paragraphs(self.help) if part.startswith(EXAMPLE)):
                    formatter.write_paragraph()
                    formatter.write_text(example)


def _paragraphs(text: str | None) -> list[str]:
    return (text or "").split("\n\n")


def _place(title: str) -> int:
    return PANELS.index(title) if title in PANELS else len(PANELS)


def _rank(name: str) -> int:
    """Arguments first, then the options that everybody needs in their order, then all others in theirs."""
    return 0 if not name.startswith("-") else FIRST.index(name) + 1 if name in FIRST else len(FIRST) + 1


class LazyGroup(TyperGroup):
    """The list of commands from the table; the real command only where one is run."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, short_help=line) for name, (_, line) in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and _load(name), rest

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _one_line(), _notes():
            return super().invoke(ctx)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=PLAIN,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"sfumato {__version__}")
        raise typer.Exit


@app.callback()
def sfumato(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Forbid all network, as SFUMATO_OFFLINE=1 does.")] = False,
) -> None:
    """Stable Diffusion, whole: draw pictures, look into checkpoints, train models.

    Exit codes: 0 when all is done; 1 for a fault in sfumato, or a check that failed; 2 for input that it cannot do
    anything with; 130 when it was stopped with Ctrl-C.

    Example: sfumato txt2img "a red heart" --out heart.png
    """
    if offline:
        os.environ["SFUMATO_OFFLINE"] = "1"
