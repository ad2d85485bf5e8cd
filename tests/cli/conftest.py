"""A complete little model of random weights, and a way to run the command line inside the test."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from sfumato.cli.main import app
from sfumato.families import sd1
from sfumato.spec import CLIPTextConfig, Spec, UNetConfig, VAEConfig
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.weights.save import save_folder

WORDS = CLIPTokenizer.train(["a cat"] * 2, 516)
SPEC = Spec(
    family="sd1",
    title="tiny",
    unet=UNetConfig(channels=(32, 64), depth=(1, 0), blocks=1, context_dim=32, heads=2),
    vae=VAEConfig(channels=(32, 32), blocks=1),
    text=CLIPTextConfig(
        vocab_size=WORDS.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        layers=2,
        heads=2,
        bos_token_id=WORDS.bos_token_id,
        eos_token_id=WORDS.eos_token_id,
        pad_token_id=WORDS.pad_token_id,
    ),
)

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A diffusers folder that draws noise in milliseconds; a latent is two pixels wide."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    WORDS.save(folder / "words")
    save_folder(folder / "tiny", SPEC, **sd1.networks(SPEC), tokenizer_folder=folder / "words")
    return str(folder / "tiny")


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
