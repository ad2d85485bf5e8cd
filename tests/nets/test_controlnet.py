"""ControlNets and T2I-Adapters beside diffusers', through their files: the same residuals, the same pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    ControlNetModel,
    ControlNetUnionModel,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    T2IAdapter,
    UNet2DConditionModel,
)
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.windows import cut
from sfumato.errors import SfumatoError
from sfumato.loading.controls import ControlModel, load_control
from sfumato.nets.controlled import Controlled
from sfumato.nets.controlnet import ControlNet
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.seamless import seamless
from sfumato.nets.unet import UNet
from sfumato.spec import MMDiTConfig, UNetConfig

ONE = UNetConfig(channels=(32, 64, 64, 64), blocks=1, depth=(1, 1, 1, 0), context_dim=16, heads=4)
XL = UNetConfig(channels=(32, 64, 64), blocks=2, depth=(0, 1, 2), middle_depth=2, context_dim=24, heads=None,
                head_dim=16, linear_projection=True, vector_dim=16 + 6 * 256)  # fmt: skip
THREE = MMDiTConfig(hidden=64, heads=1, depth=4, context_dim=24, pooled_dim=16, positions=8)


def kinds_of(cfg: UNetConfig) -> dict:
    return {
        "block_out_channels": cfg.channels,
        "layers_per_block": cfg.blocks,
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in cfg.depth],
        "transformer_layers_per_block": [depth or cfg.middle_depth for depth in cfg.depth],
        "cross_attention_dim": cfg.context_dim,
        "attention_head_dim": [cfg.heads_at(width) for width in cfg.channels],
        "use_linear_projection": cfg.linear_projection,
        "addition_embed_type": "text_time" if cfg.vector_dim else None,
        "addition_time_embed_dim": 256 if cfg.vector_dim else None,
        "projection_class_embeddings_input_dim": cfg.vector_dim,
    }


def unet(cfg: UNetConfig) -> tuple[UNet, UNet2DConditionModel]:
    torch.manual_seed(0)
    up = ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(cfg.depth)]
    theirs = UNet2DConditionModel(up_block_types=up, **kinds_of(cfg)).eval()
    ours = UNet(cfg).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def alive(network: nn.Module) -> nn.Module:
    """The network without layers that are zero, as they are before training."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        if parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.1)
    return network.eval()


def inputs(cfg: UNetConfig) -> tuple[Tensor, Tensor, Cond, Tensor, dict | None]:
    generator = torch.Generator().manual_seed(2)
    x, hint = torch.randn(2, 4, 16, 24, generator=generator), torch.rand(2, 3, 128, 192, generator=generator)
    cond = Cond(torch.randn(2, 7, cfg.context_dim, generator=generator))
    more = None
    if cfg.vector_dim:
        cond = replace(
            cond, pooled=torch.randn(2, 16, generator=generator), ids=torch.tensor([[64.0, 9, 0, 0, 8, 7]] * 2)
        )
        more = {"text_embeds": cond.pooled, "time_ids": cond.ids}
    return x, torch.tensor([500.0, 20.0]), cond, hint, more


def steered(cond: Cond, control: ControlModel, hint: Tensor, weight: float = 1, kind: int | None = None) -> Cond:
    weights = torch.full((len(hint), control.network.residuals), weight)
    return replace(cond, hints=control.network.prepare(hint, kind), hint_weights=(weights,))


@pytest.mark.parametrize("cfg", [ONE, XL], ids=["1.x", "xl"])
@torch.no_grad()
def test_controlnet(cfg: UNetConfig, tmp_path: Path) -> None:
    ours, theirs = unet(cfg)
    other = alive(ControlNetModel(**kinds_of(cfg)))
    other.save_pretrained(tmp_path / "canny")
    control = load_control(tmp_path / "canny", ours)
    assert (control.name, control.title) == ("canny", "a ControlNet")
    x, t, cond, hint, more = inputs(cfg)
    down, middle = other(x, t, cond.tokens, hint, conditioning_scale=0.7, added_cond_kwargs=more, return_dict=False)
    expected = theirs(x, t, cond.tokens, down_block_additional_residuals=down, mid_block_additional_residual=middle,
                      added_cond_kwargs=more).sample  # fmt: skip
    drawn = Controlled(ours, [control.network])(x, t, steered(cond, control, hint, 0.7))
    assert torch.allclose(drawn, expected, atol=2e-5)
    assert not torch.allclose(ours(x, t, cond), expected, atol=1e-2)


