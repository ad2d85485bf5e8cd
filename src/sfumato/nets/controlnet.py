"""Networks that read a hint, a picture of edges, depth or the like, and steer the network that draws.

ControlNet (Zhang et al. 2023) for U-Nets and for the transformer of 3 and 3.5, ControlNet-Union, T2I-Adapter (Mou et
al. 2023). Each has `prepare`, which makes of a hint what all steps share, with the hint's rows first, so that a hint is
read once a picture; those that are asked at every step are called with it.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.nets.layers import Linear
from sfumato.nets.mmdit import Block, Patches, SingleBlock, TimeText
from sfumato.nets.unet import TimeEmbedding, UNetEncoder, sinusoidal
from sfumato.spec import ID_WIDTH, ControlNetConfig, MMDiTConfig, MMDiTControlConfig, T2IAdapterConfig

Prepared = tuple[Tensor, ...]


class HintEmbedding(nn.Module):
    """A hint (B, 3, 8 h, 8 w) in [0, 1] -> (B, C, h, w)."""

    def __init__(self, hint: tuple[int, ...], channels: int):
        super().__init__()
        first, *widths = hint
        self.conv_in = nn.Conv2d(first, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for cin, cout in pairwise(widths):
            self.blocks.append(nn.Conv2d(cin, cin, 3, padding=1))
            self.blocks.append(nn.Conv2d(cin, cout, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv_in(x))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class KindLayer(nn.Module):
    """A transformer's layer in which each token attends to itself alone, so that there are no scores to compute.

    The original lets the rows of a batch attend to each other. There the hints of a batch are equal, and so it is
    this; here pictures must not depend on what else is drawn.
    """

    def __init__(self, width: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, 1)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": Linear(width, 4 * width), "c_proj": Linear(4 * width, width)})
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        _, _, weight = self.attn.in_proj_weight.chunk(3)
        _, _, bias = self.attn.in_proj_bias.chunk(3)
        x = x + self.attn.out_proj(F.linear(self.ln_1(x), weight, bias))
        h = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](h * torch.sigmoid(1.702 * h))


class ControlNet(UNetEncoder):
    """x (B, C, h, w), t (B,), cond and what `prepare` returns -> a residual for each skip connection and the middle."""

    def __init__(self, cfg: ControlNetConfig):
        super().__init__(cfg.unet)
        self.control = cfg
        width = cfg.unet.channels[0]
        self.controlnet_cond_embedding = HintEmbedding(cfg.hint, width)
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(channels, channels, 1) for channels in self.skips)
        self.controlnet_mid_block = nn.Conv2d(cfg.unet.channels[-1], cfg.unet.channels[-1], 1)
        if cfg.kinds:
            self.task_embedding = nn.Parameter(torch.zeros(cfg.kinds, cfg.kind_width))
            self.transformer_layes = nn.ModuleList(KindLayer(cfg.kind_width) for _ in range(cfg.kind_layers))
            self.spatial_ch_projs = Linear(cfg.kind_width, width)
            self.control_add_embedding = TimeEmbedding(ID_WIDTH * cfg.kinds, 4 * width)

    @property
    def parts(self) -> int:
        """How many tensors `prepare` returns."""
        return 2 if self.control.kinds else 1

    @property
    def residuals(self) -> int:
        """How many maps it returns."""
        return len(self.skips) + 1

    def prepare(self, hint: Tensor, kind: int | None = None) -> Prepared:
        """A hint (B, 3, 8 h, 8 w) in [0, 1] -> the map that joins the latents'; of a Union besides what its kind adds
        to the time (B, 4 C). `kind` is the number of a Union's kind of hint.
        """
        hint = self.controlnet_cond_embedding(hint)
        if not self.control.kinds:
            return (hint,)
        token = hint.mean((2, 3)) + self.task_embedding[kind]
        for layer in self.transformer_layes:
            token = layer(token)
        hint = hint + self.spatial_ch_projs(token)[:, :, None, None]
        kinds = torch.zeros(len(hint), self.control.kinds, device=hint.device)
        kinds[:, kind] = 1
        numbers = sinusoidal(kinds.flatten(), ID_WIDTH).reshape(len(hint), -1).to(hint.dtype)
        return hint, self.control_add_embedding(numbers)

    def forward(self, x: Tensor, t: Tensor, cond: Cond, prepared: Prepared) -> tuple[Tensor, ...]:
        hint, *kind = prepared
        embedding = self.embedding(t, cond, x.dtype)
        for one in kind:
            embedding = embedding + one
        if cond.concat is not None and self.cfg.in_channels > x.shape[1]:
            x = torch.cat([x, cond.concat], 1)
        skips, middle = self.encode(self.conv_in(x) + hint, embedding, cond.tokens)
        convs = [*self.controlnet_down_blocks, self.controlnet_mid_block]
        maps = [conv(one) for conv, one in zip(convs, [*skips, middle], strict=True)]
        return tuple(one.mean((2, 3), keepdim=True) for one in maps) if self.control.pooled else tuple(maps)


class MMDiTControlNet(nn.Module):
    """x (B, C, h, w), t (B,), cond and what `prepare` returns -> residuals (B, hw/p^2, D) for the picture's tokens."""

    def __init__(self, cfg: MMDiTControlConfig):
        super().__init__()
        self.control, own = cfg, cfg.transformer
        if cfg.own_patches:
            self.pos_embed = Patches(own) if cfg.positions else PatchProjection(own, own.in_channels)
        self.time_text_embed = TimeText(own)
        if cfg.joint:
            self.context_embedder = Linear(own.context_dim, own.hidden)
        self.transformer_blocks = nn.ModuleList(
            Block(own, dual=i in own.dual, last=False) if cfg.joint else SingleBlock(own) for i in range(own.depth)
        )
        self.controlnet_blocks = nn.ModuleList(Linear(own.hidden, cfg.width) for _ in range(own.depth))
        self.pos_embed_input = PatchProjection(own, cfg.hint_channels)

    parts = 1

    @property
    def residuals(self) -> int:
        """How many residuals it returns."""
        return len(self.controlnet_blocks)

    def prepare(self, hint: Tensor, kind: int | None = None) -> Prepared:
        """A hint's latents (B, Ci, h, w) -> the map of what joins the tokens (B, D, h/p, w/p)."""
        return (self.pos_embed_input.proj(hint),)

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond, prepared: Prepared, patches: nn.Module, pooling: nn.Module
    ) -> tuple[Tensor, ...]:
        """`patches` and `pooling` are the controlled transformer's, for networks without their own."""
        if cond.pooled is None:
            raise ValueError("this ControlNet is conditioned on pooled text; the conditioning has none")
        (hint,) = prepared
        sees_beside = not self.control.own_patches or self.control.transformer.in_channels > x.shape[1]
        if cond.concat is not None and sees_beside:
            x = torch.cat([x, cond.concat], 1)
        pooled = torch.zeros_like(cond.pooled) if self.control.zero_pooled else cond.pooled
        vector = self.time_text_embed(t, pooled if self.control.own_pooled else pooling(pooled))
        tokens = (self.pos_embed if self.control.own_patches else patches)(x) + hint.flatten(2).transpose(1, 2)
        text = self.context_embedder(cond.tokens) if self.control.joint else None
        residuals = []
        for block, out in zip(self.transformer_blocks, self.controlnet_blocks, strict=True):
            made, text = (block(tokens, vector), None) if text is None else block(tokens, text, vector)
            residuals.append(out(made))
            tokens = made if self.control.chained else tokens
        return tuple(residuals)


