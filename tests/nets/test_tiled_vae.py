"""Large pictures through the autoencoder in tiles: what comes out is what comes out of the whole."""

import pytest
import torch
from torch import Tensor

import sfumato
import tiny
from sfumato.nets import tiled_vae
from sfumato.nets.vae import VAE
from sfumato.spec import VAEConfig

CONFIGS = {
    "as 1.x": VAEConfig(channels=(8, 8, 16, 16), blocks=2, groups=4),
    "one group": VAEConfig(latent_channels=16, channels=(8, 8, 16), blocks=1, groups=1, quant_convs=False),
}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_vae, "SIDE", 64)


def smooth(*shape: int) -> Tensor:
    """Something like a picture: its tiles differ from each other."""
    small = torch.randn(*shape[:2], 2, 3, generator=torch.Generator().manual_seed(1))
    coarse = torch.nn.functional.interpolate(small, size=shape[2:], mode="bicubic")
    return coarse + 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_tiles_make_the_same_of_pictures_as_the_whole(name: str) -> None:
    cfg = CONFIGS[name]
    vae = tiny.randomise(VAE(cfg))
    assert isinstance(vae, VAE)
    z = smooth(2, cfg.latent_channels, 168 // cfg.factor, 232 // cfg.factor)
    whole = vae.decode(z)
    assert (tiled_vae.decode(vae, z) - whole).abs().max() <= 2e-3 * whole.std()
    moments = vae.encode(smooth(1, 3, 168, 232))
    assert (tiled_vae.encode(vae, smooth(1, 3, 168, 232)) - moments).abs().max() <= 2e-3 * moments.std()
