"""What all tests share: reference data, one thread, no network, the same examples in every run."""

import os
import socket
from pathlib import Path

# Before anything imports them: tests and the processes they start stay offline, and print plainly.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", NO_COLOR="1")
os.environ.pop("SFUMATO_DEBUG", None)

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("same", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference data: all of it where it lies beside the repository, else the part in tests/golden."""
    here = Path(__file__).parent
    whole = here.parents[1] / "shared" / "golden"
    return whole if whole.is_dir() else here / "golden"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that would leave this machine fails."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
