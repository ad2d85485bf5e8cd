"""A way to run the command line inside the test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sfumato.cli.main import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("txt2img", "a cat", ...)` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], prog_name="sfumato")


@pytest.fixture
def refused() -> Callable[..., None]:
    """`refused(result, "words", ...)`: it ended with exit code 2, one line on stderr with the words, no stdout."""

    def check(result: Result, *expected: str) -> None:
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
        for words in expected:
            assert words in result.stderr

    return check
