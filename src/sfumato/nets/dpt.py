"""DPT-hybrid, which sees depth in one picture (Ranftl et al. 2021, section 3; MiDaS' dpt_hybrid).

A ResNet with standardised weights makes a map of 1/16 of the picture's side, a vision transformer works on that, and
four of their outputs are fused from coarse to fine.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Conv2d, Linear
from sfumato.spec import DPTConfig

MULTIPLE = 32  # of the picture's sides
HEAD = 32  # channels from which depth is read


class StandardisedConv(nn.Conv2d):
    """A convolution whose filters are brought to mean 0 and variance 1 (Qiao et al. 2019).

    It halves even sides with the odd row and column of padding at the end, as TensorFlow does.
    """

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1):
        super().__init__(cin, cout, kernel, stride, bias=False)
        before, after = (kernel - stride) // 2, (kernel - stride + 1) // 2
        self.margin = (max(before, 0), max(after, 0)) * 2

    def forward(self, x: Tensor) -> Tensor:
        filters = self.weight.float()  # the smallest variances vanish in half precision
        variance, mean = torch.var_mean(filters, (1, 2, 3), correction=0, keepdim=True)
        filters = ((filters - mean) * (variance + 1e-8).rsqrt()).to(x.dtype)
        return F.conv2d(F.pad(x, self.margin), filters, None, self.stride)


class Shortcut(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, groups: int):
        super().__init__()
        self.conv = StandardisedConv(cin, cout, 1, stride)
        self.norm = nn.GroupNorm(groups, cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Bottleneck(nn.Module):
    """Three convolutions, the middle one on a quarter of the channels, with a residual."""

    def __init__(self, cin: int, cout: int, stride: int, groups: int, first: bool):
        super().__init__()
        width = cout // 4
        if first:
            self.downsample = Shortcut(cin, cout, stride, groups)
        self.first = first
        self.conv1 = StandardisedConv(cin, width, 1)
        self.norm1 = nn.GroupNorm(groups, width)
        self.conv2 = StandardisedConv(width, width, 3, stride)
        self.norm2 = nn.GroupNorm(groups, width)
        self.conv3 = StandardisedConv(width, cout, 1)
        self.norm3 = nn.GroupNorm(groups, cout)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        h = F.relu(self.norm2(self.conv2(h)))
        h = self.norm3(self.conv3(h))
        return F.relu(h + (self.downsample(x) if self.first else x))


class Stem(nn.Module):
    """A quarter of the sides."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.convolution = StandardisedConv(3, channels, 7, stride=2)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.convolution(x)))
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, stride=2)  # zeros change nothing after a ReLU


class Stage(nn.Module):
    def __init__(self, cin: int, cout: int, depth: int, stride: int, groups: int):
        super().__init__()
        self.layers = nn.Sequential(
            *(Bottleneck(cin if i == 0 else cout, cout, stride if i == 0 else 1, groups, i == 0) for i in range(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResNet(nn.Module):
    """Pictures (B, 3, H, W) -> the outputs of every stage, of 1/4, 1/8 and 1/16 of the sides."""

    def __init__(self, cfg: DPTConfig):
        super().__init__()
        widths = (cfg.stem, *cfg.stages)
        self.embedder = Stem(cfg.stem, cfg.groups)
        stages = (
            Stage(widths[i], widths[i + 1], depth, 1 if i == 0 else 2, cfg.groups) for i, depth in enumerate(cfg.depths)
        )
        self.encoder = nn.ModuleDict({"stages": nn.ModuleList(stages)})

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.embedder(x)]
        for stage in self.encoder["stages"].children():
            maps.append(stage(maps[-1]))
        return maps[1:]


class Embeddings(nn.Module):
    """Pictures -> the maps of the ResNet, and tokens (B, 1 + hw, D): one that reads the whole, then the positions."""

    def __init__(self, cfg: DPTConfig):
        super().__init__()
        self.side = cfg.positions
        self.backbone = nn.ModuleDict({"bit": ResNet(cfg)})
        self.projection = Conv2d(cfg.stages[-1], cfg.hidden, 1)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, cfg.hidden))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.side**2, cfg.hidden))

    def positions(self, height: int, width: int) -> Tensor:
        """(1, 1 + height * width, D): the table of positions, stretched to another shape."""
        whole, table = self.position_embeddings.split((1, self.side**2), 1)
        table = table.transpose(1, 2).unflatten(2, (self.side, self.side))
        table = F.interpolate(table, (height, width), mode="bilinear")
        return torch.cat([whole, table.flatten(2).transpose(1, 2)], 1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = self.backbone["bit"](x)
        x = self.projection(maps[-1])
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        return maps, tokens + self.positions(*x.shape[2:])


def _dense(cin: int, cout: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": Linear(cin, cout)})


class SelfAttention(nn.Module):
    def __init__(self, cfg: DPTConfig):
        super().__init__()
        self.heads = cfg.heads
        self.attention = nn.ModuleDict({name: Linear(cfg.hidden, cfg.hidden) for name in ("query", "key", "value")})
        self.output = _dense(cfg.hidden, cfg.hidden)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, nh, L, hs)
            for project in self.attention.values()
        )
        h = F.scaled_dot_product_attention(q, k, v)
        return self.output["dense"](h.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, cfg: DPTConfig):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(cfg.hidden, eps=cfg.norm_eps)
        self.attention = SelfAttention(cfg)
        self.layernorm_after = nn.LayerNorm(cfg.hidden, eps=cfg.norm_eps)
        self.intermediate = _dense(cfg.hidden, cfg.intermediate)
        self.output = _dense(cfg.intermediate, cfg.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        return x + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x))))


