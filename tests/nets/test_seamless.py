"""Networks whose maps have no edges: what is moved around comes out moved around."""

import pytest
import torch

import tiny
from sfumato.diffusion.cond import Cond
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.seamless import seamless
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import MMDiTConfig, UNetConfig, VAEConfig

UNET = UNetConfig(channels=(32, 64), depth=(1, 0), blocks=1, context_dim=32, heads=2)
AXES = {"x": (False, True), "y": (True, False), "both": (True, True)}


@pytest.mark.parametrize("tiling", AXES)
@torch.no_grad()
def test_moving_around_the_edge_changes_nothing_else(tiling: str) -> None:
    y, x = AXES[tiling]
    unet = tiny.randomise(UNet(UNET))
    vae = tiny.randomise(VAE(VAEConfig(channels=(8, 8, 8), blocks=1, groups=2)))
    wrapped_unet, wrapped_vae = seamless(unet, x, y), seamless(vae, x, y)
    latents, cond, t = torch.randn(1, 4, 8, 12), Cond(torch.randn(1, 5, 32)), torch.tensor([300.0])
    layers = {
        "unet": (lambda z: wrapped_unet(z, t, cond), lambda z: unet(z, t, cond), latents, (2, 4), 1),
        "decoder": (wrapped_vae.decode, vae.decode, latents, (2, 4), 4),
        "encoder": (wrapped_vae.encode, vae.encode, torch.randn(1, 3, 16, 32), (8, 16), 0.25),
    }
    for name, (network, plain, given, by, factor) in layers.items():
        moves = {(by[0] * y, by[1] * x), (by[0] * y, 0), (0, by[1] * x)} - {(0, 0)}
        usual = network(given)
        for move in moves:
            expected = usual.roll([int(one * factor) for one in move], (2, 3))
            assert torch.allclose(network(given.roll(move, (2, 3))), expected, atol=1e-4), (name, move)
        for axis, wraps in ((2, y), (3, x)):
            if not wraps:
                moved = network(given.roll(by[axis - 2], axis))
                assert not torch.allclose(moved, usual.roll(int(by[axis - 2] * factor), axis), atol=1e-2), name
        assert not torch.allclose(plain(given), usual, atol=1e-2), name


@pytest.mark.parametrize("tiling", AXES)
@torch.no_grad()
def test_a_transformer_rolled_by_half_a_side_is_rolled(tiling: str) -> None:
    """Its estimate at an edge is that of the middle of the rolled picture; so is what control and concat add to it."""
    y, x = AXES[tiling]
    cfg = MMDiTConfig(
        in_channels=5, out_channels=4, hidden=32, heads=2, depth=2, context_dim=24, pooled_dim=16, positions=8
    )
    network = tiny.randomise(MMDiT(cfg))
    wrapped, t = seamless(network, x, y), torch.tensor([300.0, 700.0])
    tokens, pooled = torch.randn(2, 5, 24), torch.randn(2, 16)
    maps = {"x": torch.randn(2, 4, 8, 12), "concat": torch.randn(2, 1, 8, 12), "control": torch.randn(2, 32, 4, 6)}

    def ask(net: torch.nn.Module, by: tuple[int, int]) -> torch.Tensor:
        latents, concat = (maps[name].roll((2 * by[0], 2 * by[1]), (2, 3)) for name in ("x", "concat"))
        control = maps["control"].roll(by, (2, 3)).flatten(2).transpose(1, 2)
        return net(latents, t, Cond(tokens, pooled, concat=concat), (control,))

    usual, half = ask(wrapped, (0, 0)), (2 * y, 3 * x)
    assert torch.allclose(ask(wrapped, half), usual.roll((2 * half[0], 2 * half[1]), (2, 3)), atol=1e-5)
    assert not torch.allclose(ask(network, half), ask(network, (0, 0)).roll((4 * y, 6 * x), (2, 3)), atol=1e-2)
    seen = usual - ask(network, (0, 0))
    assert seen.abs().max() > 1e-2
    middle = (slice(None), slice(None), slice(3, 5) if y else slice(None), slice(5, 7) if x else slice(None))
    assert seen[middle].abs().mean() < seen.abs().mean() / 2, "what is far from the edges is as it was"


def test_weights_are_shared() -> None:
    unet = tiny.randomise(UNet(UNET))
    wrapped = seamless(unet, True, True)
    assert {id(one) for one in wrapped.parameters()} == {id(one) for one in unet.parameters()}
