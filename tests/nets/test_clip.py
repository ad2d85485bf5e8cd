"""CLIP's text transformer against transformers'."""

from dataclasses import replace

import pytest
import torch
from transformers import CLIPTextConfig as PeerConfig
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sfumato.nets.clip import CLIPText
from sfumato.spec import CLIPTextConfig

CFG = CLIPTextConfig(
    vocab_size=100, hidden_size=32, intermediate_size=64, layers=3, heads=4, max_length=12, bos_token_id=98,
    eos_token_id=99, pad_token_id=99,
)  # fmt: skip
IDS = torch.tensor([[98, 5, 17, 3, 99, 99, 99, 99], [98, 1, 2, 3, 4, 5, 6, 99]])


def pair(cfg: CLIPTextConfig) -> tuple[CLIPText, torch.nn.Module]:
    torch.manual_seed(0)
    config = PeerConfig(
        vocab_size=cfg.vocab_size,
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.intermediate_size,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        max_position_embeddings=cfg.max_length,
        hidden_act=cfg.activation,
        bos_token_id=cfg.bos_token_id,
        eos_token_id=cfg.eos_token_id,
        pad_token_id=cfg.pad_token_id,
        projection_dim=cfg.projection_dim or 512,
    )
    theirs = (CLIPTextModelWithProjection if cfg.projection_dim else CLIPTextModel)(config).eval()
    ours = CLIPText(cfg).eval()
    # transformers 5 drops the prefix in memory that every file has.
    state = {
        name if name.startswith("text_") else f"text_model.{name}": tensor
        for name, tensor in theirs.state_dict().items()
        if not name.endswith("position_ids")
    }
    ours.load_state_dict(state, strict=True)
    return ours, theirs


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_equals_transformers(activation: str) -> None:
    ours, theirs = pair(replace(CFG, activation=activation))
    states, expected = ours(IDS), theirs(IDS, output_hidden_states=True)
    assert torch.allclose(states.last, expected.last_hidden_state, atol=1e-5)
    assert torch.allclose(states.pooled, expected.pooler_output, atol=1e-5)
    assert len(states.hidden) == CFG.layers + 1
    for mine, theirs_hidden in zip(states.hidden[:-1], expected.hidden_states, strict=False):
        assert torch.allclose(mine, theirs_hidden, atol=1e-5)


@torch.no_grad()
def test_the_projection_has_its_released_name() -> None:
    ours, theirs = pair(replace(CFG, projection_dim=16))
    assert torch.allclose(ours.text_projection(ours(IDS).pooled), theirs(IDS).text_embeds, atol=1e-5)


@torch.no_grad()
def test_clip_skip_reads_an_earlier_layer_with_the_final_norm() -> None:
    ours, _ = pair(CFG)
    states = ours(IDS)
    assert torch.equal(states.skip(1), states.last)
    assert torch.equal(states.skip(2), ours.text_model.final_layer_norm(states.hidden[-2]))
    assert not torch.allclose(states.skip(2), states.last, atol=1e-2)


@torch.no_grad()
def test_later_tokens_do_not_reach_earlier_ones() -> None:
    ours, _ = pair(CFG)
    changed = IDS.clone()
    changed[:, 5:] = 7
    assert torch.allclose(ours(IDS).last[:, :5], ours(changed).last[:, :5], atol=1e-6)
    assert torch.allclose(ours(IDS[:, :5]).last, ours(IDS).last[:, :5], atol=1e-5)