@torch.no_grad()
def test_controlnet_without_attention(tmp_path: Path) -> None:
    ours, _ = unet(XL)
    small = replace(XL, depth=(0, 0, 0))
    other = alive(ControlNetModel(**kinds_of(small) | {"mid_block_type": "UNetMidBlock2D"}))
    other.save_pretrained(tmp_path)
    network = load_control(tmp_path, ours).network
    x, t, cond, hint, more = inputs(XL)
    down, middle = other(x, t, cond.tokens, hint, added_cond_kwargs=more, return_dict=False)
    for mine, other_map in zip(network(x, t, cond, network.prepare(hint)), [*down, middle], strict=True):
        assert torch.allclose(mine, other_map, atol=2e-5)


@torch.no_grad()
def test_controlnet_with_pooled_residuals(tmp_path: Path) -> None:
    ours, _ = unet(ONE)
    other = alive(ControlNetModel(**kinds_of(ONE), global_pool_conditions=True))
    other.save_pretrained(tmp_path)
    network = load_control(tmp_path, ours).network
    x, t, cond, hint, _ = inputs(ONE)
    down, middle = other(x, t, cond.tokens, hint, return_dict=False)
    for mine, other_map in zip(network(x, t, cond, network.prepare(hint)), [*down, middle], strict=True):
        assert mine.shape[2:] == (1, 1) and torch.allclose(mine, other_map, atol=2e-5)


@pytest.mark.parametrize("kind", [0, 3, 5])
@torch.no_grad()
def test_controlnet_union(kind: int, tmp_path: Path) -> None:
    ours, _ = unet(XL)
    other = alive(ControlNetUnionModel(**kinds_of(XL), num_trans_channel=32, num_trans_head=4, num_proj_channel=32))
    nn.init.normal_(other.transformer_layes[0].attn.in_proj_bias)
    other.save_pretrained(tmp_path)
    control = load_control(tmp_path, ours)
    assert control.title == "a ControlNet-Union"
    x, t, cond, hint, more = inputs(XL)
    x, hint = x[:1].repeat(2, 1, 1, 1), hint[:1].repeat(2, 1, 1, 1)  # as under guidance: one picture, one hint
    kinds = torch.zeros(2, 6)
    kinds[:, kind] = 1
    down, middle = other(x, t, cond.tokens, [hint], kinds, [kind], added_cond_kwargs=more, return_dict=False)
    made = control.network(x, t, cond, control.network.prepare(hint, kind))
    for mine, other_map in zip(made, [*down, middle], strict=True):
        assert torch.allclose(mine, other_map, atol=2e-5)


T2I = {
    "full_adapter": (ONE, {"channels": [32, 64, 64, 64]}),
    "light_adapter": (ONE, {"channels": [32, 64, 64], "num_res_blocks": 3}),
    "full_adapter_xl": (XL, {"channels": [32, 64, 64, 64], "downscale_factor": 16}),
}


@pytest.mark.parametrize("kind", T2I)
@torch.no_grad()
def test_t2i_adapter(kind: str, tmp_path: Path) -> None:
    cfg, sizes = T2I[kind]
    ours, theirs = unet(cfg)
    torch.manual_seed(1)
    other = T2IAdapter(adapter_type=kind, **sizes).eval()
    other.save_pretrained(tmp_path)
    control = load_control(tmp_path, ours)
    x, t, cond, hint, more = inputs(cfg)
    features = [0.8 * one for one in other(hint)]
    expected = theirs(x, t, cond.tokens, down_intrablock_additional_residuals=[one.clone() for one in features],
                      added_cond_kwargs=more).sample  # fmt: skip
    drawn = Controlled(ours, [control.network])(x, t, steered(cond, control, hint, 0.8))
    assert torch.allclose(drawn, expected, atol=2e-5)
    assert not torch.allclose(ours(x, t, cond), expected, atol=1e-3)


def mmdit() -> tuple[MMDiT, SD3Transformer2DModel]:
    torch.manual_seed(0)
    theirs = SD3Transformer2DModel(
        sample_size=8, num_layers=4, attention_head_dim=64, num_attention_heads=1, joint_attention_dim=24,
        caption_projection_dim=64, pooled_projection_dim=16, out_channels=16, pos_embed_max_size=8,
    ).eval()  # fmt: skip
    ours = MMDiT(THREE).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("joint", [True, False], ids=["joint", "single"])
