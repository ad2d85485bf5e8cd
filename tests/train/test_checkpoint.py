"""A run loses nothing: not by kill -9, a full disk, a damaged file or numbers that are none."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.seeding import stream
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.loop import train
from sfumato.train.report import LOG

CPU = torch.device("cpu")
LOOP = LoopConfig(
    steps=8, batch=4, lr=0.05, warmup=2, log_every=3, validate_every=4, sample_every=99, ema=0.9, checkpoint_minutes=0
)


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig


class Points:
    """Learns a line through noisy points; `act` is called with every step and may do harm."""

    def __init__(self, act: Callable[[int], None] = lambda step: None):
        torch.manual_seed(0)
        self.networks, self.act = nn.Linear(3, 1), act

    def batch(self, step: int):
        self.act(step)
        x = torch.from_numpy(stream(0, "x", step).standard_normal((4, 3), "f4"))
        return {"x": x, "rows": torch.arange(4) + 4 * step}

    def loss(self, batch):
        x = batch["x"]
        return (self.networks(x) - x[:, :1] - torch.randn(4, 1)).square().mean(), {}

    def validate(self):
        return {"weight": self.networks.weight[0, 0].item()}

    def samples(self):
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path):
        folder.mkdir()
        (folder / "weight.txt").write_text(str(self.networks.weight[0, 0].item()))


def run(folder: Path, loop: LoopConfig = LOOP, act: Callable[[int], None] = lambda step: None) -> None:
    train(Points(act), loop, folder, record=Recipe(loop), device=CPU)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of weights, averages and optimizer in the newest checkpoint."""
    path = checkpoint.find(folder)
    assert path is not None
    files = json.loads((path / checkpoint.MANIFEST).read_text())["files"]
    assert files.keys() == {"networks.safetensors", "ema.safetensors", "optimizer.safetensors"}
    return {name: said["sha256"] for name, said in files.items()}


def log(folder: Path) -> list[dict]:
    lines = map(json.loads, (folder / LOG).read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "samples/s"} for line in lines]


@contextmanager
def moments(happens: Callable[[int], None]) -> Iterator[Callable[[int], None]]:
    """Calls `happens` with the number of every moment: a file is opened, written, synced or renamed, a step begins."""
    patch, count = pytest.MonkeyPatch(), iter(range(10**9))

    def counted(function):
        def call(*args):
            happens(next(count))
            return function(*args)

        return call

    patch.setattr(os, "fsync", counted(os.fsync))
    patch.setattr(Path, "rename", counted(Path.rename))
    patch.setattr(checkpoint._HashingFile, "write", counted(checkpoint._HashingFile.write))
    try:
        yield lambda step: happens(next(count))
    finally:
        patch.undo()


