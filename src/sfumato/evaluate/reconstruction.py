"""What is lost between a picture and the model's latents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.data.protocol import Dataset
from sfumato.evaluate.intervals import Estimate
from sfumato.evaluate.pictures import Watch, on_colours, on_white, watched
from sfumato.nets.vae import VAE


@dataclass(frozen=True)
class Reconstruction:
    """PSNR in dB over pictures, on white and on the named colours."""

    white: Estimate
    colours: Estimate


@torch.no_grad()
def there_and_back(vae: VAE, x: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] through the mean of their latents: the same shape, float32 on the CPU."""
    weight = vae.decoder.conv_in.weight
    mean = vae.encode(x.to(weight.device, weight.dtype)).chunk(2, 1)[0]
    return vae.decode(mean).float().clamp(-1, 1).cpu()


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each of (B, 3, H, W) in [-1, 1], in dB: (B,); at most 100."""
    return -10 * ((x - y) / 2).square().mean((1, 2, 3)).clamp(min=1e-10).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each of (B, 3, H, W) in [-1, 1]: (B,); H and W at least 11.

    Wang et al. 2004, equation 13, with their Gaussian window of 11 pixels and constants, the mean over colours.
    """
    offsets = torch.arange(11, dtype=x.dtype, device=x.device) - 5
    weights = (-(offsets**2) / (2 * 1.5**2)).exp()
    window = (weights[:, None] * weights / weights.sum() ** 2).expand(3, 1, 11, 11)

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(z, window, groups=3)

    c1, c2 = (2 * 0.01) ** 2, (2 * 0.03) ** 2  # of a range of 2
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    similar = (2 * mx * my + c1) * (2 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return similar.mean((1, 2, 3))


def measure_reconstruction(vae: VAE, data: Dataset, numbers: np.ndarray, watch: Watch) -> Reconstruction:
    """Of the pictures with these numbers, of which there must be one."""
    means = []
    for name, batches in (("white", on_white(data, numbers)), ("colours", on_colours(data, numbers))):
        x = watched(batches, f"reconstruction on {name}", len(numbers), watch)
        found = Estimate.mean_of(torch.cat([psnr(part, there_and_back(vae, part)) for part in x]).tolist())
        assert found is not None
        means.append(found)
    return Reconstruction(*means)
