"""The config of a U-Net: UNet2DConditionModel."""

from __future__ import annotations

from typing import Any, Literal

from sfumato.checkpoint.diffusers_config.fields import Config, Fields, Fixed, check, stated
from sfumato.errors import SfumatoError
from sfumato.spec import ID_WIDTH, UNetConfig

UNET_FIXED: Fixed = {
    "_class_name": ("UNet2DConditionModel",),
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None, "text_time"),
    "addition_time_embed_dim": (None, ID_WIDTH),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None, "projection"),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None,),
    "downsample_padding": (1,),
    "dual_cross_attention": (False,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None),
    "norm_eps": (1e-5,),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
}


MIDDLES: dict[str | None, Literal[0, 1, 2]] = {"UNetMidBlock2DCrossAttn": 2, "UNetMidBlock2D": 1, None: 0}


def unet_from(config: Config, where: str = "unet/config.json") -> UNetConfig:
    """The sizes that a UNet2DConditionModel's config states. Raises SfumatoError for what is not supported."""
    fields = Fields(where, config)
    check(where, config, UNET_FIXED)
    channels = fields.integers("block_out_channels", (320, 640, 1280, 1280))
    down = fields.names("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    up = fields.names("up_block_types", ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    layers = _layers(fields, "transformer_layers_per_block", len(channels))
    if len(down) != len(channels) or not set(down) <= {"CrossAttnDownBlock2D", "DownBlock2D"}:
        raise fields.wrong("down_block_types", "CrossAttnDownBlock2D or DownBlock2D for every level")
    if up != [name.replace("Down", "Up") for name in reversed(down)]:
        raise fields.wrong("up_block_types", "the mirror image of down_block_types")
    if any(len(set(level)) > 1 for level in layers):
        raise fields.wrong("transformer_layers_per_block", "one number for the blocks of a level")
    heads, head_dim = _heads(fields, channels)
    if len(set(fields.integers("layers_per_block", (2,), 1))) != 1:
        raise fields.wrong("layers_per_block", "one number")
    cross_only = fields.flags("only_cross_attention", len(channels))
    if cross_only[-1]:
        raise fields.wrong("only_cross_attention", "false for the last level")
    attending = tuple(only and "Attn" in name for only, name in zip(cross_only, down, strict=True))
    takes_vector = config.get("addition_embed_type") is not None or config.get("class_embed_type") is not None
    return UNetConfig(
        in_channels=fields.integer("in_channels", 4),
        out_channels=fields.integer("out_channels", 4),
        channels=channels,
        blocks=fields.integers("layers_per_block", (2,), 1)[0],
        depth=tuple(level[0] if "Attn" in name else 0 for name, level in zip(down, layers, strict=True)),
        up_depth=_up_depth(fields, down, layers, fields.integers("layers_per_block", (2,), 1)[0] + 1),
        middle_depth=layers[-1][0],
        middle_blocks=MIDDLES[config.get("mid_block_type", "UNetMidBlock2DCrossAttn")],
        context_dim=fields.integer("cross_attention_dim", 1280),
        heads=heads,
        head_dim=head_dim,
        linear_projection=fields.flag("use_linear_projection", False),
        groups=fields.integer("norm_num_groups", 32),
        vector_dim=fields.integer("projection_class_embeddings_input_dim", 0) if takes_vector else None,
        classes=fields.optional("num_class_embeds"),
        cross_only=attending if any(attending) else (),
        guidance_dim=fields.optional("time_cond_proj_dim"),
    )


def _layers(fields: Fields, name: str, count: int) -> list[tuple[int, ...]]:
    """Transformer layers of every level: one number for all, or for each level a number or a list of its blocks'."""
    value = fields.config.get(name, 1)
    levels = [value] * count if type(value) is int else value
    if not isinstance(levels, list | tuple) or len(levels) != count:
        raise fields.wrong(name, f"a number or a list of {count}")
    return [
        Fields(fields.where, {name: level if isinstance(level, list) else [level]}).integers(name, ())
        for level in levels
    ]


def _up_depth(
    fields: Fields, down: list[str], layers: list[tuple[int, ...]], blocks: int
) -> tuple[tuple[int, ...], ...]:
    """Transformer layers of every block on the way up, by level from fine to coarse; empty where it mirrors down."""
    name = "reverse_transformer_layers_per_block"
    if fields.config.get(name) is None:
        return ()
    result = []
    for level, kind in zip(reversed(_layers(fields, name, len(down))), down, strict=True):
        depths = level * blocks if len(level) == 1 else level
        if len(depths) != blocks:
            raise fields.wrong(name, f"a number or a list of {blocks} for every level")
        result.append(depths if "Attn" in kind else (0,) * blocks)
    mirrored = all(
        "Attn" not in kind or set(up) == {level[0]} for up, level, kind in zip(result, layers, down, strict=True)
    )
    return () if mirrored else tuple(result)


def _heads(fields: Fields, channels: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Number of heads, or width of a head. `attention_head_dim` in these files is the number of heads."""
    name = "num_attention_heads" if fields.config.get("num_attention_heads") is not None else "attention_head_dim"
    heads = fields.integers(name, (8,) * len(channels), len(channels))
    if any(width % n for width, n in zip(channels, heads, strict=True)):
        raise fields.wrong(name, f"numbers that divide the channels {channels}")
    if len(set(heads)) == 1:
        return heads[0], None
    widths = {width / n for width, n in zip(channels, heads, strict=True)}
    if len(widths) > 1 or not widths.copy().pop().is_integer():
        raise fields.wrong(name, "one number of heads, or heads of one width")
    return None, int(widths.pop())


def unet_to(cfg: UNetConfig, sample_size: int) -> dict[str, Any]:
    """The config of a UNet2DConditionModel; `sample_size` is the usual side of the latents."""
    down = ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in cfg.depth]
    layers = [depth or cfg.middle_depth for depth in cfg.depth]
    if layers[-1] != cfg.middle_depth:
        raise SfumatoError(
            "this U-Net's middle has another depth than its last level, which a diffusers folder cannot say"
        )
    heads = [cfg.heads_at(width) for width in cfg.channels]
    middles = {blocks: name for name, blocks in MIDDLES.items()}
    reverse = [[depth or 1 for depth in level] for level in reversed(cfg.up_depth)]
    return {
        **stated(UNET_FIXED),
        "attention_head_dim": heads[0] if len(set(heads)) == 1 else heads,
        "block_out_channels": list(cfg.channels),
        "cross_attention_dim": cfg.context_dim,
        "down_block_types": down,
        "in_channels": cfg.in_channels,
        "mid_block_type": middles[cfg.middle_blocks],
        "layers_per_block": cfg.blocks,
        "norm_num_groups": cfg.groups,
        "out_channels": cfg.out_channels,
        "sample_size": sample_size,
        "transformer_layers_per_block": layers[0] if len(set(layers)) == 1 else layers,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "use_linear_projection": cfg.linear_projection,
        "only_cross_attention": list(cfg.cross_only) if cfg.cross_only else False,
        **({} if cfg.classes is None else {"num_class_embeds": cfg.classes}),
        **({"reverse_transformer_layers_per_block": reverse} if reverse else {}),
        **({} if cfg.guidance_dim is None else {"time_cond_proj_dim": cfg.guidance_dim}),
        **({} if cfg.vector_dim is None else _vector_to(cfg.vector_dim)),
    }


def with_class_vector(config: Config) -> dict[str, Any]:
    """The config of a network whose vector stands in the place of a class (unCLIP), and not beside pooled text."""
    kept = {name: value for name, value in config.items() if not name.startswith("addition_")}
    return {**kept, "class_embed_type": "projection"}


def _vector_to(width: int) -> dict[str, Any]:
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": ID_WIDTH,
        "projection_class_embeddings_input_dim": width,
    }
