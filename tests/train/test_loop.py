import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from sfumato.errors import SfumatoError
from sfumato.seeding import stream
from sfumato.train import checkpoint
from sfumato.train.config import LoopConfig
from sfumato.train.loop import Outcome, train
from sfumato.train.precision import pick_device
from sfumato.train.rates import learning_rate
from sfumato.train.report import LOG

CPU = torch.device("cpu")
LOOP = LoopConfig(steps=12, batch=4, lr=0.05, warmup=2, log_every=3, validate_every=5, sample_every=6, ema=0.9)


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig


class Line:
    """Learns y = 2 x from noisy samples; `act` is called with every step and may do harm."""

    def __init__(self, width: int = 1, act=lambda step: None):
        torch.manual_seed(0)
        self.networks = nn.Linear(width, 1)
        self.act = act

    def batch(self, step: int):
        self.act(step)
        return {"x": torch.from_numpy(stream(0, "x", step).standard_normal((4, self.networks.in_features), "f4"))}

    def loss(self, batch):
        x = batch["x"]
        noisy = 2 * x[:, :1] + 0.1 * torch.randn(len(x), 1)
        loss = (self.networks(x).float() - noisy).square().mean()
        return loss, {"same": loss.detach()}

    def validate(self):
        torch.randn(3)  # whatever a task draws here must not reach the training
        return {"weight": self.networks.weight[0, 0].item()}

    def samples(self):
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weight.txt").write_text(str(self.networks.weight[0, 0].item()))


def run(folder: Path, task: Line | None = None, loop: LoopConfig = LOOP, **options) -> Outcome:
    return train(task or Line(), loop, folder, record=Recipe(loop), device=CPU, **options)


def lines(folder: Path) -> list[str]:
    return (folder / LOG).read_text().splitlines()


def state(folder: Path) -> dict:
    path = checkpoint.find(folder)
    assert path is not None
    return checkpoint.load(path, CPU)


def test_a_run_leaves_everything(tmp_path: Path):
    loop = replace(LOOP, steps=300)
    outcome = run(tmp_path, loop=loop)
    assert outcome.step == 300 and outcome.reason == "done"
    assert abs(outcome.metrics["val/weight"] - 2) < 0.1
    assert float((tmp_path / "export/weight.txt").read_text()) == outcome.metrics["val/weight"]
    assert state(tmp_path)["config"]["loop"]["steps"] == 300
    assert (tmp_path / "samples/step-00000300.png").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    assert "300 of 300 steps, finished" in (tmp_path / "report.html").read_text()
    steps = [json.loads(line)["step"] for line in lines(tmp_path)]
    assert steps == sorted(steps) and steps[-1] == 300


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_a_checkpoint_and_the_same_command_goes_on_exactly(tmp_path: Path, how: signal.Signals):
    run(tmp_path / "whole")

    def act(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), how)

    before = signal.getsignal(how)
    stopped = run(tmp_path / "cut", Line(act=act))
    assert (stopped.step, stopped.reason) == (7, "signal")
    assert signal.getsignal(how) == before
    assert run(tmp_path / "cut").reason == "done"
    assert_equal(state(tmp_path / "whole"), state(tmp_path / "cut"))
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "samples/s"} for line in lines(tmp_path / name)]
        for name in ("whole", "cut")
    ]
    # The window that was cut is averaged over fewer steps; every figure after it is the same.
    assert [line for line in logs[0] if line["step"] > 9] == [line for line in logs[1] if line["step"] > 9]


def assert_equal(left, right) -> None:
    """Nested containers of tensors, bit for bit."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_equal(a, b)
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


def test_a_crash_goes_on_from_the_last_checkpoint_and_the_log_has_no_step_twice(tmp_path: Path):
    loop = replace(LOOP, checkpoint_minutes=0.0, log_every=1)
    run(tmp_path / "whole", loop=loop)

    def act(step: int) -> None:
        if step == 8:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", Line(act=act), loop)
    for path in sorted((tmp_path / "cut/checkpoints").iterdir())[1:]:
        shutil.rmtree(path)  # as if the last had not been reached
    run(tmp_path / "cut", loop=loop)
    assert_equal(state(tmp_path / "whole"), state(tmp_path / "cut"))
    steps = [json.loads(line)["step"] for line in lines(tmp_path / "cut") if "loss" in line]
    assert steps == list(range(1, 13))


def test_two_checkpoints_are_kept(tmp_path: Path):
    run(tmp_path, loop=replace(LOOP, checkpoint_minutes=0.0))
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-00000011", "step-00000012"]


def test_more_steps_go_on_from_a_finished_run(tmp_path: Path):
    run(tmp_path)
    assert run(tmp_path, loop=replace(LOOP, steps=20)).step == 20
    assert run(tmp_path, loop=replace(LOOP, steps=20)).step == 20


def test_the_time_limit_stops(tmp_path: Path):
    outcome = run(tmp_path, max_minutes=0.0)
    assert (outcome.step, outcome.reason) == (1, "time")


def test_fresh_never_touches_a_run(tmp_path: Path):
    run(tmp_path)
    with pytest.raises(SfumatoError, match="holds a run already"):
        run(tmp_path, resume=False)


def test_a_loss_that_is_not_finite_stops_and_writes_nothing(tmp_path: Path):
    task = Line()

    def poison(step: int) -> None:
        if step == 3:
            with torch.no_grad():
                task.networks.weight.fill_(float("nan"))

    task.act = poison
    with pytest.raises(SfumatoError, match="step 4: loss nan"):
        run(tmp_path, task)
    assert checkpoint.find(tmp_path) is None


def test_checkpoints_of_other_networks_and_broken_ones_are_refused(tmp_path: Path):
    run(tmp_path)
    with pytest.raises(SfumatoError, match="other networks"):
        run(tmp_path, Line(width=2))
    path = checkpoint.find(tmp_path)
    assert path is not None
    (path / "ema.safetensors").write_bytes(b"other")
    with pytest.raises(SfumatoError, match=r"no readable checkpoint \(ema.safetensors has 5 bytes"):
        run(tmp_path)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "cooldown"])
def test_the_rate_warms_up_and_falls_as_named(schedule: str):
    cfg = replace(LOOP, lr_schedule=schedule, warmup=10, lr=1.0, lr_end=0.1, decay=0.25)
    rates = [learning_rate(cfg, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[74] == pytest.approx({"constant": 1, "cooldown": 1, "cosine": 0.273}[schedule], abs=1e-2)
    assert rates[99] == pytest.approx({"constant": 1, "cooldown": 0.136, "cosine": 0.1}[schedule], abs=1e-2)


def test_unknown_devices_are_refused():
    with pytest.raises(SfumatoError, match="warp"):
        pick_device("warp")


def test_figures_go_to_weights_and_biases_only_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Wandb:
        def __init__(self):
            self.calls = []

        def init(self, **options):
            self.calls.append(options)
            return self

        def log(self, values, step):
            self.calls.append((step, set(values)))

        def finish(self, exit_code):
            self.calls.append(exit_code)

    package = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", package)
    run(tmp_path / "quiet", loop=replace(LOOP, steps=3))
    assert not package.calls
    run(tmp_path / "said", loop=replace(LOOP, steps=3, wandb="mine"))
    assert (package.calls[0]["project"], package.calls[0]["name"], package.calls[-1]) == ("mine", "said", 0)
    assert (3, {"val/weight"}) in package.calls
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SfumatoError, match="pip install wandb"):
        run(tmp_path / "missing", loop=replace(LOOP, wandb="mine"))
