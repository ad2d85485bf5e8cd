"""The multimodal diffusion transformer of 3 and 3.5 (Esser et al. 2024, section 4 and figure 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.step_cache import Recall
from sfumato.nets.attend import attend
from sfumato.nets.layers import Linear
from sfumato.nets.unet import TimeEmbedding, sinusoidal
from sfumato.spec import MMDiTConfig

EPS = 1e-6
TIME_WIDTH = 256  # of the sinusoids of the time


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), EPS)  # autocast leaves the weight as it is


class Modulation(nn.Module):
    """A vector (B, D) -> `count` vectors (B, 1, D) that shift, scale and gate a stream."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.count = count
        self.linear = Linear(width, count * width)

    def forward(self, vector: Tensor) -> list[Tensor]:
        return list(self.linear(F.silu(vector))[:, None].chunk(self.count, -1))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without parameters of its own, then shift and scale."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS) * (1 + scale) + shift


def _head_norm(cfg: MMDiTConfig) -> nn.Module:
    return RMSNorm(cfg.hidden // cfg.heads) if cfg.qk_norm else nn.Identity()


class Attention(nn.Module):
    """Attention of the picture's tokens, and with `joint` of the text's with them, each by its own projections.

    With `identity` every token of the picture attends only to itself and the text.
    """

    identity = False

    def __init__(self, cfg: MMDiTConfig, joint: bool, last: bool = False):
        super().__init__()
        d, self.heads, self.last = cfg.hidden, cfg.heads, last
        self.to_q, self.to_k, self.to_v = (Linear(d, d) for _ in range(3))
        self.to_out = nn.ModuleList([Linear(d, d)])
        self.norm_q, self.norm_k = (_head_norm(cfg) for _ in range(2))
        if joint:
            self.add_q_proj, self.add_k_proj, self.add_v_proj = (Linear(d, d) for _ in range(3))
            self.norm_added_q, self.norm_added_k = (_head_norm(cfg) for _ in range(2))
            if not last:
                self.to_add_out = Linear(d, d)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, nh, L, hs)

    def projected(self, x: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, nh, L, hs) of the picture's tokens x (B, Lx, D), the text's after them."""
        q, k, v = (self._heads(project(x)) for project in (self.to_q, self.to_k, self.to_v))
        q, k = self.norm_q(q), self.norm_k(k)
        if text is None:
            return q, k, v
        projections = (self.add_q_proj, self.add_k_proj, self.add_v_proj)
        added_q, added_k, added_v = (self._heads(project(text)) for project in projections)
        q = torch.cat([q, self.norm_added_q(added_q)], 2)
        k = torch.cat([k, self.norm_added_k(added_k)], 2)
        return q, k, torch.cat([v, added_v], 2)

    def forward(self, x: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        q, k, v = self.projected(x, text)
        h = F.scaled_dot_product_attention(q, k, v, _blind(x.shape[1], q)) if self.identity else attend(q, k, v)
        h = h.transpose(1, 2).flatten(2)
        out = self.to_out[0](h[:, : x.shape[1]])
        return out, None if text is None or self.last else self.to_add_out(h[:, x.shape[1] :])


def _blind(picture: int, q: Tensor) -> Tensor:
    """Which of the tokens (L, L) see which where the first ones, the picture's, see none of each other."""
    length = q.shape[2]
    mask = torch.ones(length, length, dtype=torch.bool, device=q.device)
    mask[:picture, :picture] = torch.eye(picture, dtype=torch.bool, device=q.device)
    return mask


