"""The config of a transformer of the third line: SD3Transformer2DModel."""

from __future__ import annotations

from typing import Any

from sfumato.checkpoint.diffusers_config.fields import Config, Fields, Fixed, check
from sfumato.spec import MMDiTConfig

MMDIT_FIXED: Fixed = {
    "_class_name": ("SD3Transformer2DModel",),
    "qk_norm": (None, "rms_norm"),
}


def mmdit_from(config: Config, where: str = "transformer/config.json") -> MMDiTConfig:
    """The sizes that an SD3Transformer2DModel's config states. Raises SfumatoError for what is not supported."""
    fields = Fields(where, config)
    check(where, config, MMDIT_FIXED)
    heads, channels = fields.integer("num_attention_heads", 18), fields.integer("in_channels", 16)
    hidden = heads * fields.integer("attention_head_dim", 64)
    drawn = fields.integer("out_channels", channels)
    if drawn > channels:
        raise fields.wrong("out_channels", f"at most in_channels, {channels},")
    if fields.integer("caption_projection_dim", 1152) != hidden:
        raise fields.wrong("caption_projection_dim", f"the transformer's width, {hidden},")
    return MMDiTConfig(
        in_channels=channels,
        out_channels=None if drawn == channels else drawn,
        patch=fields.integer("patch_size", 2),
        hidden=hidden,
        heads=heads,
        depth=fields.integer("num_layers", 18),
        context_dim=fields.integer("joint_attention_dim", 4096),
        pooled_dim=fields.integer("pooled_projection_dim", 2048),
        positions=fields.integer("pos_embed_max_size", 96),
        qk_norm=config.get("qk_norm") is not None,
        dual=fields.numbers("dual_attention_layers"),
    )


def mmdit_to(cfg: MMDiTConfig, sample_size: int) -> dict[str, Any]:
    """The config of an SD3Transformer2DModel; `sample_size` is the usual side of the latents."""
    return {
        "_class_name": "SD3Transformer2DModel",
        "attention_head_dim": cfg.hidden // cfg.heads,
        "caption_projection_dim": cfg.hidden,
        "dual_attention_layers": list(cfg.dual),
        "in_channels": cfg.in_channels,
        "joint_attention_dim": cfg.context_dim,
        "num_attention_heads": cfg.heads,
        "num_layers": cfg.depth,
        "out_channels": cfg.out_channels or cfg.in_channels,
        "patch_size": cfg.patch,
        "pooled_projection_dim": cfg.pooled_dim,
        "pos_embed_max_size": cfg.positions,
        "qk_norm": "rms_norm" if cfg.qk_norm else None,
        "sample_size": sample_size,
    }
