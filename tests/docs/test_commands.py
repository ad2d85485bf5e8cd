"""Every command and every Python block of README and docs: run with few steps, or parsed where it would take hours."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from sfumato.cli.main import app

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# These download, train or measure for minutes and hours; `verify` wants reference data, `score` other people's weights.
ONLY_PARSED = {"pull", "data", "train", "evaluate", "verify", "score", "serve", "up", "bot"}
PARSED_WITH = {"--help", "--safety", "--aesthetic"}  # the last two name files of other people's weights
# What stands for something else in a command: a name of a model that is not on this machine, a placeholder.
STANDS_FOR = {
    "sdxl": "models/sdxl",
    "sdxl-refiner": "models/sdxl-refiner",
    "x4-upscaler": "models/x4",
    "sd2.0-depth": "models/depth",
    "sd1.5": "models/v1-5",
    "runs/reader/export": "models/v1-5",
    "runs/lora/export/lora.safetensors": "sepia",
    "sd21-unclip-h.ckpt": "models/unclip",
    "METHOD": "ldm",
    "RECIPE": "emoji-ldm",
}
# Options that make a command short, unless it gives them itself.
SHORT = {
    "txt2img": ["--steps", "2", "--size", "256x256"],
    "img2img": ["--steps", "2"],
    "inpaint": ["--steps", "2"],
    "outpaint": ["--steps", "2"],
    "upscale": ["--steps", "2"],
    "depth2img": ["--steps", "2"],
    "augment": ["--steps", "2"],
    "anonymise": ["--steps", "2"],
    "grid": ["--size", "64x64"],
    "interpolate": ["--steps", "2", "--size", "64x64", "--frames", "3"],
}
WRITES = {"control", *SHORT, "replay", "compress", "decompress"} - {"augment", "anonymise"}


def blocks(page: str, *languages: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for language, body in BLOCK.findall(text) if language in languages]


def lines(page: str) -> list[list[str]]:
    """The commands of a page as words, without comments."""
    text = "".join(blocks(page, "sh")).replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


WITH_COMMANDS = [page for page in PAGES if lines(page)]
WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]


def test_commands_stand_in_blocks_and_every_block_names_its_language() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        fences = re.findall(r"^```(.*)$", text, re.MULTILINE)
        assert all(fences[::2]) and not any(fences[1::2]), f"{page}: a block without a language"
        assert not re.search(r"^ {4}(sfumato|python|pip|make) ", text, re.MULTILINE), f"{page}: a command in no block"


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_of_a_page_run(page: str, workplace: Path) -> None:
    for program, *words in lines(page):
        assert program in PROGRAMS, f"nobody has said how {program!r} is tested"
        PROGRAMS[program](words)


def _sfumato(words: list[str]) -> None:
    if words[0] in ONLY_PARSED or PARSED_WITH.intersection(words):
        return _parse(words)
    if words[0] != "licence":
        words = [STANDS_FOR.get(word, word) for word in words]
    options = SHORT.get(words[0], [])
    given = set(words) | ({"--steps"} if {"--sigmas", "--upscaler"} & set(words) else set())
    given |= {"--size"} if {"--width", "--height"} & set(words) else set()
    if words[0] in WRITES:  # the folder has pictures of all names that pages speak of
        words = [*words, "--overwrite"]
    short = [word for k in range(0, len(options), 2) if options[k] not in given for word in options[k : k + 2]]
    result = CliRunner().invoke(app, [*words, *short], prog_name="sfumato")
    assert result.exit_code == 0, f"sfumato {shlex.join(words)}\n{result.output}\n{result.exception!r}"


def _parse(words: list[str]) -> None:
    """Only read the command: its options exist and their values are of the right kind."""
    words = [STANDS_FOR.get(word, word) for word in words]
    command, context = typer.main.get_command(app), None
    name = "sfumato"
    while True:
        context = command.make_context(name, list(words), parent=context)
        further = [*context._protected_args, *context.args]
        if not hasattr(command, "resolve_command") or (command.invoke_without_command and not further):
            return
        name, command, words = command.resolve_command(context, further)
        assert command is not None


def _make(words: list[str]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in (word for word in words if "=" not in word):
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), f"the Makefile makes no {target}"


def _python(words: list[str]) -> None:
    if words[0] == "-c":
        return exec(words[1], {})
    if words[0] == "-m":
        assert words[1] in ("venv", "hatchling"), words
        return None
    script = (ROOT / words[0]).read_text(encoding="utf-8")
    for option in (word for word in words[1:] if word.startswith("--") and word != "--help"):
        assert f'"{option}"' in script or f'"{option.removeprefix("--")}"' in script, f"{words[0]} knows no {option}"


def _pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for named in re.findall(r"\[([\w,-]+)\]", " ".join(words)):
        assert set(named.split(",")) <= set(extras), words


def _pytest(words: list[str]) -> None:
    for path in (word.partition("::")[0] for word in words if word.startswith("tests")):
        assert (ROOT / path).exists(), path


def _torchrun(words: list[str]) -> None:
    _parse(words[words.index("sfumato") + 1 :])


def _nothing(words: list[str]) -> None:
    """A command of the shell or of git, which the next ones do not need here."""


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "torchrun": _torchrun,
    "sfumato": _sfumato,
    "make": _make, "python": _python, "python3": _python, "pip": _pip, "pytest": _pytest, ".venv/bin/pytest": _pytest,
    ".": _nothing, "cd": _nothing, "git": _nothing,
    "curl": _nothing,  # tests/server/test_pages.py runs them against a server
}  # fmt: skip


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_python_of_a_page_runs(page: str, workplace: Path) -> None:
    """The blocks of a page, one after the other, in a process of their own, as a reader types them."""
    Path("page.py").write_text("\n\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run([sys.executable, "page.py"], capture_output=True, text=True)
    assert done.returncode == 0, f"{page}\n{done.stderr}"


def test_files_that_pages_name_are_there() -> None:
    """Paths from the root of the repository, written as code; NAME stands for a file that is to be written."""
    for page in PAGES:
        for path in re.findall(
            r"`((?:src|tests|tools|bench|docs)/[\w./-]+)`", (ROOT / page).read_text(encoding="utf-8")
        ):
            assert "NAME" in path or (ROOT / path).exists(), f"{page} names {path}, which is not there"


def test_a_wrong_command_is_noticed(workplace: Path) -> None:
    for words, complaint in (
        (["train", "ldm", "emoji-ldm", "--nonsense", "1"], "No such option"),
        (["pull"], "Missing"),
        (["data", "build", "nothing"], "nothing"),
    ):
        with pytest.raises(Exception, match=complaint):
            _parse(words)
    with pytest.raises(AssertionError, match="no such model"):
        _sfumato(["txt2img", "a cat", "--model", "no such model"])
