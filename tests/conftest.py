"""What all tests share: reference data, a little model, one thread, no network, the same examples in every run."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

# Before anything imports them: tests and the processes they start stay offline, print plainly, see no settings or
# models of whoever runs them, and compute with one thread, because tests run side by side.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", NO_COLOR="1", SFUMATO_HOME="/dev/null/sfumato")
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.pop("SFUMATO_MODELS", None)
os.environ.pop("SFUMATO_DEBUG", None)

import sfumato  # noqa: F401, I001 (first: it must say how threads wait before torch is imported)
import hypothesis
import pytest
import torch
from typer.testing import CliRunner, Result

import tiny
from sfumato.cli.main import app
from sfumato.families import family, sd1
from sfumato.loading.save import save_folder
from sfumato.spec import CLIPTextConfig, Spec, UNetConfig, VAEConfig
from sfumato.text.tokenizer import CLIPTokenizer

torch.set_num_threads(1)
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")

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


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference data: all of it where it lies beside the repository, else the part in tests/golden."""
    here = Path(__file__).parent
    whole = here.parents[1] / "shared" / "golden"
    return whole if whole.is_dir() else here / "golden"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that would leave this machine fails."""
    monkeypatch.setenv("SFUMATO_OFFLINE", "")  # a command with --offline sets it for its whole process
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A diffusers folder that draws noise in milliseconds; a latent is two pixels wide."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    WORDS.save(folder / "words")
    save_folder(folder / "tiny", SPEC, sd1.networks(SPEC), tokenizer_folder=folder / "words")
    return str(folder / "tiny")


def _from_pictures(release: str, folder: Path) -> Path:
    spec = tiny.shrink(family(release).spec)
    tiny.WORDS.save(folder / "words")
    save_folder(folder / release, spec, tiny.random_networks(family(release), spec), folder / "words")
    return folder / release


@pytest.fixture(scope="session")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a little x4 upscaler."""
    return _from_pictures("sd2_upscaler", tmp_path_factory.mktemp("upscaler"))


@pytest.fixture(scope="session")
def depth_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a little 2.0 depth, whose depth network looks at 32 pixels a side."""
    return _from_pictures("sd2_depth", tmp_path_factory.mktemp("depth"))


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


@pytest.fixture(scope="session")
def inpainting_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a little 1.5 inpainting."""
    return _from_pictures("sd1_inpainting", tmp_path_factory.mktemp("inpainting"))
