"""From the things of a picture to what a denoiser is conditioned on: a token a thing, a vector, and a draft.

The draft is a picture in latents that lies beside the noisy ones, as a low-resolution picture does in a cascade (Ho et
al. 2021) or a depth map in Stable Diffusion 2's depth model. It is a collage. Each thing's code spells out the latents
of its picture on a green ground (codes are coefficients on a basis, as eigenfaces are). The decoder makes pixels of
them, a small network cuts the thing out, and it is tinted, scaled, mirrored, turned and laid on the ground of the
picture. The encoder makes latents of the whole. So things lie where they should to the pixel, and the denoiser has to
make one picture of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.nets.cutter import Cutter
from sfumato.nets.layers import Linear
from sfumato.nets.packed import unpacked
from sfumato.nets.recolour import tinted
from sfumato.spec import PriorConfig

OUTLINE = 0.92  # the longer edge of a thing in the picture that its code is made of
MARGIN = 1  # latents around those that a thing touches, which still know of it
WAVES = 4  # octaves in which places are said
BASIS_LEVELS = 15  # of a number in the basis of details
DETAIL_LEVELS = (15, 5, 3)  # of the details, the largest ones first


class Autoencoding(NamedTuple):
    """The two ways of an autoencoder: `encode` makes latents (N, C, h, w), in the denoiser's units, of pictures (N, 3,
    H, W) in [-1, 1], and `decode` pictures of latents. A latent's edge is `factor` pixels."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    factor: int


@dataclass(frozen=True, eq=False)
class Things:
    """Describes B pictures of up to M things each.

    `codes` (B, M, K + D), whose last D numbers are details that only the draft shows; `tint` (B, M) 0 for none, `spot`
    (B, M, 5): middle x and y, longer edge, degrees clockwise, 1 if mirrored, see `nets.layout.Spot`; `present` (B, M),
    bool. `ground` (B,): a colour, `grounds - 1` for white that nobody mentions, or `grounds` where nothing at all is
    known of the picture. Of things that overlap, the first one is in front.
    """

    codes: Tensor
    tint: Tensor
    spot: Tensor
    present: Tensor
    ground: Tensor

    def dropped(self, rows: Tensor, grounds: int) -> Things:
        """The same, but nothing is known of the pictures `rows` (B,), bool."""
        keep = ~rows
        return Things(
            self.codes * keep[:, None, None],
            self.tint * keep[:, None],
            self.spot,
            self.present & keep[:, None],
            torch.where(rows, grounds, self.ground),
        )

    def to(self, device: torch.device | str) -> Things:
        return Things(*(getattr(self, f.name).to(device) for f in fields(self)))


