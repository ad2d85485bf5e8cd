"""The shorter road against torch's own layers, and where it must not be taken."""

import pytest
import torch
import torch.nn.functional as F

from sfumato.nets import layers
from sfumato.nets.layers import Conv2d, Linear


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """What went the shorter road."""
    taken, product = [], layers._product
    monkeypatch.setattr(layers, "_product", lambda a, b, bias=None: taken.append(a.shape) or product(a, b, bias))
    return taken


# Coarse with many channels, pointwise, strided, odd sides; and fine maps, which torch convolves.
MAPS = {
    "coarse": (Conv2d(48, 96, 3), (2, 48, 4, 5), True),
    "coarse, 5x5": (Conv2d(8, 96, 5), (1, 8, 6, 5), True),
    "coarse, strided": (Conv2d(48, 128, 3, stride=2), (2, 48, 5, 6), True),
    "pointwise": (Conv2d(24, 16, 1), (2, 24, 33, 9), True),
    "fine": (Conv2d(24, 16, 3), (2, 24, 32, 31), False),
}


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=str)
@torch.no_grad()
def test_convolution_is_torchs(kind: str, memory: torch.memory_format, products: list[torch.Size]) -> None:
    layer, shape, short = MAPS[kind]
    x = torch.randn(shape).to(memory_format=memory)
    expected = F.conv2d(x.double(), layer.weight.double(), layer.bias.double(), layer.stride, layer.padding).float()
    assert torch.allclose(layer(x), expected, atol=1e-5)
    assert bool(products) == short


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_linear_is_torchs_whatever_the_strides(bias: bool, products: list[torch.Size]) -> None:
    layer = Linear(40, 24, bias)
    wide = torch.randn(3, 50, 17)
    for x in (wide[:, :40].transpose(1, 2), wide[0, :40].T, wide[:, 5:45, 3], torch.randn(2, 3, 5, 40)):
        assert torch.allclose(layer(x), F.linear(x, layer.weight, layer.bias), atol=1e-5)
    assert len(products) == 4


@pytest.mark.parametrize("learns", ["weight", "bias", "input"])
def test_gradients_are_torchs(learns: str, products: list[torch.Size]) -> None:
    for layer, x in ((Linear(8, 64), torch.randn(2, 8)), (Conv2d(8, 64, 3), torch.randn(1, 8, 3, 3))):
        layer.requires_grad_(False)
        leaf = x if learns == "input" else getattr(layer, learns)
        leaf.requires_grad_(True)
        layer(x).sum().backward()
        assert leaf.grad is not None
    assert not products


@pytest.mark.parametrize("native", [True, False])
@torch.no_grad()
def test_bfloat16_goes_the_shorter_road_where_the_processor_multiplies_it(
    native: bool, products: list[torch.Size], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "multiplies_bfloat16", lambda: native)
    for layer, x, short in (
        (Linear(40, 24), torch.randn(2, 3, 40), native),
        (Conv2d(48, 96, 3), torch.randn(1, 48, 3, 3), native),
        (Conv2d(48, 96, 3), torch.randn(1, 48, 6, 6), False),  # coarse in float32 alone
    ):
        products.clear()
        expected = layer.double()(x.double())
        result = layer.bfloat16()(x.bfloat16())
        assert result.dtype == torch.bfloat16
        assert (result - expected).norm() < 0.01 * expected.norm()
        assert bool(products) == short


@torch.no_grad()
def test_other_precisions_are_torchs(products: list[torch.Size]) -> None:
    layer, x = Linear(8, 16), torch.randn(2, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    assert not products


def test_convolutions_in_float16_are_as_near_as_float16_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = layers.Conv2d(8, 6, 3).requires_grad_(False)
    x = torch.randn(2, 8, 12, 10, generator=torch.Generator().manual_seed(0))
    exact, layer = layer(x), layer.half()
    for native in (False, True):
        monkeypatch.setattr(layers, "multiplies_float16", lambda native=native: native)
        found = layer(x.half())
        assert found.dtype == torch.float16 and torch.allclose(found.float(), exact, atol=4e-3)
