"""Large pictures through the autoencoder in tiles: what comes out is what comes out of the whole."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import tiny
from sfumato.nets import tiled_vae
from sfumato.nets.vae import VAE
from sfumato.pipeline import latents as picture
from sfumato.spec import VAEConfig

CFG = VAEConfig(channels=(8, 8, 16), blocks=1, groups=4)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_vae, "SIDE", 32)


def varied(*shape: int) -> Tensor:
    """Noise that changes across the picture, so that no tile has the statistics of the whole."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(*shape[:2], 2, 3, generator=generator)
    return F.interpolate(coarse, size=shape[2:], mode="bicubic") + 0.3 * torch.randn(shape, generator=generator)


def network(cfg: VAEConfig = CFG) -> VAE:
    return tiny.randomise(VAE(cfg))


@torch.no_grad()
def test_tiles_make_the_same_of_pictures_as_the_whole() -> None:
    vae, x = network(), varied(2, 3, 72, 104)
    moments = vae.encode(x)
    assert (tiled_vae.encode(vae, x) - moments).abs().max() <= 1e-3 * moments.std()
    whole = vae.decode(moments[:, :4])
    assert (tiled_vae.decode(vae, moments[:, :4]) - whole).abs().max() <= 1e-3 * whole.std()


@torch.no_grad()
def test_the_network_is_left_as_it_was() -> None:
    vae, z = network(), varied(1, 4, 12, 12)
    before = {name: type(module) for name, module in vae.named_modules()}
    first = tiled_vae.decode(vae, z)
    assert {name: type(module) for name, module in vae.named_modules()} == before
    vae.decoder.conv_out.bias += 1  # the tiles' layers are not copies
    assert torch.allclose(tiled_vae.decode(vae, z), first + 1, atol=1e-5)


@pytest.mark.parametrize("cfg", [CFG, VAEConfig(channels=(8, 8, 8, 8), blocks=2, groups=2)])
def test_margins_are_as_wide_as_convolutions_reach(cfg: VAEConfig) -> None:
    vae, width = network(cfg), 32
    for half in (vae.encoder, vae.decoder):
        for module in list(half.modules()):
            for name, child in module.named_children():
                if isinstance(child, torch.nn.GroupNorm):
                    setattr(module, name, torch.nn.Identity())  # norms are the one thing that reaches everywhere

    def reach(layers: Callable[[Tensor], Tensor], x: Tensor, place: slice) -> tuple[int, int]:
        """The first and the last column of x on which these columns of the result depend."""
        x.requires_grad_(True)
        layers(x)[..., place].sum().backward()
        columns = x.grad.abs().sum((0, 1, 2)).nonzero()
        return columns.min().item(), columns.max().item()

    middle, factor = width // 2, cfg.factor
    coarse = torch.randn(1, cfg.channels[-1], 4, width)
    first, last = reach(vae.decoder.finish, coarse, slice(middle * factor, (middle + 1) * factor))
    assert max(middle - first, last - middle) == tiled_vae.decoder_halo(cfg)
    first, last = reach(vae.encoder.start, torch.randn(1, 3, 16, width * factor), slice(middle, middle + 1))
    furthest = max(middle * factor - first, last - (middle + 1) * factor + 1)
    assert furthest <= tiled_vae.encoder_halo(cfg) < furthest + factor


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision(dtype: torch.dtype) -> None:
    vae, z = network().to(dtype), varied(1, 4, 16, 16).to(dtype)
    whole = vae.decode(z)
    assert (tiled_vae.decode(vae, z).float() - whole.float()).abs().max() <= 0.1 * whole.float().std()


def test_large_pictures_take_this_way_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "TILED_ABOVE", 48 * 48)
    vae, taken = network(), []
    for name in ("encode", "decode"):
        usual = getattr(tiled_vae, name)
        monkeypatch.setattr(tiled_vae, name, lambda vae, x, usual=usual: taken.append(x.shape[2]) or usual(vae, x))
    for tiled, expected in ((None, [13, 52]), (False, []), (True, [12, 48, 13, 52])):
        vae.tiled = tiled
        for side in (48, 52, 50):
            if side != 50:
                assert picture.decode(vae, torch.zeros(1, 4, side // 4, side // 4)).size == (side, side)
            picture.encode(vae, torch.zeros(1, 3, side, side))  # 50 is no whole number of latents
        assert taken == expected
        taken.clear()
