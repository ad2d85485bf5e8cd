"""The tiny emoji set."""

from __future__ import annotations

import pytest
import torch

from sfumato.data.emoji.training import EmojiTrainingSet
from tiny.shapes import build_set


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> EmojiTrainingSet:
    folder = tmp_path_factory.mktemp("data") / "emoji"
    build_set(folder)
    return EmojiTrainingSet(folder)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
