"""Help: what everybody needs first, real defaults, never wider than the terminal; and what to give instead of an option
that another program has."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import Result

import sfumato
from sfumato.cli import main
from sfumato.cli.from_table import EMBEDDED, embedded_defaults

Run = Callable[..., Result]
DRAWING = ("txt2img", "img2img", "inpaint", "outpaint", "depth2img", "upscale", "grid", "interpolate")


EVERY_HELP = """
import sys
from sfumato.cli.main import COMMANDS, app
for name in ["", *COMMANDS]:
    try:
        app([*filter(None, [name]), "--help"], prog_name="sfumato")
    except SystemExit as end:
        assert end.code == 0
"""


@pytest.mark.parametrize("columns", [60, 80])
def test_help_is_never_wider_than_the_terminal(columns: int) -> None:
    environment = {**os.environ, "COLUMNS": str(columns)}
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == len(main.COMMANDS) + 1
    assert [line for line in done.stdout.splitlines() if len(line) > columns] == []


@pytest.mark.parametrize("name", DRAWING)
def test_what_everybody_needs_comes_first(run: Run, name: str) -> None:
    shown = run(name, "--help").stdout
    first, *rest = shown.split("\n\n")[
        [part.startswith("What everybody needs:") for part in shown.split("\n\n")].index(True) :
    ]
    for option in ("PROMPT", "--out", "--model", "--steps", "--cfg", "--seed"):
        assert f"  {option}" in first or f"[{option}]" in first
    assert "--size" in first or name == "upscale"
    assert first.count("\n  -") <= 10
    titles = [part.split(":\n")[0] for part in rest if ":\n  -" in part]
    assert titles[-2:] == ["Model and machine", "Output"] and "Guidance" in titles


def test_an_example_stands_with_what_everybody_needs(run: Run) -> None:
    shown = run("txt2img", "--help").stdout
    assert shown.index("What everybody needs") < shown.index("Example: sfumato txt2img") < shown.index("Pictures:")


def test_an_example_stands_in_the_text_where_there_is_no_such_section(run: Run) -> None:
    for words in (("merge",), ("lora", "extract")):
        shown = run(*words, "--help").stdout
        assert shown.index("Example: sfumato") < shown.index("Arguments:")


def test_defaults_are_those_of_the_embedded_model(run: Run) -> None:
    advised = sfumato.load().spec.defaults
    assert {name: getattr(advised, name) for name in embedded_defaults()} == embedded_defaults()
    shown = " ".join(run("txt2img", "--help").stdout.split())
    for said in (f"{advised.steps} for {EMBEDDED}", f"{advised.width}x{advised.height} for {EMBEDDED}",
                 f"{advised.cfg:g} for {EMBEDDED}", f"{advised.sampler} for {EMBEDDED}"):  # fmt: skip
        assert f"Default: the model's own; {said}." in shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--num-inference-steps", "here it is --steps"),
        ("--mask", "--mask belongs to `sfumato inpaint`"),
        ("--guidance-scale", "here it is --cfg"),
        ("--cfg-scale", "here it is --cfg"),
        ("--negative_prompt", "here it is --negative"),
        ("--negative-prompt", "here it is --negative"),
        ("--sampler_name", "here it is --sampler"),
        ("--scheduler", "here it is --schedule"),
        ("--batch-size", "here it is --number"),
        ("--guidance-rescale", "here it is --cfg-rescale"),
        ("--cfg_interval", "here it is --cfg-interval"),
        ("--width", "--size WxH says both sides"),
        ("--ckpt", "here it is --model"),
        ("--stepz", "--steps"),
        ("--step", "did you mean --steps?"),
    ],
)
def test_options_of_other_programs_are_answered(run: Run, refused: Callable[..., None], given: str, said: str) -> None:
    refused(run("txt2img", "a cat", given, "3"), given, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generate", "a cat"), "No such command 'generate'; here it is `sfumato txt2img`"),
        (("text-to-image", "a cat"), "here it is `sfumato txt2img`"),
        (("download", "sdxl"), "here it is `sfumato pull`"),
        (("zzz",), "try 'sfumato --help'"),
        (("txt2img", "a cat", "--seed", "abc"), "'--seed': it takes a whole number"),
        (("txt2img", "a cat", "--cfg", "abc"), "'--cfg': it takes a number"),
        (("txt2img", "a", "cat"), "put a prompt of several words in quotes"),
        (("samplers", "extra"), "try 'sfumato samplers --help'"),
    ],
)
def test_commands_of_other_programs_are_answered(
    run: Run, refused: Callable[..., None], words: tuple[str, ...], said: str
) -> None:
    refused(run(*words), said)


def test_arguments_of_other_programs_are_answered(run: Run, refused: Callable[..., None]) -> None:
    refused(run("inpaint", "a.png", "a cat", "--init-image", "b.png"), "without a name, as PICTURE")
    refused(run("inpaint", "a.png", "a cat", "--mask-image", "b.png"), "here it is --mask")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--cfg-rescale 2", "--cfg-rescale is 2.0; choose a number from 0 to 1"),
        ("--hires-steps 3", "--hires-steps without --hires-scale changes nothing; give --hires-scale as well"),
        ("--sampler eulr", "did you mean 'Euler'?"),
        ("--sampler karras", "'karras' is no sampler but a schedule; give --schedule karras"),
        ("--schedule kerras", "did you mean 'Karras'?"),
        ("--emphasis plan", "unknown --emphasis 'plan'; did you mean 'plain'?"),
        ("--tiling horizontal", "choose one of x, y, both"),
        ("--crop 3", "--crop is '3'; give X,Y, such as 0,128"),
        ("--style ink", "styles.csv"),
    ],
)
def test_messages_are_in_the_words_of_the_command_line(
    run: Run, refused: Callable[..., None], model: str, words: str, said: str
) -> None:
    refused(run("txt2img", "a cat", "--model", model, *words.split()), said)
