"""The depth network against transformers': the same weights by name, the same numbers."""

import pytest
import torch
from transformers import DPTConfig as TheirConfig
from transformers import DPTForDepthEstimation

from sfumato.nets.dpt import DPT
from sfumato.spec import DPTConfig

TINY = DPTConfig(
    stem=16, stages=(32, 64, 96), depths=(2, 1, 2), groups=8, positions=4, hidden=32, intermediate=48, layers=4,
    heads=2, neck=(32, 64, 24, 40), fusion=16,
)  # fmt: skip


def theirs(cfg: DPTConfig) -> DPTForDepthEstimation:
    return DPTForDepthEstimation(
        TheirConfig(
            is_hybrid=True,
            hidden_size=cfg.hidden,
            num_hidden_layers=cfg.layers,
            num_attention_heads=cfg.heads,
            intermediate_size=cfg.intermediate,
            layer_norm_eps=cfg.norm_eps,
            image_size=16 * cfg.positions,
            backbone_out_indices=[0, 1, *cfg.reads],
            reassemble_factors=[1, 1, 1, 0.5],
            neck_hidden_sizes=list(cfg.neck),
            fusion_hidden_size=cfg.fusion,
            backbone_featmap_shape=[1, cfg.stages[-1], cfg.positions, cfg.positions],
            backbone_config={
                "model_type": "bit",
                "global_padding": "same",
                "layer_type": "bottleneck",
                "embedding_size": cfg.stem,
                "hidden_sizes": list(cfg.stages),
                "depths": list(cfg.depths),
                "num_groups": cfg.groups,
                "out_features": ["stage1", "stage2", "stage3"],
                "embedding_dynamic_padding": True,
            },
        )
    ).eval()


@pytest.fixture(scope="module")
def pair() -> tuple[DPT, DPTForDepthEstimation]:
    torch.manual_seed(0)
    reference, ours = theirs(TINY), DPT(TINY).eval()
    for parameter in reference.parameters():  # some begin as zeros, which would hide what they do
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(reference.state_dict(), strict=True)
    return ours, reference


@torch.no_grad()
def test_equals_transformers(pair: tuple[DPT, DPTForDepthEstimation]) -> None:
    ours, reference = pair
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    expected = reference(x).predicted_depth
    assert expected.shape == (2, 64, 64) and expected.std() > 1
    assert (ours(x) - expected).abs().max() <= 2e-5 * expected.abs().max()


@torch.no_grad()
def test_other_shapes_stretch_the_positions(pair: tuple[DPT, DPTForDepthEstimation]) -> None:
    ours, reference = pair
    x = torch.rand(1, 3, 96, 32) * 2 - 1
    embeddings = reference.dpt.embeddings(x, interpolate_pos_encoding=True).last_hidden_states
    assert torch.allclose(ours.dpt.embeddings(x)[1], embeddings, atol=1e-5)
    assert ours(x).shape == (1, 96, 32)
    with pytest.raises(ValueError, match="32x48; its sides must be multiples of 32"):
        ours(torch.zeros(1, 3, 48, 32))


@torch.no_grad()
def test_half_precision_stays_half(pair: tuple[DPT, DPTForDepthEstimation]) -> None:
    ours, x = pair[0], torch.rand(1, 3, 64, 64) * 2 - 1
    half = DPT(TINY).eval()
    half.load_state_dict(ours.state_dict())
    result = half.bfloat16()(x.bfloat16())
    assert result.dtype == torch.bfloat16
    assert torch.allclose(result.float(), ours(x), atol=0.05 * ours(x).max())