class PatchProjection(nn.Module):
    """Latents (B, C, h, w) -> tokens (B, hw/p^2, D), which do not know where they are."""

    def __init__(self, cfg: MMDiTConfig, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, cfg.hidden, cfg.patch, stride=cfg.patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class AdapterBlock(nn.Module):
    """Two convolutions with a rectifier between them, and a shortcut."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.block1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.block2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block2(F.relu(self.block1(x)))


class AdapterLevel(nn.Module):
    """The blocks of one map, of the `inner` channels, with 1x1 convolutions where the channels change."""

    def __init__(self, cin: int, inner: int, cout: int, blocks: int, kernel: int, halves: bool, changes: bool):
        super().__init__()
        self.halves = halves
        self.in_conv = nn.Conv2d(cin, inner, 1) if changes else None
        self.resnets = nn.ModuleList(AdapterBlock(inner, kernel) for _ in range(blocks))
        self.out_conv = nn.Conv2d(inner, cout, 1) if inner != cout else None

    def forward(self, x: Tensor) -> Tensor:
        if self.halves:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        x = x if self.in_conv is None else self.in_conv(x)
        for block in self.resnets:
            x = block(x)
        return x if self.out_conv is None else self.out_conv(x)


class T2IAdapter(nn.Module):
    """A hint (B, 3, H, W) in [0, 1] -> a map for each level of the U-Net, the same at every step."""

    def __init__(self, cfg: T2IAdapterConfig):
        super().__init__()
        self.control = cfg
        cin = cfg.hint_channels * cfg.unshuffle**2
        if not cfg.light:
            self.conv_in = nn.Conv2d(cin, cfg.channels[0], 3, padding=1)
            cin = cfg.channels[0]
        self.body = nn.ModuleList()
        for cout, halves in zip(cfg.channels, cfg.halves, strict=True):
            inner, kernel = (cout // 4, 3) if cfg.light else (cout, 1)
            changes = cfg.light or cin != cout
            self.body.append(AdapterLevel(cin, inner, cout, cfg.blocks, kernel, halves, changes))
            cin = cout

    @property
    def residuals(self) -> int:
        """How many maps it makes."""
        return len(self.body)

    parts = residuals

    def prepare(self, hint: Tensor, kind: int | None = None) -> Prepared:
        """A hint (B, Ci, H, W) in [0, 1], of which one with a single channel takes the mean -> a map a level."""
        if self.control.hint_channels == 1:
            hint = hint.mean(1, keepdim=True)
        x = F.pixel_unshuffle(hint, self.control.unshuffle)
        if not self.control.light:
            x = self.conv_in(x)
        maps = []
        for level in self.body:
            x = level(x)
            maps.append(x)
        return tuple(maps)
