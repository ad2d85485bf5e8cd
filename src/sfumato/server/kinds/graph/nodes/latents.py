"""Nodes about latents: empty ones, those of pictures, larger ones, and pictures of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.images.mask import grown
from sfumato.pipeline.latents import decode as decoded
from sfumato.pipeline.latents import encode as encoded
from sfumato.server.kinds.graph.pixels import check_batch, latent_mask, pixels_of
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.table import Choice, Number, node
from sfumato.server.kinds.graph.values import Frame, Images, Latent, Mask, VaeRef

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
FLIPS = ("x-axis: vertically", "y-axis: horizontally")
Method = Annotated[str, Choice(METHODS)]
Crop = Annotated[str, Choice(("disabled", "center"))]
Side = Annotated[int, Number(16, 16384, 8)]
Pixels = Annotated[int, Number(0, 16384, 8)]
Batch = Annotated[int, Number(1, 4096)]
Tile = Annotated[int, Number(64, 4096, 32)]


def _empty(width: int, height: int, batch_size: int, channels: int) -> Latent:
    check_batch(batch_size, width, height, "the empty latents")
    return Latent(torch.zeros(batch_size, channels, height // 8, width // 8))


@node("EmptyLatentImage", "latent")
def empty(width: Side = 512, height: Side = 512, batch_size: Batch = 1) -> Latent:
    """Nothing yet, in a size in pixels."""
    return _empty(width, height, batch_size, 4)


@node("EmptySD3LatentImage", "latent/sd3")
def empty_sd3(width: Side = 1024, height: Side = 1024, batch_size: Batch = 1) -> Latent:
    """Nothing yet, in a size in pixels, for 3 and 3.5."""
    return _empty(width, height, batch_size, 16)


@node("VAEEncode", "latent")
def encode(run: Run, pixels: Images, vae: VaeRef) -> Latent:
    """Pictures as latents."""
    autoencoder = run.model(vae.parts).vae
    return Latent(encoded(autoencoder, pixels_of(pixels, autoencoder.cfg.factor)).cpu(), autoencoder.cfg.factor)


@node("VAEEncodeTiled", "latent")
def encode_tiled(
    run: Run, pixels: Images, vae: VaeRef, tile_size: Tile = 512, overlap: Pixels | None = None,
    temporal_size: Annotated[int, Number(8, 4096)] | None = None,
    temporal_overlap: Annotated[int, Number(4, 4096)] | None = None,
) -> Latent:  # fmt: skip
    """Pictures as latents; large ones go through in tiles by themselves."""
    return encode(run, pixels, vae)


@node("VAEEncodeForInpaint", "latent/inpaint")
def encode_for_inpaint(
    run: Run, pixels: Images, vae: VaeRef, mask: Mask, grow_mask_by: Annotated[int, Number(0, 64)] = 6
) -> Latent:
    """Pictures as latents, grey where a mask is, of which that part is drawn."""
    autoencoder = run.model(vae.parts).vae
    image = pixels_of(pixels, autoencoder.cfg.factor)
    share = latent_mask(mask, (image.shape[3], image.shape[2])).round()
    hidden = image.where(share < 0.5, 0.0)
    return Latent(encoded(autoencoder, hidden).cpu(), autoencoder.cfg.factor, grown(share, grow_mask_by))


@node("VAEDecode", "latent")
def decode(run: Run, samples: Latent, vae: VaeRef) -> Images:
    """Pictures of latents."""
    autoencoder = run.model(vae.parts).vae
    latents = samples.samples
    if latents.shape[1] != autoencoder.cfg.latent_channels:
        theirs = f"the latents have {latents.shape[1]} channels, this VAE takes {autoencoder.cfg.latent_channels}"
        raise SfumatoError(f"{theirs}; draw them by the model that it belongs to")
    images = [decoded(autoencoder, row[None]) for row in latents]
    seeds, texts = samples.seeds or (0,) * len(images), samples.texts or ("",) * len(images)
    return tuple(Frame(image, seed, text) for image, seed, text in zip(images, seeds, texts, strict=True))


@node("VAEDecodeTiled", "latent")
def decode_tiled(
    run: Run, samples: Latent, vae: VaeRef, tile_size: Tile = 512, overlap: Pixels | None = None,
    temporal_size: Annotated[int, Number(8, 4096)] | None = None,
    temporal_overlap: Annotated[int, Number(4, 4096)] | None = None,
) -> Images:  # fmt: skip
    """Pictures of latents; large ones go through in tiles by themselves."""
    return decode(run, samples, vae)


@node("SetLatentNoiseMask", "latent/inpaint")
def set_mask(samples: Latent, mask: Mask) -> Latent:
    """Says which part of latents is drawn."""
    return replace(samples, mask=mask.shares[:, None])


def _resized(latent: Latent, width: int, height: int, method: str, crop: str = "disabled") -> Latent:
    """Latents at another size of their own; "bislerp" is taken as bilinear."""
    check_batch(len(latent.samples), latent.factor * width, latent.factor * height, "the larger latents")
    samples = latent.samples
    if crop == "center":
        share = min(samples.shape[3] / width, samples.shape[2] / height)
        rows, columns = round(share * height), round(share * width)
        top, left = (samples.shape[2] - rows) // 2, (samples.shape[3] - columns) // 2
        samples = samples[..., top : top + rows, left : left + columns]
    how = "bilinear" if method == "bislerp" else method
    resized: Tensor = F.interpolate(samples, (height, width), mode=how)
    return latent.with_samples(resized)


@node("LatentUpscale", "latent")
def upscale(
    samples: Latent,
    upscale_method: Method = "nearest-exact",
    width: Pixels = 512,
    height: Pixels = 512,
    crop: Crop = "disabled",
) -> Latent:
    """Latents at another size in pixels; a side of 0 follows from the other."""
    ours = samples.size
    if width == 0 and height == 0:
        return samples
    width = width or max(64, round(ours[0] * height / ours[1]))
    height = height or max(64, round(ours[1] * width / ours[0]))
    wide, high = (max(1, side // samples.factor) for side in (width, height))
    return _resized(samples, wide, high, upscale_method, crop)


@node("LatentUpscaleBy", "latent")
def upscale_by(
    samples: Latent, upscale_method: Method = "nearest-exact", scale_by: Annotated[float, Number(0.01, 8.0, 0.01)] = 1.5
) -> Latent:
    """Latents so many times as wide and high."""
    height, width = (max(1, round(scale_by * side)) for side in samples.samples.shape[2:])
    return _resized(samples, width, height, upscale_method)


@node("LatentComposite", "latent")
def composite(samples_to: Latent, samples_from: Latent, x: Pixels = 0, y: Pixels = 0, feather: Pixels = 0) -> Latent:
    """Lays latents over others at a place in pixels, with edges that fade."""
    to, over = samples_to.samples, samples_from.samples
    if to.shape[1] != over.shape[1]:
        raise SfumatoError(f"latents of {over.shape[1]} channels do not fit those of {to.shape[1]}; use one model")
    left, top, fade = (value // samples_to.factor for value in (x, y, feather))
    over = over[..., : max(0, to.shape[2] - top), : max(0, to.shape[3] - left)]
    if not over.numel():
        return samples_to
    share, (height, width) = torch.ones(1, 1, *over.shape[2:]), over.shape[2:]
    for k in range(fade):
        part = (k + 1) / fade
        for axis, near, far, length in ((2, top, to.shape[2], height), (3, left, to.shape[3], width)):
            if near > 0 and k < length:
                share.narrow(axis, k, 1).mul_(part)
            if near + length < far and k < length:
                share.narrow(axis, length - 1 - k, 1).mul_(part)
    result = to.clone()
    place = (..., slice(top, top + height), slice(left, left + width))
    result[place] = share * over[: len(to)] + (1 - share) * result[place]
    return samples_to.with_samples(result)


@node("LatentBatch", "latent/batch")
def batch(samples1: Latent, samples2: Latent) -> Latent:
    """Two batches as one, the second brought to the size of the first."""
    if samples1.samples.shape[1] != samples2.samples.shape[1]:
        raise SfumatoError("latents of different models cannot be one batch; draw both by one model")
    height, width = samples1.samples.shape[2:]
    other = samples2 if samples2.samples.shape[2:] == (height, width) else _resized(samples2, width, height, "bilinear")
    samples = torch.cat([samples1.samples, other.samples])
    check_batch(len(samples), *samples1.size, "the batch")
    both = samples1.seeds and other.seeds
    return replace(
        samples1, samples=samples, seeds=samples1.seeds + other.seeds if both else (),
        texts=samples1.texts + other.texts if both else (),
    )  # fmt: skip


@node("RepeatLatentBatch", "latent/batch")
def repeat(samples: Latent, amount: Annotated[int, Number(1, 64)] = 1) -> Latent:
    """The batch several times."""
    check_batch(amount * len(samples.samples), *samples.size, "the batch")
    mask = samples.mask
    return replace(
        samples, samples=samples.samples.repeat(amount, 1, 1, 1), seeds=samples.seeds * amount,
        texts=samples.texts * amount, mask=mask if mask is None or len(mask) == 1 else mask.repeat(amount, 1, 1, 1),
    )  # fmt: skip


@node("LatentFromBatch", "latent/batch")
def from_batch(samples: Latent, batch_index: Annotated[int, Number(0, 4095)] = 0, length: Batch = 1) -> Latent:
    """Some pictures of a batch."""
    first = min(batch_index, len(samples.samples) - 1)
    part = slice(first, first + length)
    mask = samples.mask
    return replace(
        samples, samples=samples.samples[part], seeds=samples.seeds[part], texts=samples.texts[part],
        mask=mask if mask is None or len(mask) == 1 else mask[part],
    )  # fmt: skip


@node("LatentFlip", "latent/transform")
def flip(samples: Latent, flip_method: Annotated[str, Choice(FLIPS)] = FLIPS[0]) -> Latent:
    """Latents upside down, or the other way round."""
    return samples.with_samples(samples.samples.flip(2 if flip_method.startswith("x") else 3))


@node("LatentCrop", "latent/transform")
def crop(samples: Latent, width: Side = 512, height: Side = 512, x: Pixels = 0, y: Pixels = 0) -> Latent:
    """A part of latents, at a place in pixels."""
    rows, columns = samples.samples.shape[2:]
    top, left = (min(value // samples.factor, most - 1) for value, most in ((y, rows), (x, columns)))
    high, wide = max(1, height // samples.factor), max(1, width // samples.factor)
    return samples.with_samples(samples.samples[..., top : top + high, left : left + wide])
