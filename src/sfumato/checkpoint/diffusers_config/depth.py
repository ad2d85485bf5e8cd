"""The configs of a depth network, DPTForDepthEstimation on a BiT ResNet, and of what prepares its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.checkpoint.diffusers_config.fields import Config, Fields, Fixed, check, stated
from sfumato.spec import DepthNetConfig, DPTConfig

DPT_FIXED: Fixed = {
    "add_projection": (False,),
    "head_in_index": (-1,),
    "hidden_act": ("gelu",),
    "neck_ignore_stages": ([0, 1],),
    "num_channels": (3,),
    "patch_size": (16,),
    "qkv_bias": (True,),
    "readout_type": ("project",),
    "reassemble_factors": ([1, 1, 1, 0.5],),
    "use_batch_norm_in_fusion_residual": (False, None),
    "use_bias_in_fusion_residual": (None, True),
}
BIT_FIXED: Fixed = {
    "drop_path_rate": (0.0,),
    "embedding_dynamic_padding": (True,),
    "global_padding": ("SAME", "same"),
    "hidden_act": ("relu",),
    "layer_type": ("bottleneck",),
    "model_type": ("bit",),
    "num_channels": (3,),
    "out_features": (["stage1", "stage2", "stage3"],),
    "output_stride": (32,),
    "width_factor": (1,),
}

DEPTH_NET = "sfumato_depth_net"  # the model type of the embedded model's depth network


def depth_from(config: Config, where: str = "depth_estimator/config.json") -> DPTConfig | DepthNetConfig:
    """The sizes that the config of a depth network states. Raises SfumatoError for what is not supported."""
    if config.get("model_type") != DEPTH_NET:
        return dpt_from(config, where)
    fields, usually = Fields(where, config), DepthNetConfig()
    return DepthNetConfig(
        fields.integers("channels", usually.channels),
        fields.integer("groups", usually.groups),
        fields.integer("side", usually.side),
    )


def depth_to(cfg: DPTConfig | DepthNetConfig) -> dict[str, Any]:
    """The config of a depth network."""
    if isinstance(cfg, DPTConfig):
        return dpt_to(cfg)
    sizes = {"channels": list(cfg.channels), "groups": cfg.groups, "side": cfg.side}
    return {"architectures": ["DepthNet"], "model_type": DEPTH_NET, **sizes}


def dpt_from(config: Config, where: str = "depth_estimator/config.json") -> DPTConfig:
    """The sizes that a hybrid DPTForDepthEstimation's config states. Raises SfumatoError for what is not supported."""
    fields = Fields(where, config)
    check(where, config, DPT_FIXED)
    if config.get("is_hybrid") is not True:
        raise fields.wrong("is_hybrid", "true")
    backbone = {} if config.get("backbone_config") is None else config["backbone_config"]
    if not isinstance(backbone, Mapping):
        raise fields.wrong("backbone_config", "an object")
    check(where, backbone, BIT_FIXED)
    resnet = Fields(where, backbone)
    side = fields.integer("image_size", 384)
    result = DPTConfig(
        stem=resnet.integer("embedding_size", 64),
        stages=resnet.integers("hidden_sizes", (256, 512, 1024, 2048))[:3],
        depths=resnet.integers("depths", (3, 4, 9))[:3],
        groups=resnet.integer("num_groups", 32),
        positions=side // 16,
        hidden=fields.integer("hidden_size", 768),
        intermediate=fields.integer("intermediate_size", 3072),
        layers=fields.integer("num_hidden_layers", 12),
        heads=fields.integer("num_attention_heads", 12),
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        neck=fields.integers("neck_hidden_sizes", (96, 192, 384, 768)),
        fusion=fields.integer("fusion_hidden_size", 256),
    )
    if len(result.stages) != 3 or len(result.depths) != 3 or result.neck[:2] != result.stages[:2]:
        raise fields.wrong("neck_hidden_sizes", "four numbers, of which the ResNet's stages have the first two,")
    if fields.numbers("backbone_out_indices")[2:] not in ((), result.reads):
        raise fields.wrong("backbone_out_indices", f"two maps and the layers {result.reads}")
    return result


def dpt_to(cfg: DPTConfig) -> dict[str, Any]:
    """The config of a hybrid DPTForDepthEstimation."""
    return {
        **stated(DPT_FIXED),
        "architectures": ["DPTForDepthEstimation"],
        "model_type": "dpt",
        "backbone_config": {
            **stated(BIT_FIXED),
            "depths": list(cfg.depths),
            "embedding_size": cfg.stem,
            "hidden_sizes": list(cfg.stages),
            "num_groups": cfg.groups,
        },
        "backbone_featmap_shape": [1, cfg.stages[-1], cfg.positions, cfg.positions],
        "backbone_out_indices": [0, 1, *cfg.reads],
        "fusion_hidden_size": cfg.fusion,
        "hidden_size": cfg.hidden,
        "image_size": 16 * cfg.positions,
        "intermediate_size": cfg.intermediate,
        "is_hybrid": True,
        "layer_norm_eps": cfg.norm_eps,
        "neck_hidden_sizes": list(cfg.neck),
        "num_attention_heads": cfg.heads,
        "num_hidden_layers": cfg.layers,
    }


def dpt_processor_to(cfg: DPTConfig) -> dict[str, Any]:
    """The config of a DPTImageProcessor: what the pipeline makes of a picture for this network, whatever its shape."""
    side = 16 * cfg.positions
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "ensure_multiple_of": 1,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "DPTImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "keep_aspect_ratio": False,
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
    }