class VisionTransformer(nn.Module):
    """Pictures (B, 3, H, W) -> the two finer maps of the ResNet, and the tokens that are read after two layers."""

    def __init__(self, cfg: DPTConfig):
        super().__init__()
        self.reads = cfg.reads
        self.embeddings = Embeddings(cfg)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(cfg) for _ in range(cfg.layers))})
        self.layernorm = nn.LayerNorm(cfg.hidden, eps=cfg.norm_eps)  # every file holds it, depth is read before it

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        maps, x = self.embeddings(x)
        states = []
        for layer in self.encoder["layer"].children():
            x = layer(x)
            states.append(x)
        return maps[:2], [states[i] for i in self.reads]


class Reassemble(nn.Module):
    """A map (B, D, h, w) to the channels of its place in the fusion, and at half the sides where that is coarser."""

    def __init__(self, cin: int, cout: int, halve: bool):
        super().__init__()
        self.projection = Conv2d(cin, cout, 1)
        self.resize = Conv2d(cout, cout, 3, stride=2) if halve else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.resize(self.projection(x))


class ReassembleStage(nn.Module):
    """Tokens back to maps, each position told what the token of the whole has read; the ResNet's maps are theirs."""

    def __init__(self, cfg: DPTConfig):
        super().__init__()
        middle, coarse = cfg.neck[2:]
        d = cfg.hidden
        self.readout_projects = nn.ModuleList(
            [nn.Identity(), nn.Identity(), *(nn.Sequential(Linear(2 * d, d), nn.GELU()) for _ in range(2))]
        )
        self.layers = nn.ModuleList(
            [nn.Identity(), nn.Identity(), Reassemble(d, middle, halve=False), Reassemble(d, coarse, halve=True)]
        )

    def forward(self, states: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        result = []
        for tokens, readout, layer in zip(states, self.readout_projects[2:], self.layers[2:], strict=True):
            whole, positions = tokens.split((1, tokens.shape[1] - 1), 1)
            h = readout(torch.cat([positions, whole.expand_as(positions)], -1))
            result.append(layer(h.transpose(1, 2).unflatten(2, size)))
        return result


class ResidualUnit(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.convolution1, self.convolution2 = (Conv2d(channels, channels, 3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convolution2(F.relu(self.convolution1(F.relu(x))))


class Fusion(nn.Module):
    """Adds a finer map to the coarser ones and doubles the sides; the first of all has nothing to add."""

    def __init__(self, channels: int):
        super().__init__()
        self.residual_layer1, self.residual_layer2 = (ResidualUnit(channels) for _ in range(2))
        self.projection = Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, finer: Tensor | None) -> Tensor:
        if finer is not None:
            x = x + self.residual_layer1(finer)
        x = F.interpolate(self.residual_layer2(x), scale_factor=2, mode="bilinear", align_corners=True)
        return self.projection(x)


class Neck(nn.Module):
    """The ResNet's maps and the transformer's tokens -> one map (B, C, H/2, W/2)."""

    def __init__(self, cfg: DPTConfig):
        super().__init__()
        self.reassemble_stage = ReassembleStage(cfg)
        self.convs = nn.ModuleList(nn.Conv2d(width, cfg.fusion, 3, padding=1, bias=False) for width in cfg.neck)
        self.fusion_stage = nn.ModuleDict({"layers": nn.ModuleList(Fusion(cfg.fusion) for _ in cfg.neck)})

    def forward(self, maps: list[Tensor], states: list[Tensor]) -> Tensor:
        height, width = (side // 2 for side in maps[-1].shape[2:])
        maps = [*maps, *self.reassemble_stage(states, (height, width))]
        *finer, x = (conv(each) for conv, each in zip(self.convs, maps, strict=True))
        for fusion, residual in zip(self.fusion_stage["layers"].children(), [None, *reversed(finer)], strict=True):
            x = fusion(x, residual)
        return x


class DPT(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1], sides multiples of 32 -> inverse depth (B, H, W), 0 for the far, of any scale.

    `side` is that of the pictures it was trained on. The names of its parameters are those of transformers'
    DPTForDepthEstimation. Raises ValueError for other sides.
    """

    def __init__(self, cfg: DPTConfig):
        super().__init__()
        self.cfg = cfg
        self.side, self.multiple = 16 * cfg.positions, MULTIPLE
        self.dpt = VisionTransformer(cfg)
        self.neck = Neck(cfg)
        half = cfg.fusion // 2
        self.head = nn.ModuleDict(
            {
                "head": nn.Sequential(
                    Conv2d(cfg.fusion, half, 3),
                    nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                    Conv2d(half, HEAD, 3),
                    nn.ReLU(),
                    Conv2d(HEAD, 1, 1),
                    nn.ReLU(),
                )
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        if any(side % MULTIPLE for side in x.shape[2:]):
            raise ValueError(f"the picture is {x.shape[3]}x{x.shape[2]}; its sides must be multiples of {MULTIPLE}")
        return self.head["head"](self.neck(*self.dpt(x))).squeeze(1)