@torch.no_grad()
def test_controlnet_of_the_transformer(joint: bool, tmp_path: Path) -> None:
    ours, theirs = mmdit()
    other = alive(
        SD3ControlNetModel(
            sample_size=8, num_layers=2, attention_head_dim=64, num_attention_heads=1,
            joint_attention_dim=24 if joint else None, caption_projection_dim=64, pooled_projection_dim=16,
            pos_embed_max_size=8, pos_embed_type="sincos" if joint else None, use_pos_embed=joint,
            force_zeros_for_pooled_projection=joint,
        )
    )  # fmt: skip
    other.save_pretrained(tmp_path / "canny")
    control = load_control(tmp_path / "canny", ours)
    assert control.shift is not joint and control.canny is not joint
    x, t = torch.randn(2, 16, 8, 12), torch.tensor([500.0, 20.0])
    cond, hint = Cond(torch.randn(2, 7, 24), torch.randn(2, 16)), torch.randn(2, 16, 8, 12)
    asked = {"encoder_hidden_states": cond.tokens} if joint else {}
    residuals = other(
        x if joint else theirs.pos_embed(x), hint, 0.9, timestep=t,
        pooled_projections=torch.zeros_like(cond.pooled) if joint else cond.pooled, return_dict=False, **asked,
    )[0]  # fmt: skip
    expected = theirs(x, cond.tokens, cond.pooled, t, block_controlnet_hidden_states=residuals).sample
    drawn = Controlled(ours, [control.network])(x, t, steered(cond, control, hint, 0.9))
    assert torch.allclose(drawn, expected, atol=2e-5)
    assert not torch.allclose(ours(x, t, cond), expected, atol=1e-2)


@torch.no_grad()
def test_rows_without_strength_are_the_networks_own_and_the_others_do_not_hang_on_them(tmp_path: Path) -> None:
    ours, _ = unet(ONE)
    alive(ControlNetModel(**kinds_of(ONE))).save_pretrained(tmp_path)
    control = load_control(tmp_path, ours)
    asked: list[int] = []
    assert isinstance(control.network, ControlNet)
    control.network.register_forward_hook(lambda module, given, made: asked.append(len(given[0])))
    x, t, cond, hint, _ = inputs(ONE)
    network, steering = Controlled(ours, [control.network]), steered(cond, control, hint)
    weights = steering.hint_weights[0].clone()
    weights[0] = 0
    mixed = network(x, t, replace(steering, hint_weights=(weights,)))
    assert asked == [1]
    assert torch.allclose(mixed[0], ours(x, t, cond)[0], atol=1e-6)
    assert torch.allclose(mixed[1], network(x, t, steering)[1], atol=1e-6)
    assert torch.equal(network(x, t, cond), ours(x, t, cond)) and asked == [1, 2]


@torch.no_grad()
def test_two_controls_add_up(tmp_path: Path) -> None:
    ours, _ = unet(ONE)
    alive(ControlNetModel(**kinds_of(ONE))).save_pretrained(tmp_path)
    control = load_control(tmp_path, ours)
    x, t, cond, hint, _ = inputs(ONE)
    both = steered(cond, control, hint, 0.3)
    both = replace(both, hints=2 * both.hints, hint_weights=2 * both.hint_weights)
    twice = Controlled(ours, [control.network] * 2)(x, t, both)
    assert torch.allclose(
        twice, Controlled(ours, [control.network])(x, t, steered(cond, control, hint, 0.6)), atol=1e-5
    )


def test_a_window_has_its_part_of_every_hint() -> None:
    map_, vector = torch.arange(96.0).view(1, 1, 8, 12), torch.zeros(1, 5)
    cond = Cond(torch.zeros(1, 1, 1), hints=(map_, map_[..., ::2, ::2], vector))
    part = cut(cond, (slice(2, 6), slice(4, 12)), 8, 12)
    assert torch.equal(part.hints[0], map_[..., 2:6, 4:12])
    assert torch.equal(part.hints[1], map_[..., 2:6:2, 4:12:2]) and part.hints[2] is vector


@torch.no_grad()
def test_pictures_that_tile_take_hints_too(tmp_path: Path) -> None:
    ours, _ = unet(ONE)
    alive(ControlNetModel(**kinds_of(ONE))).save_pretrained(tmp_path)
    network = load_control(tmp_path, ours).network
    x, t, cond, hint, _ = inputs(ONE)
    tiling = Controlled(seamless(ours, True, True), [seamless(network, True, True)])
    weights = (torch.ones(2, network.residuals),)

    def drawn(by: int) -> Tensor:
        maps = tiling.controls[0].prepare(hint.roll(8 * by, 3))
        return tiling(x.roll(by, 3), t, replace(cond, hints=maps, hint_weights=weights)).roll(-by, 3)

    assert torch.allclose(drawn(8), drawn(0), atol=1e-4)


def test_what_is_made_for_another_model_is_named(tmp_path: Path) -> None:
    ours, _ = unet(ONE)
    ControlNetModel(**kinds_of(XL)).save_pretrained(tmp_path / "xl")
    with pytest.raises(SfumatoError, match=r"made for .*text of width 24.*this model is .*text of width 16"):
        load_control(tmp_path / "xl", ours)
    transformer, _ = mmdit()
    with pytest.raises(SfumatoError, match="this model draws with a transformer"):
        load_control(tmp_path / "xl", transformer)
