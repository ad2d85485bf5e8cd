"""The U-Net against diffusers': the same weights by name, the same numbers."""

import math
from dataclasses import replace

import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.nets.unet import UNet, sinusoidal
from sfumato.spec import UNetConfig

TINY = UNetConfig(channels=(32, 64), blocks=1, depth=(1, 0), context_dim=24, heads=4)
VARIANTS = {
    "1.x": TINY,
    "2.x": UNetConfig(channels=(32, 64), blocks=2, depth=(1, 1), context_dim=24, heads=None, head_dim=16,
                      linear_projection=True),
    "xl": UNetConfig(channels=(32, 64, 64), blocks=2, depth=(0, 2, 3), middle_depth=3, context_dim=24, heads=None,
                     head_dim=16, linear_projection=True),
    "inpainting": UNetConfig(in_channels=9, channels=(32, 64), blocks=1, depth=(1, 0), context_dim=24, heads=4),
    "four levels": UNetConfig(channels=(32, 32, 64, 64), blocks=1, depth=(1, 1, 1, 0), context_dim=16, heads=2),
    "one middle block": UNetConfig(channels=(32, 64, 64), blocks=2, depth=(0, 2, 3), middle_depth=3, middle_blocks=1,
                                   up_depth=((0, 0, 0), (2, 1, 1), (3, 2, 3)), context_dim=24, heads=4,
                                   linear_projection=True),
    "no middle": UNetConfig(channels=(32, 64), blocks=1, depth=(1, 1), middle_blocks=0, context_dim=24, heads=4),
}  # fmt: skip
MIDDLES = {2: "UNetMidBlock2DCrossAttn", 1: "UNetMidBlock2D", 0: None}


def peer(cfg: UNetConfig) -> UNet2DConditionModel:
    torch.manual_seed(0)
    heads = [cfg.heads_at(width) for width in cfg.channels]
    up_depth = [[depth or 1 for depth in level] for level in reversed(cfg.up_depth)]
    return UNet2DConditionModel(
        in_channels=cfg.in_channels,
        out_channels=cfg.out_channels,
        block_out_channels=cfg.channels,
        layers_per_block=cfg.blocks,
        down_block_types=["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in cfg.depth],
        up_block_types=["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(cfg.depth)],
        transformer_layers_per_block=[depth or cfg.middle_depth for depth in cfg.depth],
        cross_attention_dim=cfg.context_dim,
        attention_head_dim=heads,
        use_linear_projection=cfg.linear_projection,
        norm_num_groups=cfg.groups,
        mid_block_type=MIDDLES[cfg.middle_blocks],
        reverse_transformer_layers_per_block=up_depth or None,
        time_cond_proj_dim=cfg.guidance_dim,
    ).eval()


def pair(cfg: UNetConfig) -> tuple[UNet, UNet2DConditionModel]:
    theirs, ours = peer(cfg), UNet(cfg).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours, theirs


def inputs(cfg: UNetConfig, height: int = 16, width: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return (
        torch.randn(2, cfg.in_channels, height, width),
        torch.tensor([981.0, 17.25]),
        torch.randn(2, 7, cfg.context_dim),
    )


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_equals_diffusers(name: str) -> None:
    cfg = VARIANTS[name]
    ours, theirs = pair(cfg)
    x, t, tokens = inputs(cfg)
    assert torch.allclose(ours(x, t, Cond(tokens)), theirs(x, t, tokens).sample, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(9, 13), (10, 7), (33, 2)])
@torch.no_grad()
def test_odd_latents_keep_their_size(height: int, width: int) -> None:
    ours, theirs = pair(VARIANTS["four levels"])
    x, t, tokens = inputs(VARIANTS["four levels"], height, width)
    result = ours(x, t, Cond(tokens))
    assert result.shape == (2, 4, height, width)
    assert torch.allclose(result, theirs(x, t, tokens).sample, atol=1e-5)


@torch.no_grad()
def test_extra_channels_come_from_the_conditioning() -> None:
    ours, _ = pair(VARIANTS["inpainting"])
    x, t, tokens = inputs(VARIANTS["inpainting"])
    apart = ours(x[:, :4], t, Cond(tokens, concat=x[:, 4:]))
    assert torch.equal(apart, ours(x, t, Cond(tokens)))


@torch.no_grad()
def test_control_adds_to_every_skip_and_to_the_middle() -> None:
    ours, theirs = pair(TINY)
    x, t, tokens = inputs(TINY)
    shapes: list[torch.Size] = []
    hooks = [
        module.register_forward_hook(lambda _, __, result: shapes.append(result.shape))
        for module in (
            ours.conv_in,
            *(m for level in ours.down_blocks for m in (*level.resnets, *getattr(level, "downsamplers", ()))),
            ours.mid_block,
        )
    ]
    ours(x, t, Cond(tokens))
    for hook in hooks:
        hook.remove()
    control = tuple(torch.randn(shape) for shape in shapes)
    expected = theirs(
        x, t, tokens, down_block_additional_residuals=control[:-1], mid_block_additional_residual=control[-1]
    ).sample
    assert torch.allclose(ours(x, t, Cond(tokens), control), expected, atol=1e-5)
    assert not torch.allclose(ours(x, t, Cond(tokens)), expected, atol=1e-2)
    with pytest.raises(ValueError, match="shorter"):
        ours(x, t, Cond(tokens), (control[0], control[-1]))


@torch.no_grad()
def test_a_batch_is_its_rows() -> None:
    ours, _ = pair(TINY)
    x, t, tokens = inputs(TINY)
    together = ours(x, t, Cond(tokens))
    for k in range(2):
        assert torch.allclose(together[k : k + 1], ours(x[k : k + 1], t[k : k + 1], Cond(tokens[k : k + 1])), atol=1e-5)


def test_time_embedding_is_cosines_then_sines() -> None:
    embedding = sinusoidal(torch.tensor([0.0, 10.0]), 8)
    assert embedding[0].tolist() == [1] * 4 + [0] * 4
    assert embedding[1, 4].item() == pytest.approx(torch.tensor(10.0).sin().item())
    assert embedding[1, 5].item() == pytest.approx(torch.tensor(1.0).sin().item())


@torch.no_grad()
def test_half_precision_stays_half() -> None:
    ours = pair(TINY)[0].to(torch.bfloat16)
    x, t, tokens = inputs(TINY)
    result = ours(x.bfloat16(), t, Cond(tokens.bfloat16()))
    assert result.dtype == torch.bfloat16 and result.isfinite().all()


def test_frequencies_are_rounded_correctly() -> None:
    exponents = -math.log(10000) * torch.arange(128, dtype=torch.float32) / 128
    cosines = sinusoidal(torch.ones(1), 256)[0, :128]
    assert torch.equal(cosines, exponents.double().exp().float().cos())


@torch.no_grad()
def test_the_guidance_scale_joins_the_time() -> None:
    cfg = replace(TINY, guidance_dim=16)
    ours, theirs = pair(cfg)
    x, t, tokens = inputs(cfg)
    scale = torch.tensor([7.5, 0.0])
    expected = theirs(x, t, tokens, timestep_cond=guidance_scale_embedding(scale, 16)).sample
    assert torch.allclose(ours(x, t, Cond(tokens, guidance=scale)), expected, atol=1e-5)
    assert not torch.allclose(ours(x, t, Cond(tokens)), expected, atol=1e-4)


def guidance_scale_embedding(scale: Tensor, width: int) -> Tensor:
    """As diffusers' pipeline for latent consistency models makes it."""
    return LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, scale, width)
