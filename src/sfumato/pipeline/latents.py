"""Pictures to latents and back through the autoencoder, and cheap previews of latents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from sfumato.errors import SfumatoError, warn
from sfumato.images.tensors import to_images
from sfumato.nets import tiled_vae
from sfumato.nets.composer import Autoencoding
from sfumato.nets.tiny_decoder import TinyDecoder
from sfumato.nets.vae import VAE

TILED_ABOVE = 1536 * 1536  # pixels; whole, 1.x's autoencoder then takes 10 GB in float32


def decode(vae: VAE, latents: Tensor) -> Image.Image:
    """Returns the picture of latents (1, C, h, w), which are in the denoising network's units.

    Raises SfumatoError for latents that are not finite, and where not even float32 makes a picture of them.
    """
    if not _finite(latents):
        raise SfumatoError("the network's estimates are not finite; load the model as float32")
    pixels = _decoded(vae, latents) if vae.tiny is None else _tiny(vae.tiny, latents)
    if not _finite(pixels):
        raise SfumatoError("the autoencoder's picture is not finite, even in float32; give another one")
    return to_images(pixels)[0]


def encode(vae: VAE, pixels: Tensor) -> Tensor:
    """Latents (B, C, h, w) in the denoising network's units, the likeliest, of pictures (B, 3, H, W) in [-1, 1]."""
    height, width = pixels.shape[2:]
    whole = height % vae.cfg.factor or width % vae.cfg.factor or not _in_tiles(vae, height * width)
    moments = _through(vae, VAE.encode if whole else tiled_vae.encode, pixels)
    return vae.to_latents(moments.chunk(2, 1)[0])


def autoencoding(vae: VAE) -> Autoencoding:
    """Returns both ways of the autoencoder, as a scene prior takes them."""
    return Autoencoding(partial(encode, vae), partial(_decoded, vae), vae.cfg.factor)


def _decoded(vae: VAE, latents: Tensor) -> Tensor:
    tiled = _in_tiles(vae, latents[0, 0].numel() * vae.cfg.factor**2)
    return _through(vae, tiled_vae.decode if tiled else VAE.decode, vae.from_latents(latents))


def _in_tiles(vae: VAE, pixels: int) -> bool:
    return pixels > TILED_ABOVE if vae.tiled is None else vae.tiled


def _finite(x: Tensor) -> bool:
    return bool(torch.stack(torch.aminmax(x)).isfinite().all())  # no map of the answers, which may be large


@torch.no_grad()
def _through(vae: VAE, direction: Callable[[VAE, Tensor], Tensor], x: Tensor) -> Tensor:
    """Runs one direction of the autoencoder on x and returns its result as float32.

    One that overflows in half precision, as XL's does, is run again with smaller numbers inside, then in float32, and
    from then on at once.
    """
    if "in_full" not in vars(vae):
        half = vae.in_range if "in_range" in vars(vae) else vae
        weight = next(vae.parameters())
        result = direction(half, x.to(weight.device, weight.dtype)).float()
        if weight.dtype == torch.float16 and half is vae and not _finite(result):
            result = direction(vae.in_range, x.to(weight.device, weight.dtype)).float()
        if weight.dtype == torch.float32 or _finite(result):
            return result
        warn("the autoencoder overflows in half precision, so it runs in float32 from here on")
    weight = next(vae.in_full.parameters())
    return direction(vae.in_full, x.to(weight.device, torch.float32)).float()


@torch.no_grad()
def preview_colours(vae: VAE) -> Tensor:
    """Fits a linear map (C + 1, 3) from latents to colours, its last row constant, to what the decoder makes of a few.

    A product with it is a thousand times cheaper than the decoder and good enough to watch a picture appear.
    """
    channels, generator = vae.cfg.latent_channels, torch.Generator().manual_seed(0)
    flat = torch.randn(3 * (channels + 1), channels, generator=generator, dtype=torch.float32)
    latents = flat[:, :, None, None].expand(-1, -1, 4, 4)
    colours = torch.cat([_decoded(vae, part).mean((2, 3)).cpu() for part in latents.split(8)])
    return torch.linalg.lstsq(torch.cat([flat, torch.ones_like(flat[:, :1])], 1), colours).solution


def tiny_preview(latents: Tensor, tiny: TinyDecoder) -> Image.Image:
    """Returns the picture that a tiny decoder makes of latents (1, C, h, w)."""
    return to_images(_tiny(tiny, latents))[0]


@torch.no_grad()
def _tiny(tiny: TinyDecoder, latents: Tensor) -> Tensor:
    weight = next(tiny.parameters())
    return tiny(latents.to(weight.device, weight.dtype)).float()


def preview(latents: Tensor, colours: Tensor) -> Image.Image:
    """Returns a picture with one pixel for every place of latents (1, C, h, w)."""
    flat = torch.einsum("bchw,cd->bdhw", latents.float().cpu(), colours[:-1]) + colours[-1][:, None, None]
    return to_images(flat)[0]
