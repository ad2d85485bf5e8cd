"""The tiny emoji set, and what is tuned on whose pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import tiny
from sfumato.data.emoji.training import EmojiTrainingSet
from sfumato.families import family, sd3
from sfumato.loading.save import save_folder
from tiny.shapes import build_set


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> EmojiTrainingSet:
    folder = tmp_path_factory.mktemp("data") / "emoji"
    build_set(folder)
    return EmojiTrainingSet(folder)


@pytest.fixture(scope="session")
def with_prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a little model with a scene prior."""
    return str(tiny.save(tmp_path_factory.mktemp("prior") / "model", sd3.PRIOR_FAMILY))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place for the latents that are kept."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of two sizes with captions."""
    folder = tmp_path_factory.mktemp("pictures")
    for k, (size, colour) in enumerate((((64, 64), "red"), ((64, 64), "blue"), ((96, 48), "red"), ((96, 48), "blue"))):
        Image.new("RGB", size, colour).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(f"a {colour} heart")
    return folder


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory):
    """Writes a little model of a release, and returns its folder."""
    folder = tmp_path_factory.mktemp("released")
    tiny.WORDS.save(folder / "words")

    def write(release: str) -> str:
        spec = tiny.shrink(family(release).spec)
        if not (folder / release).is_dir():
            networks = tiny.random_networks(family(release), spec)
            save_folder(folder / release, spec, networks, folder / "words")
        return str(folder / release)

    return write
