"""The configs of CLIP's vision tower, CLIPVisionModelWithProjection, and of what prepares its pictures."""

from __future__ import annotations

from typing import Any

from sfumato.checkpoint.diffusers_config.fields import Config, Fields, Fixed, check
from sfumato.spec import CLIP_PIXELS, CLIPVisionConfig

VISION_FIXED: Fixed = {"hidden_act": ("quick_gelu", "gelu"), "layer_norm_eps": (1e-5,), "num_channels": (3,)}


def clip_vision_from(config: Config, where: str) -> CLIPVisionConfig:
    """The sizes that the config of a vision tower states. Raises SfumatoError for what is not supported."""
    config = config.get("vision_config", config)
    fields = Fields(where, config)
    check(where, config, VISION_FIXED)
    width, heads = fields.integer("hidden_size", 768), fields.integer("num_attention_heads", 12)
    if not heads or width % heads:
        raise fields.wrong("num_attention_heads", f"a number that divides the hidden_size {width}")
    size, patch = fields.integer("image_size", 224), fields.integer("patch_size", 32)
    if not patch or size < patch:
        raise fields.wrong("patch_size", f"a number from 1 to the image_size {size}")
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=fields.integer("intermediate_size", 3072),
        layers=fields.integer("num_hidden_layers", 12),
        heads=heads,
        size=size,
        patch=patch,
        activation=config.get("hidden_act", "quick_gelu"),
        projection_dim=fields.integer("projection_dim", 512),
    )


def clip_vision_to(cfg: CLIPVisionConfig) -> dict[str, Any]:
    """The config of a CLIPVisionModelWithProjection."""
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "attention_dropout": 0.0,
        "hidden_act": cfg.activation,
        "hidden_size": cfg.hidden_size,
        "image_size": cfg.size,
        "intermediate_size": cfg.intermediate_size,
        "layer_norm_eps": 1e-5,
        "num_attention_heads": cfg.heads,
        "num_channels": 3,
        "num_hidden_layers": cfg.layers,
        "patch_size": cfg.patch,
        "projection_dim": cfg.projection_dim,
    }


def clip_processor_to(cfg: CLIPVisionConfig) -> dict[str, Any]:
    """The config of a CLIPImageProcessor that prepares pictures for the tower."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": cfg.size, "width": cfg.size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "image_mean": list(CLIP_PIXELS[0]),
        "image_std": list(CLIP_PIXELS[1]),
        "resample": 3,
        "size": {"shortest_edge": cfg.size},
    }
