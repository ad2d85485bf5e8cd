"""SVDQuant's weights are read as Nunchaku keeps them, and ours are written in that order."""

import json

import pytest
import torch

from sfumato.checkpoint.formats import safetensors_file, svdquant
from sfumato.checkpoint.open import open_checkpoint, open_file
from sfumato.errors import SfumatoError
from sfumato.loading.conversion.quantised import svdquant_parts
from sfumato.loading.convert import convert
from sfumato.loading.load import load_parts


def layer(n=256, k=128, name="block.to_out.0"):
    torch.manual_seed(1)
    weight = torch.randn(n, k) / 10
    return weight, {f"{name}.{part}": value for part, value in svdquant_parts(weight).items()}


def written(tmp_path, tensors, metadata=None):
    path = tmp_path / "layer.safetensors"
    heads = {name: (tuple(one.shape), one.dtype) for name, one in tensors.items()}
    safetensors_file.write(path, heads, tensors.__getitem__, metadata)
    return path


def test_the_order_of_scales():
    order = svdquant.pack_scales(torch.arange(128)[:, None]).flatten().tolist()
    # What the first threads of a GPU take up, as the comments of Nunchaku's packer list it.
    assert order[:20] == [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15, 16, 17, 24, 25]
    assert order[-4:] == [118, 119, 126, 127]


def test_the_order_of_digits():
    place = {}
    for n, k in ((0, 0), (0, 1), (0, 8), (1, 0), (0, 32), (8, 0), (16, 0), (0, 64)):
        digits = torch.zeros(128, 128, dtype=torch.int8)
        digits[n, k] = 1
        packed = svdquant.pack_digits(digits).flatten()
        place[n, k] = int(packed.nonzero()), int(packed.max())
    # A thread holds 8 inputs in 4 bytes, 4 threads share an output, 8 outputs follow; then the second halves of 16x64.
    assert place[0, 0] == (0, 1) and place[0, 1] == (0, 16)
    assert place[0, 8] == (16, 1) and place[1, 0] == (64, 1)
    assert place[0, 32] == (4, 1) and place[8, 0] == (8, 1) and place[16, 0] == (512, 1) and place[0, 64] == (4096, 1)


def test_both_directions():
    torch.manual_seed(0)
    digits = torch.randint(-8, 8, (256, 384), dtype=torch.int8)
    assert torch.equal(svdquant.unpack_digits(svdquant.pack_digits(digits)), digits)
    down, up, scales = torch.randn(32, 384), torch.randn(256, 32), torch.randn(256, 6)
    assert torch.equal(svdquant.unpack_low_rank(svdquant.pack_low_rank(down, True), True), down)
    assert torch.equal(svdquant.unpack_low_rank(svdquant.pack_low_rank(up, False), False), up)
    assert torch.equal(svdquant.unpack_scales(svdquant.pack_scales(scales)), scales)


def test_a_layer(tmp_path):
    weight, tensors = layer()
    bias = torch.arange(256.0)
    tensors["block.to_out.0.bias"] = svdquant.pack_scales(bias[:, None]).flatten()
    with open_file(written(tmp_path, tensors)) as checkpoint:
        assert set(checkpoint.tensors) == {"block.to_out.0.weight", "block.to_out.0.bias"}
        assert torch.equal(checkpoint.read("block.to_out.0.bias"), bias)
        lost = checkpoint.read("block.to_out.0.weight") - weight
        assert lost.norm() < 0.1 * weight.norm()


def test_query_key_and_value_are_stored_together(tmp_path):
    weight, tensors = layer(384, 128, "attn1.to_qkv")
    with open_file(written(tmp_path, tensors)) as checkpoint:
        parts = [checkpoint.read(f"attn1.to_{name}.weight") for name in "qkv"]
    assert [part.shape for part in parts] == [(128, 128)] * 3
    assert (torch.cat(parts) - weight).norm() < 0.1 * weight.norm()


def test_what_outliers_are_taken_up_by(tmp_path):
    torch.manual_seed(2)
    weight = torch.randn(128, 128) / 10 + 20 * torch.randn(128, 1) @ torch.randn(1, 128)
    tensors = {f"x.{part}": value for part, value in svdquant_parts(weight).items()}
    with open_file(written(tmp_path, tensors)) as checkpoint:
        assert (checkpoint.read("x.weight") - weight).norm() < 0.005 * weight.norm()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x.wcscales": torch.ones(256)}, "NVFP4 or AWQ"),
        ({"x.smooth": None}, "lacks 'x.smooth', which its qweight needs"),
        ({"x.smooth": torch.ones(64)}, r"holds 'x\.smooth' of another size"),
        ({"x.qweight": torch.zeros(256, 60, dtype=torch.int8)}, "of another size"),
        ({"x.bias": torch.ones(7)}, r"holds 'x\.bias' of another size"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, text):
    tensors = layer(name="x")[1] | change
    path = written(tmp_path, {name: one for name, one in tensors.items() if one is not None})
    with pytest.raises(SfumatoError, match=text):
        open_file(path)


@pytest.mark.parametrize("shapes", ["{", '{"shapes": {"x": ["a"]}}', '{"shapes": {"x": [999, 999]}}', "[]"])
def test_a_wrong_description_is_named(tmp_path, shapes):
    with pytest.raises(SfumatoError, match=r"describes its quantisation wrongly|states the shape"):
        open_file(written(tmp_path, layer(name="x")[1], {svdquant.CONFIG: shapes}))


@pytest.mark.parametrize(("kind", "lost"), [("fp8", 0.04), ("int8", 0.02), ("svdq-int4", 0.12)])
def test_a_model_is_quantised_and_loads_again(tiny, write, tmp_path, kind, lost):
    source, out = write(tiny.original(torch.float16)), tmp_path / "small.safetensors"
    proof = convert(source, out, "original", quantise=kind)
    assert 0 < max(row.error for row in proof.rows) < 1 and not proof.exact
    plain, small = load_parts(source), load_parts(out)
    assert small.spec == plain.spec
    changed = 0
    for part, network in plain.networks.items():
        for name, weight in network.state_dict().items():
            other = small.networks[part].state_dict()[name]
            changed += not torch.equal(other, weight)
            assert (other - weight).norm() <= (lost if part == "unet" and weight.dim() > 1 else 0) * weight.norm(), name
    assert changed == sum(row.error > 0 for row in proof.rows) > 3
    with open_checkpoint(out) as checkpoint:
        assert (svdquant.CONFIG in checkpoint.metadata) == (kind == "svdq-int4")
        if kind == "svdq-int4":
            assert json.loads(checkpoint.metadata[svdquant.CONFIG])["rank"] == 32


def test_an_unknown_kind_is_named(tiny, write, tmp_path):
    with pytest.raises(SfumatoError, match="unknown kind of quantisation 'int3'"):
        convert(write(tiny.original()), tmp_path / "x.safetensors", "original", quantise="int3")
