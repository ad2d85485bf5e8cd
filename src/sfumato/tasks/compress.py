"""Pictures as quantised latents, and back: few bytes, and a denoising network that repairs what they lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.codec.file import Compressed
from sfumato.codec.symbols import pack, unpack
from sfumato.diffusion.driver import Job
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import SAMPLERS
from sfumato.errors import SfumatoError, warn
from sfumato.images.resize import padded
from sfumato.images.tensors import to_pixels
from sfumato.nets.vae import VAE
from sfumato.pipeline.conditioning import conditioning
from sfumato.pipeline.events import Events, Picture
from sfumato.pipeline.generate import run
from sfumato.pipeline.latents import decode, encode
from sfumato.pipeline.model import Model
from sfumato.runtime.device import memory_for
from sfumato.settings.checks import check_number, check_whole
from sfumato.settings.settings import MAX_SEED, Settings

QUALITY = 50
MAX_STEPS = 100
_COARSEST, _FINEST = 0, 120


def check_quality(quality: object) -> None:
    """Raises SfumatoError unless `quality` is a number from 0 to 120."""
    check_number("the quality", quality, _COARSEST, _FINEST, QUALITY)


def compress(
    model: Model, image: Image.Image, quality: float = QUALITY, size: int | None = None, prompt: str = ""
) -> bytes:
    """Returns the file of an RGB picture (see `codec.file`).

    `quality` 50 quantises latents in steps of 1, which is their own spread, and every 20 more halve the steps; or
    `size` is the number of bytes that the file may have at most. The `prompt` costs its length and tells the decoder
    what to repair. Raises SfumatoError for a quality outside 0 to 120, and a size that cannot be reached.
    """
    check_quality(quality)
    if size is not None:
        check_whole("the size in bytes", size, 1, 1 << 30)
    right, below = -image.width % model.spec.multiple, -image.height % model.spec.multiple
    whole = padded(image, 0, 0, right, below)
    if max(whole.size) > model.spec.max_side:
        raise SfumatoError(f"the picture is {image.width}x{image.height}; scale it to at most {model.spec.max_side}")
    with memory_for("for a picture of this size; scale it down"):
        latents = encode(model.vae, to_pixels(whole))[0].float().cpu()

    def at(quality: float) -> bytes:
        # As the file has it.
        step = float(np.float16(2 ** ((QUALITY - quality) / 20)))
        payload = pack((latents / step).round().numpy())
        return Compressed(fingerprint(model.vae), image.width, image.height, step, prompt, payload).to_bytes()

    return at(quality) if size is None else _largest_within(size, at)


def decompress(model: Model, data: bytes, steps: int = 1, noise: float = 0.0, seed: int = 0) -> Events:
    """Draws the picture in a file that `compress` made; yields steps and the picture.

    Quantisation is noise of a known level (step / sqrt(12), Widrow 1956), so the network denoises it: in one step,
    which comes closest to the original, or in more. `noise` adds that much seeded noise in the units of latents, which
    the network turns into detail that was not there. 0 steps show what was stored. SfumatoWarning where another
    autoencoder wrote the file. Raises SfumatoError at once for a broken file and for bad arguments.
    """
    check_whole("steps", steps, 0, MAX_STEPS)
    check_number("the noise", noise, 0, 10, 0.2)
    check_whole("the seed", seed, 0, MAX_SEED - 1)
    stored, spec = Compressed.from_bytes(data), model.spec
    if stored.autoencoder != fingerprint(model.vae):
        warn(f"the picture was compressed with another autoencoder than {model.name}'s; it may look wrong")
    width, height = (-(-side // spec.multiple) * spec.multiple for side in (stored.width, stored.height))
    settings = Settings.of(
        spec, stored.prompt, prompt_syntax="plain", cfg=1, width=width, height=height, steps=1, seed=seed
    )
    shape = (spec.vae.latent_channels, height // spec.vae.factor, width // spec.vae.factor)
    latents = torch.from_numpy(unpack(stored.payload, shape) * stored.step).float()[None].to(model.device)
    path = model.denoiser.path
    sigma = path.sigma_at(math.hypot(stored.step / math.sqrt(12), noise))
    sigmas = torch.linspace(sigma, 0, steps + 1, dtype=torch.float64)
    guide = conditioning(model, settings, sigmas).positive_guide(model.denoiser)

    def job() -> Job:
        stream = NoiseStream(seed, (1, *shape), model.device)
        x = path.alpha(sigma) * (latents + noise * stream.normal()) if steps else latents
        return SAMPLERS["euler"].run(guide, x, sigmas, path, stream)

    def finish(index: int, x: Tensor) -> Picture:
        return Picture(index, decode(model.vae, x).crop((0, 0, stored.width, stored.height)), seed, "")

    return run([job], finish, model.preview, 1)


def fingerprint(vae: VAE) -> int:
    """32 bits that tell autoencoders apart, the same in every precision that float16 fits into."""
    total = 0
    for name, weight in sorted(vae.decoder.state_dict().items()):
        total = crc32(weight.detach().half().cpu().contiguous().numpy().tobytes(), crc32(name.encode(), total))
    return total


def _largest_within(size: int, at: Callable[[float], bytes]) -> bytes:
    """Returns the file of the highest quality that has at most `size` bytes."""
    best = at(_COARSEST)
    if len(best) > size:
        raise SfumatoError(
            f"{size} bytes are too few for this picture; allow {len(best)} or more, or scale the picture down"
        )
    low, high = float(_COARSEST), float(_FINEST)
    while high - low > 0.25:
        middle = (low + high) / 2
        data = at(middle)
        if len(data) <= size:
            low, best = middle, data
        else:
            high = middle
    return best
