"""The list of commands, and how failures reach the user."""

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

import sfumato
from sfumato.cli import main
from sfumato.errors import SfumatoError

Run = Callable[..., Result]

PROBE = """
import sys
from sfumato.cli.main import app
try:
    app(sys.argv[1:], prog_name="sfumato")
finally:
    print(*{"torch", "numpy", "PIL", "diffusers", "transformers"} & set(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["txt2img", "--help"], ["txt2imag"]])
def test_answers_without_heavy_imports(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == ""


def test_help_lists_every_command(run: Run) -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    for name, (_, line) in main.COMMANDS.items():
        assert f"  {name} " in shown.stdout and line in " ".join(shown.stdout.split())


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    shown = run(name, "-h")
    assert shown.exit_code == 0, shown.output
    assert f"Usage: sfumato {name}" in shown.stdout
    assert "--install-completion" not in shown.stdout


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"sfumato {sfumato.__version__}\n"


def test_without_a_command_shows_help(run: Run) -> None:
    for words in ([], ["data"], ["data", "build"]):
        shown = run(*words)
        assert shown.exit_code == 2
        assert shown.stderr.startswith("Usage: sfumato") and "Commands:" in shown.stderr


@pytest.mark.parametrize("words", ["txt2img cat", "train ldm emoji-ldm --data x --out y"])
def test_threads_have_a_limit(run: Run, refused: Callable[..., None], words: str) -> None:
    """Of a million torch makes a crash."""
    for count in ("1000000", "1" + "0" * 30, "0"):
        refused(run(*words.split(), "--threads", count), "--threads")


def test_usage_errors_are_one_line(run: Run, refused: Callable[..., None]) -> None:
    refused(run("tx2img"), "'tx2img'", "Did you mean", "'txt2img'")
    refused(run("zzz"), "'zzz'", "sfumato --help")
    refused(run("--bogus"), "--bogus")
    refused(run("txt2img"), "PROMPT", "sfumato txt2img --help")
    refused(run("txt2img", "a cat", "--step", "3"), "--step")
    refused(run("txt2img", "a cat", "--steps", "many"), "--steps")
    refused(run("data", "build", "emojis", "x"), "Did you mean 'emoji'?")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command that raises the given exception."""

    def run(error: BaseException, **env: str) -> Result:
        def fail() -> None:
            raise error

        module = ModuleType("failing_command")
        module.fail = fail  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(main.COMMANDS, "fail", ("failing_command:fail", "Fails."))
        return CliRunner().invoke(main.app, ["fail"], env=env)

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SfumatoError("no such\nthing"), 2, "error: no such thing\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
        (
            ZeroDivisionError("by\nzero"),
            1,
            "error: ZeroDivisionError: by zero (a fault in sfumato; SFUMATO_DEBUG=1 shows the traceback)\n",
        ),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
)
def test_failures_are_one_line(failing: Run, error: BaseException, code: int, line: str) -> None:
    done = failing(error)
    assert (done.exit_code, done.stderr, done.stdout) == (code, line, "")


@pytest.mark.parametrize("error", [SfumatoError("bad"), ZeroDivisionError("worse")])
def test_debug_shows_the_traceback(failing: Run, error: Exception) -> None:
    done = failing(error, SFUMATO_DEBUG="1")
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m sfumato --help | true"
    assert subprocess.run(command, shell=True, capture_output=True, text=True).stderr == ""


def test_the_package_gives_what_users_need_and_no_more() -> None:
    assert sfumato.load.__module__ == "sfumato.pipeline.load"
    assert sfumato.SfumatoError is SfumatoError
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        sfumato.lode  # noqa: B018
