"""Products in 8 bits against exact ones, and attention by two products against torch's own."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import sfumato
from sfumato.errors import SfumatoError
from sfumato.nets import layers
from sfumato.nets.attend import attend
from sfumato.nets.int8 import use_int8, uses_int8
from sfumato.nets.layers import Conv2d, Linear, multiplies_bfloat16, multiplies_int8
from sfumato.nets.unet import Pointwise

can = pytest.mark.skipif(not multiplies_int8(), reason="this processor does not multiply in 8 bits")
KINDS = {
    "linear": (Linear(96, 48), (2, 33, 96)),
    "linear without bias": (Linear(96, 48, bias=False), (2, 33, 96)),
    "pointwise": (Pointwise(64, 32), (2, 35, 64)),
    "convolution": (Conv2d(32, 48, 3), (2, 32, 9, 7)),
    "strided": (Conv2d(32, 48, 3, stride=2), (2, 32, 9, 8)),
    "shortcut": (Conv2d(32, 48, 1), (2, 32, 8, 8)),
}


def off(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@can
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_layers_are_nearly_exact_and_rows_do_not_touch_each_other(kind: str, dtype: torch.dtype) -> None:
    layer, shape = copy.deepcopy(KINDS[kind][0]).to(dtype), KINDS[kind][1]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    exact = layer(x)
    layer.int8 = True
    rounded = layer(x)
    assert rounded.dtype == dtype and rounded.shape == exact.shape
    assert 1e-4 < off(rounded, exact) < 0.02
    beside = torch.cat([x[:1], 1000 * x[1:]])
    assert torch.equal(layer(beside)[:1], rounded[:1])
    assert not layer(torch.zeros_like(x)).isnan().any()


@can
@torch.no_grad()
def test_changed_weights_are_rounded_anew() -> None:
    layer, x = Linear(96, 48), torch.randn(2, 33, 96)
    layer.int8 = True
    before = layer(x)
    layer.weight.mul_(2)
    assert off(layer(x) - layer.bias, 2 * (before - layer.bias)) < 1e-5
    layer.to(torch.bfloat16)
    assert off(layer(x.bfloat16()), F.linear(x.bfloat16(), layer.weight, layer.bias)) < 0.02


@can
def test_gradients_and_vectors_are_exact() -> None:
    layer = Linear(96, 48)
    layer.int8 = True
    x, vector = torch.randn(2, 33, 96), torch.randn(2, 96)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    with torch.no_grad():
        assert torch.allclose(layer(vector), F.linear(vector, layer.weight, layer.bias), atol=1e-5)


@can
def test_a_model_is_put_in_8_bits_and_back() -> None:
    sd = sfumato.load(dtype="int8")
    assert "int8 and " in repr(sd)
    assert uses_int8(sd.denoiser.network)
    assert not getattr(sd.denoiser.network.get_submodule("proj_out"), "int8", False)
    assert "int8" not in repr(sd.to(dtype="float32"))
    assert "int8" in repr(sd.to(dtype="int8"))
    with pytest.raises(SfumatoError, match="leave `memory` out"):
        sfumato.load(dtype="int8", memory="4G")


@can
def test_a_model_draws_nearly_the_same_with_a_lora_too() -> None:
    exact, rounded = sfumato.load(), sfumato.load(dtype="int8")
    for lora in ([], ["sepia"]):
        pictures = [sd.txt2img("a red heart", seed=3, steps=4, lora=lora).images[0] for sd in (exact, rounded)]
        one, other = (np.asarray(picture, float) for picture in pictures)
        assert 0 < np.abs(one - other).mean() < 4


def test_other_processors_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.pipeline.load.multiplies_int8", lambda: False)
    with pytest.raises(SfumatoError, match="AVX-512 VNNI or AMX, which this machine lacks; choose auto"):
        sfumato.load(dtype="int8")


def test_nothing_else_of_a_network_changes() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), Linear(4, 4))
    use_int8(network)
    assert [getattr(one, "int8", None) for one in network] == [None, True]


@pytest.mark.skipif(not multiplies_bfloat16(), reason="this processor does not multiply bfloat16")
@pytest.mark.parametrize("fits", [1 << 20, 700, 100])
@torch.no_grad()
def test_attention_is_torchs_however_few_scores_fit(fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.nets.attend.FITS", fits)
    q, k, v = (torch.randn(2, length, 3, 40).bfloat16().transpose(1, 2) for length in (21, 33, 33))
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    assert layers.shorter(q, k, v)
    assert off(attend(q, k, v), expected) < 0.01
