"""The rules by which gradients change weights, and which weights they change how fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.errors import SfumatoError
from sfumato.train.config import LoopConfig, OptimizerName
from sfumato.train.lion import Lion
from sfumato.train.prodigy import Prodigy
from sfumato.train.rates import learning_rate

Group = dict[str, Any]
Part = tuple[float | None, list[nn.Parameter]]
"""A rate, or None for the recipe's `lr`, and the parameters that have it."""


class Optimizer:
    """The optimizers of a run, usually one, behind one door; each part of the networks has its own rate.

    `rates` of the recipe names parts by the beginning of their parameters' names: "text" is every parameter of
    `networks.text`. Weight decay applies to matrices and kernels only. Raises SfumatoError for a part that is not
    there, and for a package that is missing.
    """

    def __init__(self, networks: nn.Module, cfg: LoopConfig, device: torch.device):
        self.cfg = cfg
        self.each: list[torch.optim.Optimizer] = []
        self._peaks: list[list[float]] = []
        named = [(name, p) for name, p in networks.named_parameters() if p.requires_grad]
        parts = _parts(named, cfg.rates)
        for make, belongs in _makers(cfg, device, networks):
            groups, peaks = _groups([(rate, list(filter(belongs, part))) for rate, part in parts], cfg)
            if any(group["params"] for group in groups):
                self.each.append(make(groups))
                self._peaks.append(peaks)

    def set_rates(self, step: int) -> None:
        """Sets the learning rates of step number `step`, from 0."""
        for optimizer, peaks in zip(self.each, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = learning_rate(self.cfg, step, self.cfg.steps, peak)

    @property
    def lr(self) -> float:
        """The learning rate of the parts that have none of their own, as it was set last."""
        return float(self.each[0].param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for optimizer in self.each:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all."""
        return {"kind": self.cfg.optimizer, "each": [optimizer.state_dict() for optimizer in self.each]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` returned. Raises SfumatoError if it is of another optimizer or other parts."""
        kind = state.get("kind", "adamw")  # earlier versions knew no other
        advice = "continue with the recipe that the run was started with, or choose another run folder"
        if kind != self.cfg.optimizer:
            raise SfumatoError(
                f"the checkpoint is of the optimizer {kind}, the recipe asks for {self.cfg.optimizer}; {advice}"
            )
        try:
            for optimizer, one in zip(self.each, state.get("each", [state]), strict=True):
                optimizer.load_state_dict(one)
        except ValueError as error:
            raise SfumatoError(f"the checkpoint has other groups of parameters ({error}); {advice}") from error


def _parts(named: Sequence[tuple[str, nn.Parameter]], rates: Mapping[str, float]) -> list[Part]:
    """The parameters without a rate of their own, then those of each part with its rate."""
    parts: dict[str | None, list[nn.Parameter]] = {key: [] for key in (None, *rates)}
    for name, p in named:
        fitting = [key for key in rates if f"{name}.".startswith(f"{key}.")]
        parts[max(fitting, key=len, default=None)].append(p)
    for key in rates:
        if not parts[key]:
            names = ", ".join(sorted({name.split(".")[0] for name, _ in named}))
            raise SfumatoError(f"rates: no part that learns is called {key!r}; the parts are {names}")
    return [(None if key is None else rates[key], part) for key, part in parts.items()]


def _groups(parts: Sequence[Part], cfg: LoopConfig) -> tuple[list[Group], list[float]]:
    """Two groups of each part, matrices and the rest, and the highest rate of each group."""
    groups: list[Group] = []
    peaks: list[float] = []
    for rate, part in parts:
        groups += [
            {"params": [p for p in part if p.dim() >= 2], "weight_decay": cfg.weight_decay},
            {"params": [p for p in part if p.dim() < 2], "weight_decay": 0.0},
        ]
        peaks += [cfg.lr if rate is None else rate] * 2
    return groups, peaks


Maker = Callable[[list[Group]], torch.optim.Optimizer]


def _makers(cfg: LoopConfig, device: torch.device, networks: nn.Module) -> list[tuple[Maker, Callable[[Tensor], bool]]]:
    """The optimizers to make of groups, and which parameters each of them changes."""
    if cfg.optimizer != "muon":
        return [(lambda groups: MAKERS[cfg.optimizer](groups, cfg, device), lambda p: True)]
    embeddings = {id(module.weight) for module in networks.modules() if isinstance(module, nn.Embedding)}
    return [
        (lambda groups: _muon(groups, cfg), lambda p: p.dim() == 2 and id(p) not in embeddings),
        (lambda groups: _adamw(groups, cfg, device), lambda p: p.dim() != 2 or id(p) in embeddings),
    ]


def _adamw(groups: list[Group], cfg: LoopConfig, device: torch.device) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""
    fused = device.type in ("cuda", "cpu")
    return torch.optim.AdamW(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2), fused=fused)


def _adamw8bit(groups: list[Group], cfg: LoopConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW whose averages are kept in 8 bits (Dettmers et al. 2022)."""
    try:
        package = importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise SfumatoError(
            "optimizer 'adamw8bit' needs the package bitsandbytes; install it (pip install bitsandbytes), or choose "
            "adamw or adafactor"
        ) from error
    made: torch.optim.Optimizer = package.optim.AdamW8bit(groups, lr=cfg.lr, betas=(cfg.beta1, cfg.beta2))
    return made


def _lion(groups: list[Group], cfg: LoopConfig, device: torch.device) -> torch.optim.Optimizer:
    return Lion(groups, cfg.lr, (cfg.beta1, cfg.beta2))


def _prodigy(groups: list[Group], cfg: LoopConfig, device: torch.device) -> torch.optim.Optimizer:
    return Prodigy(groups, cfg.lr, (cfg.beta1, cfg.beta2))


def _adafactor(groups: list[Group], cfg: LoopConfig, device: torch.device) -> torch.optim.Optimizer:
    """Adam whose second average is kept as a product of rows and columns (Shazeer & Stern 2018)."""
    return torch.optim.Adafactor(groups, lr=cfg.lr)


def _muon(groups: list[Group], cfg: LoopConfig) -> torch.optim.Optimizer:
    """Steps along the nearest orthogonal matrix of an average gradient (Jordan et al. 2024), as large as AdamW's."""
    return torch.optim.Muon(groups, lr=cfg.lr, weight_decay=cfg.weight_decay, adjust_lr_fn="match_rms_adamw")


MAKERS: dict[OptimizerName, Callable[[list[Group], LoopConfig, torch.device], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "lion": _lion,
    "prodigy": _prodigy,
    "adafactor": _adafactor,
}