class Composer(nn.Module):
    """Things and their draft -> `Cond` with tokens (B, M+1, K+A), pooled (B, K+A), concat (B, C, h, w).

    `basis` spells codes out; `detail_basis` (D, C side^2 / 2), packed, and `detail_scale` (D,) their details.
    `ground_colours` (grounds, 3) and `tint_colours` (tints, 3) are RGB from 0 to 1. `unknown` (C,) is the draft of a
    picture of which nothing is known.
    """

    ground_colours: Tensor
    tint_colours: Tensor

    def __init__(self, cfg: PriorConfig):
        super().__init__()
        self.cfg = cfg
        a, c = cfg.attributes, cfg.latent_channels
        self.basis = Linear(cfg.code, c * cfg.side**2)
        if cfg.detail:
            self.register_buffer("detail_basis", torch.zeros(sum(cfg.detail), c * cfg.side**2 // 2))
            self.register_buffer("detail_scale", torch.zeros(sum(cfg.detail)))
        self.register_buffer("ground_colours", torch.ones(cfg.grounds, 3))
        self.register_buffer("tint_colours", torch.ones(cfg.tints, 3))
        self.cutter = Cutter()
        self.unknown = nn.Parameter(torch.zeros(c))
        self.ground_token = nn.Embedding(cfg.grounds + 1, a)
        self.tint_token = nn.Embedding(cfg.tints, a)
        self.spot_token = Linear(2 * WAVES * 3 + 3, a)
        self.absent = nn.Parameter(torch.zeros(a))

    def forward(self, things: Things, draft: Tensor) -> Cond:
        """The conditioning of pictures whose `draft` (B, C, h, w) is made already, see `drafted`."""
        spot, ground = things.spot, self.ground_token(things.ground)
        place = self.spot_token(torch.cat([_waves(spot[..., :3]), _turn(spot)], -1)) + self.tint_token(things.tint)
        place = torch.where(things.present[..., None], place, self.absent.to(place.dtype))
        codes = things.codes[..., : self.cfg.code]
        tokens = torch.cat([codes.to(place.dtype), place], -1)
        last = torch.cat([torch.zeros_like(codes[:, 0]).to(ground.dtype), ground], -1)
        count = things.present.sum(1, keepdim=True).clamp(min=1)
        mean = (codes * things.present[..., None]).sum(1) / count
        nothing = (things.ground == self.cfg.grounds)[:, None, None, None]
        return Cond(
            torch.cat([tokens, last[:, None]], 1),
            torch.cat([mean.to(ground.dtype), ground], -1),
            concat=torch.where(nothing, self.unknown[:, None, None].float(), draft),
        )

    def nearest_ground(self, pixels: Tensor) -> int:
        """The number of the plain ground whose colour is nearest to the mean of a picture (1, 3, H, W) in [-1, 1];
        white is the one that nobody mentions."""
        mean = (pixels.float().mean((0, 2, 3)) + 1) / 2
        return int((self.ground_colours.float() - mean).square().sum(1).argmin())

    def alone(self, codes: Tensor) -> Tensor:
        """Returns what codes (N, K + D) spell out: latents (N, C, side, side), float32, of a thing on the cutter's
        ground."""
        codes, details = codes.split([self.cfg.code, sum(self.cfg.detail)], -1)
        latents = self.basis(codes).float()
        if self.cfg.detail:
            basis = self.get_buffer("detail_scale").float()[:, None]
            basis = basis * unpacked(self.get_buffer("detail_basis"), BASIS_LEVELS)
            with torch.autocast(latents.device.type, enabled=False):
                latents = latents + details.float() @ basis
        return latents.unflatten(1, (self.cfg.latent_channels, self.cfg.side, self.cfg.side))

    @torch.no_grad()
    def cut_out(self, codes: Tensor, autoencoding: Autoencoding) -> Tensor:
        """Returns the things that codes (N, K + D) stand for: premultiplied RGBA (N, 4, S, S) from 0 to 1, float32."""
        pixels = ((autoencoding.decode(self.alone(codes)).float() + 1) / 2).clamp(0, 1)
        return self.cutter(pixels.to(self.cutter.conv_in.weight.dtype)).float()

    @torch.no_grad()
    def drafted(
        self, things: Things, height: int, width: int, autoencoding: Autoencoding, on: Tensor | None = None,
        cutouts: Sequence[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """Returns the draft (B, C, height, width), float32, of latents of height x width.

        `on` (1, C, height, width) are latents of a picture that the things are drawn into, instead of a plain ground;
        those that no thing touches stay as they are. `cutouts` are each picture's present things (k, 4, S, S), if they
        are known already, see `cut_out`.
        """
        draft = self.unknown.float()[:, None, None].repeat(len(things.ground), 1, height, width)
        known = things.ground < self.cfg.grounds
        if not known.any():
            return draft
        size = height * autoencoding.factor, width * autoencoding.factor
        colours = self.ground_colours.float()[things.ground[known]]
        pixels = colours[:, :, None, None].repeat(1, 1, *size)
        cover = torch.zeros_like(pixels[:, :1])
        for row, picture in enumerate(known.nonzero()[:, 0].tolist()):
            present = things.present[picture].nonzero()[:, 0]
            if cutouts is not None:
                cut = cutouts[picture]
            else:
                codes, which = things.codes[picture, present].unique(dim=0, return_inverse=True)
                cut = self.cut_out(codes, autoencoding)[which] if len(present) else codes
            for k in reversed(range(len(present))):
                thing = self._coloured(cut[k : k + 1], things.tint[picture, present[k]])
                layer = laid(thing, things.spot[picture, present[k]], *size)
                pixels[row] = layer[:3] + (1 - layer[3]) * pixels[row]
                cover[row] = torch.maximum(cover[row], layer[3:])
        latents = autoencoding.encode(2 * pixels - 1).float()
        if on is not None:
            touched = F.max_pool2d(cover, autoencoding.factor)
            touched = F.max_pool2d(touched, 2 * MARGIN + 1, 1, MARGIN) > 0
            latents = torch.where(touched, latents, on.float())
        draft[known] = latents
        return draft

    def _coloured(self, thing: Tensor, tint: Tensor) -> Tensor:
        """Returns a thing (1, 4, S, S), premultiplied RGBA, in a tint; 0 keeps its own colours."""
        if not tint:
            return thing
        rgb, alpha = thing[:, :3] / thing[:, 3:].clamp(min=1 / 255), thing[:, 3:]
        return torch.cat([tinted(rgb.clamp(0, 1), alpha, self.tint_colours[tint].float()[None]) * alpha, alpha], 1)


def laid(thing: Tensor, spot: Tensor, height: int, width: int) -> Tensor:
    """Returns a thing (1, 4, S, S) at its spot (5,) in a picture: premultiplied RGBA (4, height, width)."""
    x, y, side, angle, mirrored = spot.tolist()
    edge = side * min(height, width) / OUTLINE  # of the thing's own picture, in pixels
    pixels = max(1, round(edge))
    thing = F.interpolate(thing, (pixels, pixels), mode="bicubic", antialias=True, align_corners=False)
    cos, sin = math.cos(math.radians(angle)) / edge, math.sin(math.radians(angle)) / edge
    flip, across, down = (-1 if mirrored else 1), (2 * x - 1) * width, (2 * y - 1) * height
    matrix = [
        [flip * width * cos, flip * height * sin, -flip * (across * cos + down * sin)],
        [-width * sin, height * cos, across * sin - down * cos],
    ]
    grid = F.affine_grid(torch.tensor([matrix], device=thing.device), [1, 4, height, width], align_corners=False)
    there = F.grid_sample(thing, grid, align_corners=False)[0].clamp(0, 1)
    return torch.cat([torch.minimum(there[:3], there[3:]), there[3:]])


def _waves(values: Tensor) -> Tensor:
    """Sines and cosines of values (..., n) in octaves: (..., 2 * WAVES * n)."""
    phase = values.float()[..., None] * (math.pi * 2.0 ** torch.arange(WAVES, device=values.device))
    return torch.cat([phase.sin(), phase.cos()], -1).flatten(-2)


def _turn(spot: Tensor) -> Tensor:
    """Sine and cosine of the angle, and whether it is mirrored: (..., 3)."""
    angle = spot[..., 3].float() * (math.pi / 180)
    return torch.stack([angle.sin(), angle.cos(), spot[..., 4].float()], -1)
