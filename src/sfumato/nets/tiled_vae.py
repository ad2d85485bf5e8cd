"""The autoencoder on large pictures: tile by tile, in the memory of one tile, to the same result.

Convolutions see a margin around each tile, as wide as they reach. What ties a picture together beyond that are the
group norms, whose statistics are those of the whole map: a tile's own would leave seams. The statistics of a norm
depend on those of the norms before it, so tiles are gone through again until none of them moves; every time at least
one more norm is exact. The lowest resolution, where every place attends to every other, is seen whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.shared_weights import with_shared_weights
from sfumato.nets.tiles import Tile, tiles
from sfumato.nets.vae import VAE
from sfumato.spec import VAEConfig

SIDE = 768  # of a tile, in pixels, unless the autoencoder says otherwise
TOLERANCE = 1e-3  # of the statistics, in standard deviations; a tenth of an 8-bit step in the picture


def encode(vae: VAE, x: Tensor) -> Tensor:
    """`VAE.encode` of pictures (B, 3, H, W) whose sides are multiples of the factor."""
    factor = vae.cfg.factor
    cut = tiles(x.shape[2:], (vae.tile or SIDE) // factor * factor, encoder_halo(vae.cfg))
    coarse = torch.cat([_tiled(vae.encoder, "start", one, cut) for one in x.split(1)])
    moments = vae.encoder.finish(coarse)
    return vae.quant_conv(moments) if vae.cfg.quant_convs else moments


def decode(vae: VAE, z: Tensor) -> Tensor:
    """`VAE.decode` of unscaled latents (B, C, h, w)."""
    coarse = vae.decoder.start(vae.post_quant_conv(z) if vae.cfg.quant_convs else z)
    cut = tiles(z.shape[2:], (vae.tile or SIDE) // vae.cfg.factor, decoder_halo(vae.cfg))
    return torch.cat([_tiled(vae.decoder, "finish", one, cut) for one in coarse.split(1)])


def encoder_halo(cfg: VAEConfig) -> int:
    """Returns how many pixels around its own a result of `Encoder.start` depends on, in whole latents."""
    reach = 0
    for _ in cfg.channels[1:]:
        reach = 2 * reach + 1 + 2 * cfg.blocks  # a strided convolution and the residual blocks before it
    return -(-(reach + 1) // cfg.factor) * cfg.factor


def decoder_halo(cfg: VAEConfig) -> int:
    """Returns how many places around its own, at the lowest resolution, a result of `Decoder.finish` depends on."""
    reach = 1
    for _ in cfg.channels[1:]:
        reach = -(-(reach + 2 * (cfg.blocks + 1) + 1) // 2)  # residual blocks and the convolution after doubling
    return reach


class _Norm(nn.Module):
    """A group norm by the statistics of all tiles that were seen, each as it was last."""

    def __init__(self, norm: nn.GroupNorm):
        super().__init__()
        self.norm = norm
        self.tile: Tile | None = None
        self.seen: dict[Tile, Tensor] = {}  # area, means and variances (3, groups), float64

    def forward(self, x: Tensor) -> Tensor:
        assert self.tile is not None
        norm, own = self.norm, self.tile.inner(x).unflatten(1, (self.norm.num_groups, -1))
        var, mean = (one.double() for one in torch.var_mean(own.float(), (0, 2, 3, 4), correction=0))
        self.seen[self.tile] = torch.stack([torch.full_like(mean, own[0, 0, 0].numel()), mean, var])
        mean, var = self.statistics().float().repeat_interleave(x.shape[1] // norm.num_groups, 1)
        return F.batch_norm(x, mean, var, norm.weight.float(), norm.bias.float(), training=False, eps=norm.eps)

    def statistics(self) -> Tensor:
        """Means and variances (2, groups)."""
        areas, means, variances = torch.stack(list(self.seen.values()), 1)
        share = areas / areas.sum(0)
        mean = (share * means).sum(0)
        return torch.stack([mean, (share * (variances + (means - mean) ** 2)).sum(0)])


def _tiled(half: nn.Module, layers: str, x: Tensor, cut: Sequence[Tile]) -> Tensor:
    """Runs a method of one half of the autoencoder on x (1, C, h, w) in tiles; the result is that of the whole."""
    shared = with_shared_weights(half, lambda module: _Norm(module) if isinstance(module, nn.GroupNorm) else module)
    norms = [module for module in shared.modules() if isinstance(module, _Norm)]
    run: Callable[[Tensor], Tensor] = getattr(shared, layers)
    result: Tensor | None = None
    moved = torch.inf
    while moved > TOLERANCE:  # NaN, of maps that overflow, is not
        before = [norm.statistics() for norm in norms if norm.seen]
        for tile in cut:
            for norm in norms:
                norm.tile = tile
            y = run(tile.seen(x))
            if result is None:
                up, down = y.shape[2], tile.rows.last - tile.rows.first
                result = y.new_empty(1, y.shape[1], *(side * up // down for side in x.shape[2:]))
            tile.place(result, x.shape[2:]).copy_(tile.inner(y))
        if before:
            moved = _distance([norm.statistics() for norm in norms if norm.seen], before)
    assert result is not None
    return result


def _distance(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """The largest change of a mean, in standard deviations, or of a deviation, in parts of it."""
    changes = [
        torch.stack([(a[0] - b[0]) / a[1].sqrt(), (a[1] / b[1]).log() / 2]) for a, b in zip(some, others, strict=True)
    ]
    return torch.cat(changes, 1).abs().max().item()
