"""Networks made worse, against diffusers' perturbed attention; they are views that leave the network as it is."""

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0, PAGJointAttnProcessor2_0
from torch import nn

from sfumato.diffusion.cond import Cond
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.perturbed import self_attentions, without_layers, without_self_attention
from sfumato.nets.unet import UNet
from sfumato.spec import MMDiTConfig, UNetConfig

SMALL = UNetConfig(channels=(32, 64), blocks=1, depth=(1, 1), context_dim=24, heads=4)
TRANSFORMER = MMDiTConfig(hidden=64, heads=2, depth=3, context_dim=24, pooled_dim=16, positions=8, patch=2)


@pytest.fixture
def unet() -> tuple[UNet, UNet2DConditionModel]:
    torch.manual_seed(0)
    theirs = UNet2DConditionModel(
        block_out_channels=SMALL.channels,
        layers_per_block=SMALL.blocks,
        down_block_types=["CrossAttnDownBlock2D"] * 2,
        up_block_types=["CrossAttnUpBlock2D"] * 2,
        cross_attention_dim=SMALL.context_dim,
        attention_head_dim=4,
    ).eval()
    ours = UNet(SMALL).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.fixture
def transformer() -> tuple[MMDiT, SD3Transformer2DModel]:
    torch.manual_seed(0)
    theirs = SD3Transformer2DModel(
        sample_size=8,
        num_layers=TRANSFORMER.depth,
        attention_head_dim=32,
        num_attention_heads=2,
        joint_attention_dim=TRANSFORMER.context_dim,
        caption_projection_dim=64,
        pooled_projection_dim=TRANSFORMER.pooled_dim,
        out_channels=16,
        pos_embed_max_size=TRANSFORMER.positions,
    ).eval()
    ours = MMDiT(TRANSFORMER).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def perturb(theirs: nn.Module, layer: str, processor: object) -> None:
    for name, module in theirs.named_modules():
        if name.startswith(layer) and name.endswith(("attn", "attn1")):
            module.processor = processor


@pytest.mark.parametrize(
    ("asked", "layer"), [((), "mid_block"), (("down_blocks.1",), "down_blocks.1"), (("up_blocks",), "up_blocks")]
)
@torch.no_grad()
def test_a_u_net_whose_self_attention_is_the_identity(unet, asked: tuple[str, ...], layer: str) -> None:
    ours, theirs = unet
    x, t, tokens = torch.randn(1, 4, 8, 12), torch.tensor([500.0]), torch.randn(1, 7, 24)
    before = ours(x, t, Cond(tokens))
    perturb(theirs, layer, PAGIdentitySelfAttnProcessor2_0())
    # diffusers perturbs the second half of a batch.
    whole, worse = theirs(torch.cat([x, x]), t, torch.cat([tokens, tokens])).sample.split(1)
    assert torch.allclose(without_self_attention(ours, asked)(x, t, Cond(tokens)), worse, atol=1e-5)
    assert not torch.allclose(whole, worse, atol=1e-4)
    assert torch.equal(ours(x, t, Cond(tokens)), before)


@pytest.mark.parametrize(
    ("asked", "layer"), [((), "transformer_blocks.1"), (("transformer_blocks.2",), "transformer_blocks.2")]
)
@torch.no_grad()
def test_a_transformer_whose_picture_sees_itself_place_by_place(
    transformer, asked: tuple[str, ...], layer: str
) -> None:
    ours, theirs = transformer
    x, t, tokens, pooled = torch.randn(1, 16, 8, 12), torch.tensor([500.0]), torch.randn(1, 7, 24), torch.randn(1, 16)
    perturb(theirs, layer, PAGJointAttnProcessor2_0())
    both = (torch.cat([one, one]) for one in (x, tokens, pooled))
    _, worse = theirs(*both, t.expand(2)).sample.split(1)
    cond = Cond(tokens, pooled)
    assert torch.allclose(without_self_attention(ours, asked)(x, t, cond), worse, atol=1e-5)
    assert not torch.allclose(ours(x, t, cond), worse, atol=1e-4)


@torch.no_grad()
def test_a_transformer_without_layers_is_that_of_the_others(transformer) -> None:
    ours, theirs = transformer
    cond = Cond(torch.randn(1, 7, 24), torch.randn(1, 16))
    x, t = torch.randn(1, 16, 8, 8), torch.tensor([300.0])
    expected = theirs(x, cond.tokens, cond.pooled, t, skip_layers=[1]).sample
    assert torch.allclose(without_layers(ours, (1,))(x, t, cond), expected, atol=1e-5)
    assert len(ours.transformer_blocks) == 3


def test_views_hold_no_weights_of_their_own(unet) -> None:
    ours, _ = unet
    view = without_self_attention(ours)
    assert {id(weight) for weight in view.parameters()} == {id(weight) for weight in ours.parameters()}


def test_levels_that_only_see_the_text_have_no_self_attention() -> None:
    net = UNet(UNetConfig(channels=(32, 64), blocks=1, depth=(1, 1), context_dim=24, heads=4, cross_only=(True, False)))
    assert not any(name.startswith(("down_blocks.0", "up_blocks.1")) for name in self_attentions(net))
    with pytest.raises(ValueError, match=r"no self-attention in 'up_blocks\.1'; it has them in down_blocks\.1\."):
        without_self_attention(net, ("up_blocks.1",))
