"""The transformer of 3 and 3.5 beside diffusers'."""

from dataclasses import replace

import pytest
import torch
from diffusers import SD3Transformer2DModel

from sfumato.diffusion.cond import Cond
from sfumato.nets.mmdit import Attention, MMDiT, Patches
from sfumato.spec import MMDiTConfig


@pytest.mark.parametrize("count", [4, 2])
@torch.no_grad()
def test_control_adds_to_the_picture_after_every_block_but_the_last(count: int) -> None:
    torch.manual_seed(0)
    cfg = MMDiTConfig(hidden=64, heads=2, depth=4, context_dim=24, pooled_dim=16, positions=8)
    theirs = SD3Transformer2DModel(
        sample_size=8,
        num_layers=cfg.depth,
        attention_head_dim=32,
        num_attention_heads=cfg.heads,
        joint_attention_dim=cfg.context_dim,
        caption_projection_dim=cfg.hidden,
        pooled_projection_dim=cfg.pooled_dim,
        out_channels=16,
        pos_embed_max_size=cfg.positions,
    ).eval()
    ours = MMDiT(cfg).eval()
    ours.load_state_dict(theirs.state_dict())
    x, t, cond = torch.randn(2, 16, 8, 12), torch.tensor([500.0, 20.0]), Cond(torch.randn(2, 7, 24), torch.randn(2, 16))
    control = tuple(torch.randn(2, 24, cfg.hidden) for _ in range(count))
    expected = theirs(x, cond.tokens, cond.pooled, t, block_controlnet_hidden_states=list(control)).sample
    assert torch.allclose(ours(x, t, cond, control), expected, atol=1e-5)
    assert not torch.allclose(ours(x, t, cond), expected, atol=1e-2)


@torch.no_grad()
def test_attention_mixes_values_by_the_softmax_of_projected_queries_and_keys() -> None:
    torch.manual_seed(0)
    attention = Attention(MMDiTConfig(hidden=16, heads=2, qk_norm=True), joint=True)
    x, text = torch.randn(3, 5, 16), torch.randn(3, 4, 16)
    q, k, v = attention.projected(x, text)
    assert q.shape == k.shape == v.shape == (3, 2, 9, 8)
    mixed = ((q @ k.mT / 8**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
    picture, words = attention(x, text)
    assert torch.allclose(attention.to_out[0](mixed[:, :5]), picture, atol=1e-5)
    assert torch.allclose(attention.to_add_out(mixed[:, 5:]), words, atol=1e-5)
    alone, nothing = attention(x)
    assert nothing is None and not torch.allclose(alone, picture, atol=1e-2)


def test_pictures_larger_than_those_of_training_stretch_their_positions() -> None:
    cfg = MMDiTConfig(hidden=8, heads=1, depth=1, context_dim=8, pooled_dim=8, positions=8)
    whole, seen = Patches(cfg), Patches(replace(cfg, seen=4))
    table = torch.arange(64.0).view(1, 64, 1).expand(1, 64, 8)
    for patches in (whole, seen):
        patches.get_buffer("pos_embed").copy_(table)
    assert torch.equal(seen.positions(4, 2), whole.positions(4, 2))
    assert torch.equal(whole.positions(8, 8), table)
    large, small = seen.positions(7, 4).unflatten(1, (7, 4)), seen.positions(4, 4).unflatten(1, (4, 4))
    assert torch.allclose(large[:, ::2], small), "every second place is one that training showed"
    assert torch.allclose(large[:, 1::2], (small[:, :-1] + small[:, 1:]) / 2)