class TanhGELU(nn.Module):
    def __init__(self, cin: int, cout: int):
        super().__init__()
        self.proj = Linear(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        # The slot in the middle is the dropout of the layout that names these weights.
        self.net = nn.ModuleList([TanhGELU(width, 4 * width), nn.Identity(), Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class Block(nn.Module):
    """Two streams, picture and text, that meet in one attention; `dual` adds an attention of the picture alone."""

    def __init__(self, cfg: MMDiTConfig, dual: bool, last: bool):
        super().__init__()
        self.dual, self.last = dual, last
        self.norm1 = Modulation(cfg.hidden, 9 if dual else 6)
        self.norm1_context = Modulation(cfg.hidden, 2 if last else 6)
        self.attn = Attention(cfg, joint=True, last=last)
        if dual:
            self.attn2 = Attention(cfg, joint=False)
        self.ff = FeedForward(cfg.hidden)
        if not last:
            self.ff_context = FeedForward(cfg.hidden)

    def forward(self, x: Tensor, text: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        shift, scale, gate, shift_ff, scale_ff, gate_ff, *second = self.norm1(vector)
        shift_text, scale_text, *rest = self.norm1_context(vector)
        if self.last:  # the folder layout has these two in the other order
            shift_text, scale_text = scale_text, shift_text
        h, h_text = self.attn(modulated(x, shift, scale), modulated(text, shift_text, scale_text))
        if self.dual:
            shift2, scale2, gate2 = second
            h2, _ = self.attn2(modulated(x, shift2, scale2))
            x = x + gate2 * h2
        x = x + gate * h
        x = x + gate_ff * self.ff(modulated(x, shift_ff, scale_ff))
        if self.last:
            return x, text
        gate_text, shift_ff, scale_ff, gate_ff = rest
        text = text + gate_text * h_text
        return x, text + gate_ff * self.ff_context(modulated(text, shift_ff, scale_ff))


class SingleBlock(nn.Module):
    """One stream, the picture's, in some of the ControlNets."""

    def __init__(self, cfg: MMDiTConfig):
        super().__init__()
        self.norm1 = Modulation(cfg.hidden, 6)
        self.attn = Attention(cfg, joint=False)
        self.ff = FeedForward(cfg.hidden)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.norm1(vector)
        h, _ = self.attn(modulated(x, shift, scale))
        x = x + gate * h
        return x + gate_ff * self.ff(modulated(x, shift_ff, scale_ff))


class Patches(nn.Module):
    """Latents (B, C, h, w) -> tokens (B, hw/p^2, D), with the positions of the middle of a square table added."""

    def __init__(self, cfg: MMDiTConfig):
        super().__init__()
        self.side, self.seen, self.patch = cfg.positions, cfg.seen or cfg.positions, cfg.patch
        self.proj = nn.Conv2d(cfg.in_channels, cfg.hidden, cfg.patch, stride=cfg.patch)
        self.register_buffer("pos_embed", torch.zeros(1, cfg.positions**2, cfg.hidden))

    def positions(self, height: int, width: int) -> Tensor:
        """Returns (1, height * width, D): the middle of the table, or of its part that training showed.

        A side longer than that part stretches it, linearly from the first place to the last: places that training never
        showed would be drawn as patterns in the ground. Raises ValueError for more patches than the table has.
        """
        if max(height, width) > self.side:
            raise ValueError(f"the picture has {height} x {width} patches; this model knows {self.side} along a side")
        rows, columns = min(height, self.seen), min(width, self.seen)
        top, left = (self.side - rows) // 2, (self.side - columns) // 2
        table = self.get_buffer("pos_embed").unflatten(1, (self.side, self.side))
        middle = table[:, top : top + rows, left : left + columns]
        if (rows, columns) == (height, width):
            return middle.flatten(1, 2)
        stretched = F.interpolate(middle.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=True)
        return stretched.flatten(2).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        return x.flatten(2).transpose(1, 2) + self.positions(*x.shape[2:]).to(x.dtype)


class TimeText(nn.Module):
    def __init__(self, cfg: MMDiTConfig):
        super().__init__()
        self.timestep_embedder = TimeEmbedding(TIME_WIDTH, cfg.hidden)
        self.text_embedder = TimeEmbedding(cfg.pooled_dim, cfg.hidden)

    def forward(self, t: Tensor, pooled: Tensor) -> Tensor:
        return self.timestep_embedder(sinusoidal(t, TIME_WIDTH).to(pooled.dtype)) + self.text_embedder(pooled)


class MMDiT(nn.Module):
    """x (B, C, h, w), t (B,) = 1000 sigma, cond with pooled text -> (B, C, h, w).

    `control` are token residuals (B, hw/p^2, D) of a ControlNet with as many blocks or fewer: each is added to the
    picture's tokens after the blocks of its share of the depth, the last block excepted. `cond.concat` joins x along
    the channels, where `out_channels` says that there is some. With `recall` the blocks after the first are left out
    where they may be (see `diffusion.step_cache`): the picture's tokens change as they did before. Raises ValueError
    without pooled text.
    """

    def __init__(self, cfg: MMDiTConfig):
        super().__init__()
        self.cfg = cfg
        self.pos_embed = Patches(cfg)
        self.time_text_embed = TimeText(cfg)
        self.context_embedder = Linear(cfg.context_dim, cfg.hidden)
        self.transformer_blocks = nn.ModuleList(
            Block(cfg, dual=i in cfg.dual, last=i == cfg.depth - 1) for i in range(cfg.depth)
        )
        self.norm_out = Modulation(cfg.hidden, 2)
        self.proj_out = Linear(cfg.hidden, cfg.patch**2 * (cfg.out_channels or cfg.in_channels))

    def forward(
        self, x: Tensor, t: Tensor, cond: Cond, control: tuple[Tensor, ...] = (), recall: Recall | None = None
    ) -> Tensor:
        if cond.pooled is None:
            raise ValueError("this transformer is conditioned on pooled text; the conditioning has none")
        p, (h, w) = self.cfg.patch, x.shape[2:]
        if cond.concat is not None:
            x = torch.cat([x, cond.concat], 1)
        vector = self.time_text_embed(t, cond.pooled)
        tokens, text = self.pos_embed(x), self.context_embedder(cond.tokens)
        if recall is None:
            tokens, _ = self._through(slice(None), tokens, text, vector, control)
        else:
            before = tokens
            tokens, text = self._through(slice(0, 1), tokens, text, vector, control)
            tokens = tokens + recall.inner(tokens - before, self._change, tokens, text, vector, control)
        scale, shift = self.norm_out(vector)
        tokens = self.proj_out(modulated(tokens, shift, scale))  # (B, hw/p^2, p p C)
        patches = tokens.unflatten(2, (p, p, -1)).unflatten(1, (h // p, w // p))
        return torch.einsum("bhwpqc->bchpwq", patches).flatten(4, 5).flatten(2, 3)

    def _through(
        self, blocks: slice, tokens: Tensor, text: Tensor, vector: Tensor, control: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """The tokens of the picture and of the text after some of the blocks."""
        for i, block in list(enumerate(self.transformer_blocks))[blocks]:
            tokens, text = block(tokens, text, vector)
            if control and not block.last:
                tokens = tokens + control[i * len(control) // len(self.transformer_blocks)]
        return tokens, text

    def _change(self, tokens: Tensor, text: Tensor, vector: Tensor, control: tuple[Tensor, ...]) -> Tensor:
        """What the blocks after the first add to the picture's tokens."""
        return self._through(slice(1, None), tokens, text, vector, control)[0] - tokens
