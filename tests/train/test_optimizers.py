"""Optimizers, their rates, and ways to need less memory."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import tiny
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.seeding import stream
from sfumato.train.config import LoopConfig, LrSchedule, OptimizerName
from sfumato.train.ema import EMA
from sfumato.train.learner import Learner
from sfumato.train.lion import Lion
from sfumato.train.loop import train
from sfumato.train.optimizers import Optimizer
from sfumato.train.precision import plain_attention
from sfumato.train.prodigy import Prodigy
from sfumato.train.rates import learning_rate
from sfumato.train.recompute import recompute_blocks
from sfumato.train.shares import share

CPU = torch.device("cpu")
LOOP = LoopConfig(steps=30, batch=4, lr=0.02, warmup=0, lr_schedule="constant", ema=0.0, log_every=30, sample_every=99)
RATES = {"prodigy": 1.0, "adafactor": 0.1}


@dataclass(frozen=True)
class Recipe:
    loop: LoopConfig


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return x + scale * torch.tanh(self.inner(x))


class Network(nn.Module):
    """A part `first` and a part `layers` of two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.layers = nn.ModuleList(Layer() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x, scale=0.5)
        return x.sum(1)


class Sums:
    """Learns the sum of four numbers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.networks = Network()

    def batch(self, step: int):
        return {"x": torch.from_numpy(stream(0, "x", step).standard_normal((4, 4), "f4"))}

    def loss(self, batch):
        error = (self.networks(batch["x"]) - batch["x"].sum(1)).square().mean()
        return error, {"rows": torch.tensor(float(len(batch["x"])))}

    def validate(self):
        return {}

    def samples(self):
        return Image.new("RGB", (1, 1))

    def export(self, folder: Path):
        folder.mkdir()


def trained(loop: LoopConfig, steps: int | None = None) -> tuple[Learner, list[float]]:
    task = Sums()
    learner = Learner(task, loop, CPU)
    return learner, [learner.step(task.batch(step), step)["loss"] for step in range(steps or loop.steps)]


def weights(learner: Learner) -> Tensor:
    return torch.cat([p.detach().flatten() for p in learner.networks.parameters()])


@pytest.mark.parametrize("name", [name for name in get_args(OptimizerName) if name != "adamw8bit"])
def test_every_optimizer_learns_and_goes_on_exactly(name: OptimizerName, tmp_path: Path) -> None:
    loop = replace(LOOP, optimizer=name, lr=RATES.get(name, LOOP.lr))
    learner, losses = trained(loop)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    for steps in (11, 30):
        task = Sums()
        short = replace(loop, steps=steps)
        train(task, short, tmp_path, record=Recipe(short), device=CPU)
    assert torch.equal(torch.cat([p.detach().flatten() for p in task.networks.parameters()]), weights(learner))


def test_eight_bit_adamw() -> None:
    pytest.importorskip("bitsandbytes")
    _, losses = trained(replace(LOOP, optimizer="adamw8bit"))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SfumatoError, match="pip install bitsandbytes"):
        Optimizer(Network(), replace(LOOP, optimizer="adamw8bit"), CPU)


def test_lion_by_hand() -> None:
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    lion = Lion([w], lr=0.1, betas=(0.5, 0.8), weight_decay=0.5)
    w.grad = torch.tensor([1.0, -1.0])
    lion.step()
    torch.testing.assert_close(w.detach(), torch.tensor([1.0 * 0.95 - 0.1, -2.0 * 0.95 + 0.1]))
    # The average is 0.2 g now: half of it beside half of -0.3 changes the sign, beside half of 0.1 it does not.
    before, w.grad = w.detach().clone(), torch.tensor([-0.3, 0.1])
    lion.step()
    torch.testing.assert_close(w.detach(), before * 0.95 - 0.1 * torch.tensor([-1.0, -1.0]))


def test_prodigy_follows_the_paper() -> None:
    """Algorithm 4 on one weight, in plain numbers."""
    b1, b2, d, r, s, m, v, first, x = 0.9, 0.99, 0.01, 0.0, 0.0, 0.0, 0.0, 3.0, 3.0
    w = nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    prodigy = Prodigy([w], 1.0, (b1, b2), d0=d)
    for _ in range(25):
        g = 2 * x
        w.grad = 2 * w.detach().clone()
        prodigy.step()
        b3 = math.sqrt(b2)
        m, v = b1 * m + (1 - b1) * d * g, b2 * v + (1 - b2) * d * d * g * g
        r = b3 * r + (1 - b3) * d * d * g * (first - x)
        s = b3 * s + (1 - b3) * d * d * g
        x -= d * m / (math.sqrt(v) + d * 1e-8)
        d = max(d, r / abs(s))
        assert w.item() == pytest.approx(x, abs=1e-5)
        assert prodigy.param_groups[0]["d"] == pytest.approx(d, rel=1e-5)
    assert d > 0.05


def test_muon_leaves_embeddings_and_vectors_to_adamw() -> None:
    network = nn.ModuleDict({"words": nn.Embedding(3, 4), "layer": nn.Linear(4, 4), "kernel": nn.Conv2d(2, 2, 3)})
    muon, adamw = Optimizer(network, replace(LOOP, optimizer="muon"), CPU).each
    assert [len(group["params"]) for group in muon.param_groups] == [1, 0]
    assert [len(group["params"]) for group in adamw.param_groups] == [2, 2]
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)


def test_parts_have_their_own_rates() -> None:
    loop = replace(LOOP, rates={"first": 1e-9, "layers.1": 0.01}, warmup=10)
    learner, _ = trained(loop, 1)
    rates = [group["lr"] for group in learner.optimizer.each[0].param_groups]
    assert rates == pytest.approx([0.002, 0.002, 1e-10, 1e-10, 0.001, 0.001])
    assert learner.optimizer.lr == pytest.approx(0.002)
    with pytest.raises(SfumatoError, match=r"no part that learns is called 'text'; the parts are first, layers"):
        Optimizer(Network(), replace(LOOP, rates={"text": 1e-5}), CPU)
    with pytest.raises(SfumatoError, match=r"rates.text is 0"):
        replace(LOOP, rates={"text": 0.0})


def test_another_optimizer_does_not_take_over(tmp_path: Path) -> None:
    short = replace(LOOP, steps=2)
    train(Sums(), short, tmp_path, record=Recipe(short), device=CPU)
    lion, rates = replace(LOOP, optimizer="lion"), replace(LOOP, rates={"first": 1.0})
    for other, words in ((lion, "of the optimizer adamw, the recipe asks for lion"), (rates, "other groups")):
        with pytest.raises(SfumatoError, match=words):
            train(Sums(), other, tmp_path, record=Recipe(other), device=CPU)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        ("linear", {0: 1, 30: 0.6, 60: 0.2}),
        ("polynomial", {0: 1, 30: 0.4, 60: 0.2}),  # .2 + .8 (1 / 2)^2
        ("cosine_restarts", {0: 1, 10: 0.6, 20: 1, 30: 0.6, 40: 1, 60: 0.2}),
    ],
)
def test_schedules_at_known_steps(schedule: LrSchedule, values: dict[int, float]) -> None:
    cfg = replace(LOOP, lr=1.0, lr_schedule=schedule, lr_end=0.2, cycles=3, warmup=5)
    for step, value in values.items():
        assert learning_rate(cfg, step + 5, 65) == pytest.approx(value)
    rates = [learning_rate(cfg, step, 65) for step in range(6)]
    assert all(a < b for a, b in pairwise(rates)) or rates[-1] == 1


def test_parts_of_a_batch_give_the_same_gradient_as_the_whole() -> None:
    plain = replace(LOOP, precision="fp32", steps=10)
    whole, parts = (trained(replace(plain, accumulate=count)) for count in (1, 4))
    torch.testing.assert_close(weights(whole[0]), weights(parts[0]), atol=1e-5, rtol=0)
    assert parts[1] == pytest.approx(whole[1], rel=1e-4)
    with pytest.raises(SfumatoError, match="accumulate is 3; expected a divisor of batch, 4"):
        replace(LOOP, accumulate=3)
    with pytest.raises(SfumatoError, match="x of a batch has 4 rows"):
        share({"x": torch.zeros(4, 1)}, 0, 3)
    shared = share({"x": torch.arange(4), "step": torch.tensor(7)}, 1, 2)
    assert shared["x"].tolist() == [2, 3] and shared["step"] == 7


def test_recomputed_blocks_give_the_same_gradient_bit_for_bit() -> None:
    plain, spared = (trained(replace(LOOP, checkpointing=flag, steps=3))[0] for flag in (False, True))
    assert torch.equal(weights(plain), weights(spared))
    assert plain.networks.state_dict().keys() == spared.networks.state_dict().keys()
    task = Sums()
    task.networks = nn.Linear(4, 1)
    with pytest.raises(SfumatoError, match="checkpointing finds no blocks"):
        Learner(task, replace(LOOP, checkpointing=True), CPU)


@pytest.mark.parametrize("release", ["sd1", "sd3_medium"])
def test_real_networks_keep_less_in_memory(release: str) -> None:
    spec = tiny.shrink(family(release).spec)
    torch.manual_seed(0)
    network = tiny.random_networks(family(release), spec)[family(release).denoiser].requires_grad_(True)
    x, t = torch.randn(1, spec.vae.latent_channels, 8, 8), torch.tensor([500.0])
    cfg = spec.transformer or spec.unet
    pooled = torch.randn(1, spec.transformer.pooled_dim) if spec.transformer else None
    cond = Cond(torch.randn(1, 7, cfg.context_dim), pooled)

    def gradient() -> tuple[Tensor, int]:
        kept = 0

        def note(value: Tensor) -> Tensor:
            nonlocal kept
            kept += value.numel()
            return value

        with plain_attention(CPU), torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            loss = network(x, t, cond).square().sum()
        network.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]), kept

    plain, most = gradient()
    assert recompute_blocks(network, CPU) >= 2
    spared, less = gradient()
    assert torch.equal(spared, plain)
    assert less < 0.7 * most


def test_averages_begin_late_and_move_now_and_then() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = EMA(net, 0.5, every=2, after=3)
    moved = []
    for step in range(8):
        nn.init.constant_(net.weight, step + 1.0)
        ema.update(step)
        moved.append(ema.average["weight"].item())
    # Before the third step the weights themselves; then decay min(.5, (1 + n) / (10 + n)) squared, n from 0.
    first = 2 + (1 - 0.1**2) * (4 - 2)
    second = first + (1 - (3 / 12) ** 2) * (6 - first)
    third = second + (1 - (5 / 14) ** 2) * (8 - second)
    assert moved == pytest.approx([0, 2, 2, first, first, second, second, third])


def test_without_averages_no_copies_are_kept() -> None:
    net = nn.Linear(2, 2)
    ema = EMA(net, 0.0)
    assert ema.average["weight"].data_ptr() == net.weight.data_ptr()
    before = net.weight.detach().clone()
    with ema.applied():
        assert torch.equal(net.weight, before)
    ema.load({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)})
    assert torch.equal(net.weight, before)
