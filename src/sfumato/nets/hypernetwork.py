"""Small networks before the keys and values of attentions, as AUTOMATIC1111's web UI trains them.

Every attention looks at c: the text, or its own input. With a hypernetwork of that width its keys are of c + s h(c),
its values of c + s h'(c), for a strength s; queries stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.unet import Attention, UNet
from sfumato.spec import UNetConfig

# By the names in files. "swish" is what the web UI calls so; the others are torch's classes in lower case.
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "swish": nn.Hardswish,
    **{kind.__name__.lower(): kind for kind in (
        nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU,
        nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.RReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus, nn.Softshrink,
        nn.Softsign, nn.Tanh, nn.Tanhshrink,
    )},
}  # fmt: skip


class Hypernetwork(nn.Module):
    """For some widths of c two stacks of layers: `keys` and `values` by the width, each c (B, L, D) -> (B, L, D)."""

    def __init__(self, keys: Mapping[int, nn.Module], values: Mapping[int, nn.Module]):
        super().__init__()
        self.keys = nn.ModuleDict({str(width): layers for width, layers in keys.items()})
        self.values = nn.ModuleDict({str(width): layers for width, layers in values.items()})

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(sorted(map(int, self.keys)))


class Preceded(nn.Module):
    """A linear layer, and what changes its input first: networks of its width with their strengths, in turn."""

    def __init__(self, linear: nn.Module, before: Sequence[tuple[nn.Module, float]]):
        super().__init__()
        self.linear = linear
        self.before = nn.ModuleList(layers for layers, _ in before)
        self.strengths = [strength for _, strength in before]

    def forward(self, c: Tensor) -> Tensor:
        for layers, strength in zip(self.before, self.strengths, strict=True):
            c = c + strength * layers(c)
        return self.linear(c)


def attention_widths(cfg: UNetConfig) -> frozenset[int]:
    """The widths of all that the attentions of a U-Net look at, at which a hypernetwork may act."""
    widths = {width for level, width in enumerate(cfg.channels) if cfg.depth[level] or any(cfg.up_depths(level))}
    if cfg.middle_blocks == 2:
        widths.add(cfg.channels[-1])
    return frozenset(widths | {cfg.context_dim})


def with_hypernetworks(network: UNet, several: Sequence[tuple[Hypernetwork, float]]) -> UNet:
    """The network, on its own weights, with hypernetworks at their strengths before all attentions, in turn."""

    def preceded(module: nn.Module) -> nn.Module:
        if isinstance(module, Attention):
            width = str(module.to_k.in_features)
            here = [(one, strength) for one, strength in several if width in one.keys]
            for name, stacks in (("to_k", "keys"), ("to_v", "values")) if here else ():
                before = [(getattr(one, stacks)[width], strength) for one, strength in here]
                setattr(module, name, Preceded(getattr(module, name), before))
        return module

    return with_shared_weights(network, preceded)
