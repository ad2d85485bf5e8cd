"""Two processes do what one does, and notice when they no longer agree."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from sfumato.errors import SfumatoError
from sfumato.seeding import stream
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.loop import train
from sfumato.train.report import LOG

CPU = torch.device("cpu")
LOOP = LoopConfig(
    steps=6, batch=8, lr=0.05, warmup=0, log_every=2, validate_every=3, sample_every=99, ema=0.9, precision="fp32",
    checkpoint_minutes=0,
)  # fmt: skip
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig


class Points:
    def __init__(self, rank: int = 0, strays: int | None = None):
        torch.manual_seed(rank)  # processes start from the weights of the first
        self.networks = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.rank, self.strays, self.done = rank, strays, 0

    def batch(self, step: int):
        if step == self.strays and self.rank:
            with torch.no_grad():
                self.networks[0].bias += 1e-3
        return {"x": torch.from_numpy(stream(0, "x", step).standard_normal((8, 3), "f4")), "step": torch.tensor(step)}

    def loss(self, batch):
        x = batch["x"]
        error = (self.networks(x)[:, 0] - x.prod(1)).square().mean()
        return error, {"rows": torch.tensor(float(len(x)))}

    def validate(self):
        return {"bias": self.networks[2].bias.item()}

    def samples(self):
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path):
        folder.mkdir()
        (folder / "bias.txt").write_text(str(self.networks[2].bias.item()))


def run(folder: Path, loop: LoopConfig, task: Points | None = None) -> None:
    train(task or Points(), loop, folder, record=Recipe(loop), device=CPU)


def side_by_side(folder: Path, loop: LoopConfig, strays: int | None = None, kind: type[Points] = Points) -> list[str]:
    """What two processes that train together end with: "" or an error's text."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(exist_ok=True)
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            said = "no end"
            try:
                os.environ |= {
                    "RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                    "GLOO_SOCKET_IFNAME": "lo",
                }  # fmt: skip
                run(folder, loop, kind(rank, strays))
                said = ""
            except BaseException as error:
                said = str(error)
            finally:
                (folder / f"said-{rank}").write_text(said)
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return [(folder / f"said-{rank}").read_text() for rank in range(2)]


def state(folder: Path) -> dict:
    return checkpoint.load(checkpoint.find(folder), CPU)


def records(folder: Path, name: str) -> list[float]:
    lines = map(json.loads, (folder / LOG).read_text().splitlines())
    return [line[name] for line in lines if name in line]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    run(tmp_path / "one", LOOP)
    assert side_by_side(tmp_path / "two", LOOP) == ["", ""]
    one, two = state(tmp_path / "one"), state(tmp_path / "two")
    assert one["step"] == two["step"] == 6
    for part in ("networks", "ema"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, atol=1e-6, rtol=1e-5)
    assert records(tmp_path / "two", "loss") == pytest.approx(records(tmp_path / "one", "loss"), rel=1e-5)
    assert records(tmp_path / "two", "rows") == [4.0] * 3
    # What two have begun goes on in two, accumulated, or in one.
    longer = replace(LOOP, steps=9)
    assert side_by_side(tmp_path / "two", replace(longer, accumulate=2)) == ["", ""]
    run(tmp_path / "one", longer)
    for name, value in state(tmp_path / "one")["networks"].items():
        torch.testing.assert_close(state(tmp_path / "two")["networks"][name], value, atol=1e-5, rtol=1e-4)


def test_processes_whose_weights_differ_stop(tmp_path: Path) -> None:
    said = side_by_side(tmp_path / "two", replace(LOOP, compare_every=2, checkpoint_minutes=9), strays=2)
    for text in said:
        assert text.startswith("step 4: the weights of process 1 are no longer those of process 0")
    assert checkpoint.find(tmp_path / "two") is None


class Shared(Points):
    """The same, whose network is called by the loss, as that of a model is."""

    def __init__(self, rank: int = 0, strays: int | None = None):
        super().__init__(rank, strays)
        torch.manual_seed(rank)
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Sequential(nn.Linear(8, 1)))
        self.forwarded, self.networks = self.network, nn.ModuleDict({"network": self.network})

    def loss(self, batch):
        x = batch["x"]
        return (self.network(x)[:, 0] - x.prod(1)).square().mean(), {"rows": torch.tensor(float(len(x)))}

    def validate(self):
        return {"bias": self.network[2][0].bias.item()}

    def export(self, folder: Path):
        folder.mkdir()
        torch.save(self.networks.state_dict(), folder / "whole.pt")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_processes_that_share_weights_equal_one(tmp_path: Path) -> None:
    loop = replace(LOOP, sharded=True)
    run(tmp_path / "one", LOOP, Shared())
    assert side_by_side(tmp_path / "two", loop, kind=Shared) == ["", ""]
    found = checkpoint.find(tmp_path / "two")
    assert found is not None and len(list(found.glob("shard-*.safetensors"))) == 2
    one, two = state(tmp_path / "one"), state(tmp_path / "two")  # read by one process
    assert two["step"] == 6
    for part in ("networks", "ema"):
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, atol=1e-6, rtol=1e-5)
    assert records(tmp_path / "two", "loss") == pytest.approx(records(tmp_path / "one", "loss"), rel=1e-5)
    assert records(tmp_path / "two", "val/bias") == pytest.approx(records(tmp_path / "one", "val/bias"), rel=1e-4)
    for folder in ("one", "two"):
        whole = torch.load(tmp_path / folder / "export" / "whole.pt", weights_only=True)
        for name, value in state(tmp_path / "one")["ema"].items():
            torch.testing.assert_close(whole[name], value, atol=1e-6, rtol=1e-5)
    # What two began in shares goes on in one process, and what one began in two.
    longer = replace(LOOP, steps=9)
    run(tmp_path / "two", longer, Shared())
    assert side_by_side(tmp_path / "one", replace(longer, sharded=True, accumulate=2), kind=Shared) == ["", ""]
    for name, value in state(tmp_path / "two")["networks"].items():
        torch.testing.assert_close(state(tmp_path / "one")["networks"][name], value, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_shared_is_said(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="for several processes"):
        run(tmp_path / "one", replace(LOOP, sharded=True), Shared())
    said = side_by_side(tmp_path / "two", replace(LOOP, sharded=True))
    assert all("such as full" in text for text in said)
    said = side_by_side(tmp_path / "three", replace(LOOP, sharded=True, optimizer="muon"), kind=Shared)
    assert all("adamw or lion" in text for text in said)
