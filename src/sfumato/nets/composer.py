"""From the things of a picture to what a denoiser is conditioned on: a token a thing, a vector, and a coarse draft.

The draft lies beside the noisy latents as a low-resolution picture does in a cascade (Ho et al. 2021) or a depth map in
Stable Diffusion 2's depth model. It is a sum: the ground, and for each thing its own draft, which its code spells out
(codes are coefficients on a basis of latents, as eigenfaces are), moved to its place. Latents cannot simply be moved,
since they describe patches of pixels. So a small network lifts them to a finer map of features, which can, and another
one that sees the moved neighbourhood corrects each patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.nets.layers import Linear
from sfumato.nets.packed import unpacked
from sfumato.spec import PriorConfig

OUTLINE = 0.92  # the longer edge of a thing in the picture that its code is made of
PATCH = 2  # latents along the side of what the local network fits at once
FINER, FEATURES, LIFTED = 4, 12, 256  # the finer map: places along the side of a latent, its channels, and a width
POINTS = 8  # along the side of the neighbourhood that the local network sees of a patch
SPAN = 1.5  # side of that neighbourhood, in sides of the patch
MARGIN = 0.09  # of the picture's edge around a thing, in which latents still know of it
WAVES = 4  # octaves in which places are said
FINE_WAVES = 6  # the same for the local network, which has to know where in one of 16 latents a side it is


@dataclass(frozen=True, eq=False)
class Things:
    """Describes B pictures of up to M things each.

    `codes` (B, M, K + D), whose last D numbers are details that only the draft shows; `tint` (B, M) 0 for none, `spot`
    (B, M, 5): middle x and y, longer edge, degrees clockwise, 1 if mirrored, see `nets.layout.Spot`; `present` (B, M),
    bool. `ground` (B,): a colour, `grounds - 1` for white that nobody mentions, or `grounds` where nothing at all is
    known of the picture.
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
    """Things and the latents' size -> `Cond` with tokens (B, M+1, K+A), pooled (B, K+A), concat (B, C, h, w)."""

    def __init__(self, cfg: PriorConfig):
        super().__init__()
        self.cfg = cfg
        a, c = cfg.attributes, cfg.latent_channels
        self.basis = Linear(cfg.code, c * cfg.side**2)
        if cfg.detail:
            self.register_buffer("detail_basis", torch.zeros(cfg.detail, c * cfg.side**2 // 2))
            self.register_buffer("detail_scale", torch.zeros(cfg.detail))
        self.white = nn.Parameter(torch.zeros(c))
        self.ground_latent = nn.Embedding(cfg.grounds + 1, c)
        self.ground_token = nn.Embedding(cfg.grounds + 1, a)
        self.tint_token = nn.Embedding(cfg.tints, a)
        self.spot_token = Linear(_places(3) + 3, a)
        self.absent = nn.Parameter(torch.zeros(a))
        self.local_tint = nn.Embedding(cfg.tints, 16)
        self.local_ground = nn.Embedding(cfg.grounds + 1, 16)
        self.local_code = Linear(cfg.code, 64)
        self.lift_1 = nn.Conv2d(c, LIFTED, 3, padding=1)
        self.lift_2 = nn.Conv2d(LIFTED, FEATURES * FINER**2, 1)
        told = _places(2, FINE_WAVES) + 4 + 16 + 16 + 64
        self.fit_1 = Linear(FEATURES * POINTS**2 + told, cfg.hidden)
        self.gate = Linear(told, cfg.hidden)
        self.fit_2 = Linear(cfg.hidden, cfg.hidden)
        self.fit_3 = Linear(cfg.hidden, c * PATCH**2)

    def forward(self, things: Things, height: int, width: int, on: Tensor | None = None) -> Cond:
        """For latents of height x width, both even. `on` (1, C, height, width) are those of a picture that the things
        are drawn into, instead of a plain ground."""
        spot, ground = things.spot, self.ground_token(things.ground)
        place = self.spot_token(torch.cat([_waves(spot[..., :3]), _turn(spot)], -1)) + self.tint_token(things.tint)
        place = torch.where(things.present[..., None], place, self.absent.to(place.dtype))
        codes = things.codes[..., : self.cfg.code]
        tokens = torch.cat([codes.to(place.dtype), place], -1)
        last = torch.cat([torch.zeros_like(codes[:, 0]).to(ground.dtype), ground], -1)
        count = things.present.sum(1, keepdim=True).clamp(min=1)
        mean = (codes * things.present[..., None]).sum(1) / count
        return Cond(
            torch.cat([tokens, last[:, None]], 1),
            torch.cat([mean.to(ground.dtype), ground], -1),
            concat=self.draft(things, height, width, on),
        )

    def nearest_ground(self, latents: Tensor) -> int:
        """The number of the plain ground whose latents (C,) are nearest; white is the one that nobody mentions."""
        plain = self.white + self.ground_latent.weight[:-1]
        return int((plain.float() - latents.float()).square().sum(1).argmin())

    def alone(self, codes: Tensor) -> Tensor:
        """Returns what codes (N, K + D) spell out: the latents (N, C h w) of pictures of one thing, float32."""
        codes, details = codes.split([self.cfg.code, self.cfg.detail], -1)
        canvas = self.basis(codes).float()
        if self.cfg.detail:
            basis = self.get_buffer("detail_scale").float()[:, None] * unpacked(self.get_buffer("detail_basis"))
            with torch.autocast(canvas.device.type, enabled=False):
                canvas = canvas + details.float() @ basis
        return canvas

    def draft(self, things: Things, height: int, width: int, on: Tensor | None = None) -> Tensor:
        """A coarse picture of the things in their places: latents (B, C, height, width), float32; `on` as in a call."""
        cfg, c = self.cfg, self.cfg.latent_channels
        rows, columns = height // PATCH, width // PATCH
        plain = self.white + self.ground_latent(things.ground).float()
        draft = plain[:, None].expand(-1, rows * columns, -1).repeat(1, 1, PATCH**2)
        if on is not None:
            patches = on.float().unflatten(3, (columns, PATCH)).unflatten(2, (rows, PATCH))
            draft = torch.einsum("bchpwq->bhwpqc", patches).flatten(3).flatten(1, 2).expand(len(draft), -1, -1)
        picture, number = things.present.nonzero(as_tuple=True)
        if len(picture):
            codes, spot = things.codes[picture, number], things.spot[picture, number]
            canvas = self.alone(codes).unflatten(1, (c, cfg.side, cfg.side))
            codes = codes[:, : cfg.code]
            where = _Frame(spot, height, width)
            thing, patch = where.near(rows, columns).nonzero(as_tuple=True)
            finer = F.pixel_shuffle(self.lift_2(F.gelu(self.lift_1(canvas - self.white[:, None, None]))), FINER)
            around = _read(finer.float(), where.points(rows, columns, POINTS, SPAN))[thing, patch]  # (N, POINTS^2, F)
            middle = _read(canvas, where.points(rows, columns, PATCH))[thing, patch]
            centre = where.points(rows, columns, 1)[thing, patch][:, 0]
            told = torch.cat(
                [
                    _waves(centre, FINE_WAVES),
                    torch.cat([spot[:, 2:3], _turn(spot)], -1)[thing],
                    self.local_tint(things.tint[picture, number])[thing],
                    self.local_ground(things.ground[picture])[thing],
                    self.local_code(codes)[thing],
                ],
                -1,
            )
            h = F.gelu(self.fit_1(torch.cat([around.flatten(1), told], -1))) * (1 + self.gate(told))
            fitted = self.fit_3(F.gelu(self.fit_2(h)))
            moved = (middle - self.white).flatten(1) + fitted.float()
            draft = draft.index_put((picture[thing], patch), moved, accumulate=True)
        patches = draft.unflatten(2, (PATCH, PATCH, c)).unflatten(1, (rows, columns))
        return torch.einsum("bhwpqc->bchpwq", patches).flatten(4, 5).flatten(2, 3)


class _Frame:
    """Points of a picture of height x width latents as points of the things' own pictures, both from 0 to 1."""

    def __init__(self, spot: Tensor, height: int, width: int):
        self.spot, self.height, self.width = spot.float(), height, width

    def points(self, rows: int, columns: int, n: int, span: float = 1.0) -> Tensor:
        """(N, rows * columns, n * n, 2): a grid of n x n points over each patch, x before y.

        The grid's side is `span` sides of the patch.
        """
        step = 0.5 + span * ((torch.arange(n, device=self.spot.device) + 0.5) / n - 0.5)
        y = (torch.arange(rows, device=self.spot.device)[:, None] + step).flatten() / rows
        x = (torch.arange(columns, device=self.spot.device)[:, None] + step).flatten() / columns
        grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1)
        grid = grid.unflatten(1, (columns, n)).unflatten(0, (rows, n)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        return 0.5 + OUTLINE * self._own(grid.flatten(0, 1)).unflatten(1, (rows * columns, n * n))

    def near(self, rows: int, columns: int) -> Tensor:
        """Returns which patches lie in a thing or near it, bool (N, rows * columns)."""
        y = (torch.arange(rows, device=self.spot.device) + 0.5) / rows
        x = (torch.arange(columns, device=self.spot.device) + 0.5) / columns
        middle = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], -1).flatten(0, 1)
        reach = 0.5 + MARGIN / self.spot[:, 2].clamp(min=0.05)
        return (self._own(middle).abs() < reach[:, None, None]).all(-1)

    def _own(self, points: Tensor) -> Tensor:
        """Points (P, 2) of the picture -> (N, P, 2), from a thing's middle, in units of its longer edge."""
        edge = min(self.height, self.width)
        scale = torch.tensor([self.width / edge, self.height / edge], device=points.device)
        x, y = ((points - self.spot[:, None, :2]) * scale).unbind(-1)
        angle = self.spot[:, 3:4] * (math.pi / 180)
        cos, sin, side = angle.cos(), angle.sin(), self.spot[:, 2:3]
        across, down = (x * cos + y * sin) / side, (y * cos - x * sin) / side
        return torch.stack([across * (1 - 2 * self.spot[:, 4:5]), down], -1)


def _read(canvas: Tensor, points: Tensor) -> Tensor:
    """Values of pictures (N, C, S, S) at points (N, P, k, 2) from 0 to 1: (N, P, k, C)."""
    return F.grid_sample(canvas, 2 * points - 1, padding_mode="border", align_corners=False).movedim(1, -1)


def _places(n: int, octaves: int = WAVES) -> int:
    """Returns how many numbers `_waves` makes of n."""
    return 2 * octaves * n


def _waves(values: Tensor, octaves: int = WAVES) -> Tensor:
    """Sines and cosines of values (..., n) in octaves: (..., 2 * octaves * n)."""
    phase = values.float()[..., None] * (math.pi * 2.0 ** torch.arange(octaves, device=values.device))
    return torch.cat([phase.sin(), phase.cos()], -1).flatten(-2)


def _turn(spot: Tensor) -> Tensor:
    """Sine and cosine of the angle, and whether it is mirrored: (..., 3)."""
    angle = spot[..., 3].float() * (math.pi / 180)
    return torch.stack([angle.sin(), angle.cos(), spot[..., 4].float()], -1)