def killed(folder: Path, loop: LoopConfig, moment: int) -> bool:
    """Whether a run in a process of its own, which kills itself with signal 9 at that moment, came so far."""

    def kill(number: int) -> None:
        if number == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            with moments(kill) as act:
                run(folder, loop, act)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize(("kills", "steps"), [(5, 8), pytest.param(50, 60, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_ends_as_one_that_was_not(tmp_path: Path, kills: int, steps: int) -> None:
    loop = replace(LOOP, steps=steps)
    seen: list[int] = []
    with moments(seen.append) as act:
        run(tmp_path / "whole", loop, act)
    a_step = len(seen) // steps
    rng, done = random.Random(kills), 0
    while done < kills and killed(tmp_path / "cut", loop, rng.randrange(2 * a_step)):
        done += 1
        checkpoint.find(tmp_path / "cut")
    assert done == kills
    run(tmp_path / "cut", loop)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    assert (tmp_path / "cut/export/weight.txt").read_text() == (tmp_path / "whole/export/weight.txt").read_text()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_at_every_moment_of_a_save_a_whole_checkpoint_is_there(tmp_path: Path) -> None:
    run(tmp_path / "run", replace(LOOP, steps=2))
    before = hashes(tmp_path / "run")
    for moment in range(100):
        shutil.copytree(tmp_path / "run", tmp_path / f"{moment}")
        if not killed(tmp_path / f"{moment}", replace(LOOP, steps=3, checkpoint_minutes=9), moment):
            break
        assert (
            hashes(tmp_path / f"{moment}") == before or "step-00000003" in checkpoint.find(tmp_path / f"{moment}").name
        )
    assert 10 < moment < 99


def test_a_full_disk_pauses_the_run_and_the_last_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole")
    write, left = checkpoint._HashingFile.write, iter(range(60))

    def full(self, content) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, content)

    monkeypatch.setattr(checkpoint._HashingFile, "write", full)
    with pytest.raises(SfumatoError, match=r"full, the run pauses; .*step-0000000\d stays whole: make room"):
        run(tmp_path / "cut")
    assert not [path for path in (tmp_path / "cut").rglob("*") if path.name.endswith(".sfumato-part")]
    monkeypatch.undo()
    found = checkpoint.find(tmp_path / "cut")
    assert found is not None and found.name < "step-00000008"
    run(tmp_path / "cut")
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")


def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: Path) -> None:
    run(tmp_path)
    whole = hashes(tmp_path)
    newest = checkpoint.find(tmp_path)
    content = bytearray((newest / "networks.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "networks.safetensors").write_bytes(content)
    with pytest.warns(SfumatoWarning, match=r"step-00000008 .*networks.safetensors is not what was writ"):
        assert checkpoint.find(tmp_path).name == "step-00000007"
    with pytest.warns(SfumatoWarning, match="step-00000008"):
        run(tmp_path)
    assert hashes(tmp_path) == whole
    for path in (tmp_path / "checkpoints").iterdir():
        (path / checkpoint.MANIFEST).unlink()
    with pytest.raises(SfumatoError, match=r"manifest.json is missing\), and there is no other whole one"):
        checkpoint.find(tmp_path)


def test_checkpoints_of_earlier_versions_go_on(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "old", replace(LOOP, steps=5), lambda step: None)
    path = checkpoint.find(tmp_path / "old")
    state = checkpoint.load(path, CPU)
    former = {name: state[name] for name in ("networks", "ema", "optimizer", "config", "step")} | {"format": 1}
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    torch.save(former, path.with_suffix(".pt"))
    assert checkpoint.damage_of(path.with_suffix(".pt")) is None
    run(tmp_path / "old")
    assert checkpoint.find(tmp_path / "old").is_dir() and hashes(tmp_path / "old")
    path.with_suffix(".pt").write_bytes(b"PK")
    assert checkpoint.damage_of(path.with_suffix(".pt")) is not None


def test_what_is_not_a_number_stops_the_run_and_is_never_saved(tmp_path: Path) -> None:
    task = Points()

    def poison(step: int) -> None:
        if step == 5:
            with torch.no_grad():
                task.networks.weight.fill_(float("nan"))

    task.act = poison
    with pytest.raises(SfumatoError, match=r"step 6: loss nan, .*samples \[20, 21, 22, 23\]; .*step-00000005"):
        train(task, LOOP, tmp_path, record=Recipe(LOOP), device=CPU)
    saved = checkpoint.load(checkpoint.find(tmp_path), CPU)
    assert saved["step"] == 5
    assert torch.equal(task.networks.weight, saved["networks"]["weight"])
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert failure["step"] == 6 and failure["samples"] == [20, 21, 22, 23]
    run(tmp_path / "whole")
    run(tmp_path)
    assert hashes(tmp_path) == hashes(tmp_path / "whole")
    assert not (tmp_path / "failure.json").exists()


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    class Poisoned(Points):
        def loss(self, batch):
            loss, figures = super().loss(batch)
            if batch["rows"][0] == 8:  # the third step's own loss is still a number
                self.networks.bias.data.fill_(float("inf"))
            return loss, figures

    with pytest.raises(SfumatoError, match=r"step 3: a weight is not finite; .*step-00000002"):
        train(Poisoned(), LOOP, tmp_path, record=Recipe(LOOP), device=CPU)
    assert checkpoint.find(tmp_path).name == "step-00000002"


def test_fp16_scales_the_loss_and_goes_on_exactly(tmp_path: Path) -> None:
    loop = replace(LOOP, precision="fp16")
    run(tmp_path / "whole", loop)

    class PowerCut(Exception):
        pass

    def act(step: int) -> None:
        if step == 4:
            raise PowerCut

    with pytest.raises(PowerCut):
        run(tmp_path / "cut", loop, act)
    run(tmp_path / "cut", loop)
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert checkpoint.load(checkpoint.find(tmp_path / "cut"), CPU)["scaler"]["scale"] > 0
