"""The autoencoder against diffusers'."""

import pytest
import torch
from diffusers import AutoencoderKL

from sfumato.nets.vae import VAE
from sfumato.spec import VAEConfig

CONFIGS = {
    "f8": VAEConfig(channels=(32, 32, 64, 64), blocks=1, groups=16),
    "f4": VAEConfig(channels=(32, 64, 64), blocks=2, scale=0.08333),
    "16 channels": VAEConfig(latent_channels=16, channels=(32, 64), blocks=1, scale=1.5305, shift=0.0609),
}


def pair(cfg: VAEConfig) -> tuple[VAE, AutoencoderKL]:
    torch.manual_seed(0)
    theirs = AutoencoderKL(
        in_channels=cfg.in_channels,
        out_channels=cfg.in_channels,
        latent_channels=cfg.latent_channels,
        block_out_channels=cfg.channels,
        layers_per_block=cfg.blocks,
        norm_num_groups=cfg.groups,
        down_block_types=["DownEncoderBlock2D"] * len(cfg.channels),
        up_block_types=["UpDecoderBlock2D"] * len(cfg.channels),
    ).eval()
    ours = VAE(cfg).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_equals_diffusers(name: str) -> None:
    cfg = CONFIGS[name]
    ours, theirs = pair(cfg)
    x = torch.rand(2, 3, 48, 32) * 2 - 1
    z = torch.randn(2, cfg.latent_channels, 5, 7)
    moments = ours.encode(x)
    assert moments.shape == (2, 2 * cfg.latent_channels, 48 // cfg.factor, 32 // cfg.factor)
    assert torch.allclose(moments, theirs.encode(x).latent_dist.parameters, atol=1e-5)
    assert torch.allclose(ours.decode(z), theirs.decode(z).sample, atol=1e-5)
    assert ours.decode(z).shape == (2, 3, 5 * cfg.factor, 7 * cfg.factor)


def test_latents_of_the_denoising_network_go_both_ways() -> None:
    ours, _ = pair(CONFIGS["16 channels"])
    mean = torch.randn(1, 16, 3, 3)
    assert torch.allclose(ours.to_latents(mean), (mean - 0.0609) * 1.5305)
    assert torch.allclose(ours.from_latents(ours.to_latents(mean)), mean, atol=1e-6)


def test_latents_may_be_normalised_channel_by_channel() -> None:
    vae = VAE(VAEConfig(latent_channels=2, channels=(32,), blocks=1, scale=0.5, mean=(1.0, -2.0), std=(4.0, 8.0)))
    mean = torch.tensor([5.0, 6.0])[None, :, None, None].expand(1, 2, 3, 3)
    assert torch.equal(vae.to_latents(mean)[0, :, 0, 0], torch.tensor([0.5, 0.5]))
    assert torch.equal(vae.from_latents(vae.to_latents(mean)), mean)
