"""Self-attentions that merge places: which, into what, and that each gets something back."""

import pytest
import torch

import tiny
from sfumato.diffusion.cond import Cond
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.perturbed import without_self_attention
from sfumato.nets.seamless import seamless
from sfumato.nets.token_merging import Matching, MergedAttention, with_token_merging
from sfumato.nets.unet import UNet
from sfumato.spec import MMDiTConfig, UNetConfig

UNET = UNetConfig(channels=(32, 64, 64), blocks=1, depth=(0, 1, 1), context_dim=24, heads=2)
TRANSFORMER = MMDiTConfig(
    in_channels=4, hidden=32, heads=2, depth=2, context_dim=24, pooled_dim=16, positions=12, patch=2
)
SIZES = ((8, 8), (8, 12), (7, 5), (2, 2))


def network(kind: str) -> torch.nn.Module:
    torch.manual_seed(1)
    return tiny.randomise(UNet(UNET) if kind == "unet" else MMDiT(TRANSFORMER))


def asked(net: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    tokens, pooled = torch.randn(1, 5, 24, generator=generator), torch.randn(1, 16, generator=generator)
    return net(x, torch.full((len(x),), 400.0), Cond(tokens.expand(len(x), -1, -1), pooled.expand(len(x), -1)))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_what_is_equal_is_merged_without_loss(height: int, width: int) -> None:
    """A map of few colours: with half of its places gone every place still has its own."""
    colours = torch.randn(2, 2, 6)
    half = torch.arange(height * width) // width % 2
    x = colours[:, half] if height * width > 4 else colours[:, half * 0]
    matching = Matching(x, height, width, 0.25)
    merged = matching.merged(x)
    assert merged.shape == (2, height * width - int(0.25 * height * width), 6)
    assert torch.allclose(matching.unmerged(merged), x, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_merged_token_is_the_mean_and_goes_back_to_all_it_came_from(height: int, width: int) -> None:
    x = torch.randn(2, height * width, 6)
    matching = Matching(x, height, width, 0.5)
    merged = matching.merged(x)
    back = matching.unmerged(merged)
    for row in range(2):
        for token in merged[row]:
            places = (back[row] == token).all(1).nonzero().flatten()
            assert len(places) and torch.allclose(x[row, places].mean(0), token, atol=1e-5)
    assert torch.equal(Matching(x[1:], height, width, 0.5).merged(x[1:]), merged[1:]), "whatever is drawn beside it"


@pytest.mark.parametrize("kind", ["unet", "mmdit"])
@torch.no_grad()
def test_a_share_of_0_is_the_network_and_a_larger_one_differs_more(kind: str) -> None:
    net, x = network(kind), torch.randn(2, 4, 16, 24)
    plain = asked(net, x)
    distance = [float((asked(with_token_merging(net, share), x) - plain).square().mean()) for share in (0, 0.25, 0.75)]
    assert distance[0] < 1e-10 < distance[1] < distance[2] < float(plain.square().mean())
    assert torch.equal(asked(net, x), plain), "the network itself stays as it is"


@torch.no_grad()
def test_only_the_finest_maps_of_a_unet_are_merged() -> None:
    merging = with_token_merging(network("unet"), 0.5)
    names = [name for name, module in merging.named_modules() if isinstance(module, MergedAttention)]
    assert names and all(
        name.startswith(("down_blocks.1.", "up_blocks.1.")) and name.endswith("attn1") for name in names
    )
    lengths: list[int] = []
    for module in merging.modules():
        if isinstance(module, MergedAttention):
            module.attention.register_forward_hook(lambda module, given, result: lengths.append(given[0].shape[1]))
    asked(merging, torch.randn(1, 4, 10, 14))
    assert set(lengths) == {5 * 7 - 17}


@torch.no_grad()
def test_other_views_are_made_of_it() -> None:
    net, x = network("mmdit"), torch.randn(1, 4, 16, 16)
    merging = with_token_merging(net, 0.5)
    assert not torch.equal(asked(with_token_merging(without_self_attention(net), 0.5), x), asked(merging, x))
    tiled = seamless(merging, True, True)
    assert asked(tiled, x).shape == x.shape and not torch.equal(asked(tiled, x), asked(seamless(net, True, True), x))
