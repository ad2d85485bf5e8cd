"""The two depth networks that a model may bring, told apart: MiDaS' (2.0 depth), and the embedded model's."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, takewhile

from sfumato.checkpoint.keymap import Rule, Shapes, holds, rename, width
from sfumato.families.layouts import midas
from sfumato.nets.depth_net import DepthNet
from sfumato.nets.dpt import DPT
from sfumato.spec import DepthNetConfig, DPTConfig

DepthNetwork = DPT | DepthNet


def network(cfg: DPTConfig | DepthNetConfig) -> DepthNetwork:
    return DPT(cfg) if isinstance(cfg, DPTConfig) else DepthNet(cfg)


def rules(names: Iterable[str], prefix: str) -> list[Rule]:
    """The names of a single file; ours, which no other code knows, are the network's own."""
    names = list(names)
    return rename(names, lambda name: prefix + name) if "out.weight" in names else midas.rules(names, prefix)


def sizes(shapes: Shapes, prefix: str) -> DPTConfig | DepthNetConfig:
    """Sizes from the shapes of a single file; groups and the side it looks at do not show and are the usual ones."""
    if not holds(shapes, f"{prefix}down."):
        return midas.sizes(shapes, prefix)
    widths = (width(shapes, f"{prefix}down.{i}.conv1") for i in count())
    return DepthNetConfig(channels=(width(shapes, f"{prefix}stem.conv1"), *takewhile(bool, widths)))
