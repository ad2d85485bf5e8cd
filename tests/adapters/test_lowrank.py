"""Differences of low rank: as if added to the weights, and alone in learning."""

import copy

import torch
from torch import nn
from torch.nn.utils import parametrize

from sfumato.adapters.lowrank import Adapter, delta
from sfumato.diffusion.cond import Cond
from sfumato.nets.unet import UNet
from sfumato.spec import UNetConfig

SIZES = UNetConfig(channels=(16, 32), blocks=1, depth=(0, 1), context_dim=12, heads=2, groups=8)


def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(SIZES).eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor, Cond]:
    generator = torch.Generator().manual_seed(1)
    x, tokens = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    return x, torch.tensor([10.0, 700.0]), Cond(tokens)


def stirred(adapter: Adapter) -> None:
    generator = torch.Generator().manual_seed(2)
    for value in adapter.parameters():
        value.data.copy_(0.1 * torch.randn(value.shape, generator=generator))


def test_a_difference_is_the_product_of_its_factors() -> None:
    up, down = torch.randn(6, 2), torch.randn(2, 36)
    change = delta(up, down, (6, 4, 3, 3))
    assert torch.linalg.matrix_rank(change.flatten(1)) == 2
    assert torch.allclose(change[3, 1, 2, 0], up[3] @ down[:, 1 * 9 + 2 * 3])


def test_a_new_adapter_changes_nothing() -> None:
    network, again = unet(), unet()
    Adapter(again, 4)
    assert torch.equal(network(*inputs()), again(*inputs()))


def test_an_adapter_computes_what_the_merged_weights_do() -> None:
    network, wrapped = unet(), unet()
    adapter = Adapter(wrapped, 4, whole=("conv_in.weight",))
    stirred(adapter)
    deltas = dict(adapter.deltas())
    assert deltas.keys() == network.state_dict().keys()
    merged = copy.deepcopy(network)
    merged.load_state_dict({name: value + deltas[name] for name, value in network.state_dict().items()})
    assert torch.allclose(wrapped(*inputs()), merged(*inputs()), atol=1e-5)
    assert not torch.allclose(wrapped(*inputs()), network(*inputs()), atol=1e-2)


def test_large_weights_get_factors_and_small_ones_every_value() -> None:
    tensors = Adapter(unet(), 4, whole=("conv_in.weight",)).tensors()
    assert tensors["mid_block.resnets.0.conv1.weight.up"].shape == (32, 4)
    assert tensors["mid_block.resnets.0.conv1.weight.down"].shape == (4, 32 * 9)
    assert tensors["conv_in.weight.full"].shape == (16, 4, 3, 3)
    assert tensors["mid_block.resnets.0.norm1.bias.full"].shape == (32,)


def test_only_the_adapter_learns() -> None:
    network = unet()
    before = copy.deepcopy(network.state_dict())
    adapter = Adapter(network, 4)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    assert sum(p.numel() for p in optimizer.param_groups[0]["params"]) == sum(p.numel() for p in adapter.parameters())
    network(*inputs()).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(network.get_parameter(_original(network, name)), value) for name, value in before.items())
    assert any(value.any() for _, value in adapter.deltas())


def _original(network: nn.Module, name: str) -> str:
    path, _, own = name.rpartition(".")
    assert parametrize.is_parametrized(network.get_submodule(path), own)
    return f"{path}.parametrizations.{own}.original"


def test_an_adapter_goes_on_from_another() -> None:
    first, second = Adapter(unet(), 4), Adapter(unet(), 4)
    stirred(first)
    second.load(first.tensors())
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first.deltas(), second.deltas(), strict=True))
