"""The JSON files of a diffusers folder, in both directions; what our networks do not implement is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.nets.unet import ID_WIDTH
from sfumato.spec import (
    CLIPTextConfig,
    Defaults,
    DPTConfig,
    MMDiTConfig,
    Prediction,
    Schedule,
    T5Config,
    UNetConfig,
    VAEConfig,
)

Config = Mapping[str, Any]
POOLED = "sfumato_pooled"  # of a text tower in a folder of ours: diffusers has no place for CLIPTextConfig.pooled

# Fields that change what a network computes, with the values that ours implement. Absent means the first of them.
UNET_FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("UNet2DConditionModel",),
    "act_fn": ("silu", "swish"),
    "addition_embed_type": (None, "text_time"),
    "addition_time_embed_dim": (None, ID_WIDTH),
    "attention_type": ("default",),
    "center_input_sample": (False,),
    "class_embed_type": (None,),
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
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "norm_eps": (1e-5,),
    "resnet_out_scale_factor": (1.0,),
    "resnet_skip_time_act": (False,),
    "resnet_time_scale_shift": ("default",),
    "reverse_transformer_layers_per_block": (None,),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None,),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "timestep_post_act": (None,),
}
VAE_FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("AutoencoderKL",),
    "act_fn": ("silu", "swish"),
    "latents_mean": (None,),
    "latents_std": (None,),
    "mid_block_add_attention": (True,),
    "use_post_quant_conv": (True, False),
    "use_quant_conv": (True, False),
}
MMDIT_FIXED: dict[str, tuple[Any, ...]] = {
    "_class_name": ("SD3Transformer2DModel",),
    "qk_norm": (None, "rms_norm"),
}
CLIP_FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("quick_gelu", "gelu"),
    "layer_norm_eps": (1e-5,),
    POOLED: (None, "plain", "projected"),
}
T5_FIXED: dict[str, tuple[Any, ...]] = {
    "feed_forward_proj": ("gated-gelu",),
    "layer_norm_epsilon": (1e-6,),
    "relative_attention_max_distance": (128,),
    "relative_attention_num_buckets": (32,),
}
DPT_FIXED: dict[str, tuple[Any, ...]] = {
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
BIT_FIXED: dict[str, tuple[Any, ...]] = {
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
PROJECTED = "CLIPTextModelWithProjection"
SCHEDULER_FIXED: dict[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear", "scaled_linear"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "rescale_betas_zero_snr": (False, True),
    "trained_betas": (None,),
}
FLOW_FIXED: dict[str, tuple[Any, ...]] = {
    "base_image_seq_len": (256,),
    "invert_sigmas": (False,),
    "max_image_seq_len": (4096,),
    "shift_terminal": (None,),
    "time_shift_type": ("exponential",),
}
# Our sampler, and the spacing of times that the scheduler falls back on.
SAMPLERS = {
    "DDIMScheduler": ("ddim", "leading"),
    "DDPMScheduler": ("ddpm", "leading"),
    "DPMSolverMultistepScheduler": ("dpmpp_2m", "linspace"),
    "EulerAncestralDiscreteScheduler": ("euler_ancestral", "linspace"),
    "EulerDiscreteScheduler": ("euler", "linspace"),
    "HeunDiscreteScheduler": ("heun", "linspace"),
    "LMSDiscreteScheduler": ("lms", "linspace"),
    "PNDMScheduler": ("plms", "leading"),
    "UniPCMultistepScheduler": ("unipc", "linspace"),
}
# Those that a folder of ours may name, with the settings that the originals' samplers amount to.
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False},
    "EulerAncestralDiscreteScheduler": {},
    "EulerDiscreteScheduler": {},
    "PNDMScheduler": {"set_alpha_to_one": False, "skip_prk_steps": True},
}
SPACINGS = {"leading": "leading", "linspace": "discrete", "trailing": "trailing"}
ENDING_AT_THE_FIRST_STEP = ("ddim", "ddpm", "plms")  # of training, not at sigma 0, as in the original code
PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def _check(where: str, config: Config, fixed: Mapping[str, tuple[Any, ...]]) -> None:
    for name, values in fixed.items():
        if config.get(name, values[0]) not in values:
            allowed = " or ".join(map(repr, values))
            raise SfumatoError(f"{where} has {name} = {config[name]!r}; this version supports {allowed} only")


class _Fields:
    """Typed access to a config; a value of the wrong type is refused by name."""

    def __init__(self, where: str, config: Config):
        self.where, self.config = where, config

    def wrong(self, name: str, wanted: str) -> SfumatoError:
        return SfumatoError(f"{self.where} has {name} = {self.config.get(name)!r}; {wanted} is expected")

    def integer(self, name: str, default: int) -> int:
        value = self.config.get(name, default)
        if type(value) is not int or not 0 <= value < 1 << 20:
            raise self.wrong(name, "a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.config.get(name, default)
        if type(value) not in (int, float) or not abs(value) < 1e6:
            raise self.wrong(name, "a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.config.get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "a name")
        return value

    def choice(self, name: str, default: str, known: Collection[str]) -> str:
        value = self.text(name, default)
        if value not in known:
            raise self.wrong(name, " or ".join(known))
        return value

    def integers(self, name: str, default: tuple[int, ...], count: int | None = None) -> tuple[int, ...]:
        """A list, or with `count` also one number that holds for all."""
        value = self.config.get(name, default)
        if count is not None and type(value) is int:
            value = [value] * count
        if (
            not isinstance(value, list | tuple)
            or not value
            or not all(type(n) is int and 0 < n < 1 << 20 for n in value)
        ):
            raise self.wrong(name, "a list of positive whole numbers")
        if count is not None and len(value) != count:
            raise self.wrong(name, f"a list of {count} numbers")
        return tuple(value)

    def optional(self, name: str) -> int | None:
        return None if self.config.get(name) is None else self.integer(name, 0)

    def flags(self, name: str, count: int) -> tuple[bool, ...]:
        """A list, or one value that holds for all."""
        value = self.config.get(name, False)
        value = [value] * count if isinstance(value, bool) else value
        if not isinstance(value, list | tuple) or len(value) != count or not all(type(n) is bool for n in value):
            raise self.wrong(name, f"true, false or a list of {count} of them")
        return tuple(value)

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers, maybe empty."""
        value = self.config.get(name, ())
        if not isinstance(value, list | tuple) or not all(type(n) is int and 0 <= n < 1 << 20 for n in value):
            raise self.wrong(name, "a list of whole numbers")
        return tuple(value)

    def names(self, name: str, default: tuple[str, ...]) -> list[str]:
        value = self.config.get(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of names")
        return list(value)


def unet_from(config: Config, where: str = "unet/config.json") -> UNetConfig:
    """The sizes that a UNet2DConditionModel's config states. Raises SfumatoError for what is not supported."""
    fields = _Fields(where, config)
    _check(where, config, UNET_FIXED)
    channels = fields.integers("block_out_channels", (320, 640, 1280, 1280))
    down = fields.names("down_block_types", ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",))
    up = fields.names("up_block_types", ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3)
    layers = fields.integers("transformer_layers_per_block", (1,) * len(channels), len(channels))
    if len(down) != len(channels) or not set(down) <= {"CrossAttnDownBlock2D", "DownBlock2D"}:
        raise fields.wrong("down_block_types", "CrossAttnDownBlock2D or DownBlock2D for every level")
    if up != [name.replace("Down", "Up") for name in reversed(down)]:
        raise fields.wrong("up_block_types", "the mirror image of down_block_types")
    heads, head_dim = _heads(fields, channels)
    if len(set(fields.integers("layers_per_block", (2,), 1))) != 1:
        raise fields.wrong("layers_per_block", "one number")
    cross_only = fields.flags("only_cross_attention", len(channels))
    if cross_only[-1]:
        raise fields.wrong("only_cross_attention", "false for the last level")
    attending = tuple(only and "Attn" in name for only, name in zip(cross_only, down, strict=True))
    embeds_text = config.get("addition_embed_type") is not None
    return UNetConfig(
        in_channels=fields.integer("in_channels", 4),
        out_channels=fields.integer("out_channels", 4),
        channels=channels,
        blocks=fields.integers("layers_per_block", (2,), 1)[0],
        depth=tuple(n if "Attn" in name else 0 for name, n in zip(down, layers, strict=True)),
        middle_depth=layers[-1],
        context_dim=fields.integer("cross_attention_dim", 1280),
        heads=heads,
        head_dim=head_dim,
        linear_projection=config.get("use_linear_projection", False) is True,
        groups=fields.integer("norm_num_groups", 32),
        vector_dim=fields.integer("projection_class_embeddings_input_dim", 0) if embeds_text else None,
        classes=fields.optional("num_class_embeds"),
        cross_only=attending if any(attending) else (),
    )


def _heads(fields: _Fields, channels: tuple[int, ...]) -> tuple[int | None, int | None]:
    """Number of heads, or width of a head. `attention_head_dim` in these files is the number of heads."""
    name = "num_attention_heads" if fields.config.get("num_attention_heads") is not None else "attention_head_dim"
    heads = fields.integers(name, (8,) * len(channels), len(channels))
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
    return {
        **{name: values[0] for name, values in UNET_FIXED.items() if values[0] is not None},
        "attention_head_dim": heads[0] if len(set(heads)) == 1 else heads,
        "block_out_channels": list(cfg.channels),
        "cross_attention_dim": cfg.context_dim,
        "down_block_types": down,
        "in_channels": cfg.in_channels,
        "layers_per_block": cfg.blocks,
        "norm_num_groups": cfg.groups,
        "out_channels": cfg.out_channels,
        "sample_size": sample_size,
        "transformer_layers_per_block": layers[0] if len(set(layers)) == 1 else layers,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(down)],
        "use_linear_projection": cfg.linear_projection,
        "only_cross_attention": list(cfg.cross_only) if cfg.cross_only else False,
        **({} if cfg.classes is None else {"num_class_embeds": cfg.classes}),
        **({} if cfg.vector_dim is None else _vector_to(cfg.vector_dim)),
    }


def mmdit_from(config: Config, where: str = "transformer/config.json") -> MMDiTConfig:
    """The sizes that an SD3Transformer2DModel's config states. Raises SfumatoError for what is not supported."""
    fields = _Fields(where, config)
    _check(where, config, MMDIT_FIXED)
    heads, channels = fields.integer("num_attention_heads", 18), fields.integer("in_channels", 16)
    hidden = heads * fields.integer("attention_head_dim", 64)
    if fields.integer("out_channels", 16) != channels:
        raise fields.wrong("out_channels", "the same as in_channels")
    if fields.integer("caption_projection_dim", 1152) != hidden:
        raise fields.wrong("caption_projection_dim", f"the transformer's width, {hidden},")
    return MMDiTConfig(
        in_channels=channels,
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
        "out_channels": cfg.in_channels,
        "patch_size": cfg.patch,
        "pooled_projection_dim": cfg.pooled_dim,
        "pos_embed_max_size": cfg.positions,
        "qk_norm": "rms_norm" if cfg.qk_norm else None,
        "sample_size": sample_size,
    }


def _vector_to(width: int) -> dict[str, Any]:
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": ID_WIDTH,
        "projection_class_embeddings_input_dim": width,
    }


def sample_size(config: Config, default: int, where: str) -> tuple[int, int]:
    """The usual height and width of what a network works on, in its own pixels or latents."""
    present = {} if config.get("sample_size") is None else config
    height, width = _Fields(where, present).integers("sample_size", (default, default), 2)
    return height, width


def habits_from(config: Config, defaults: Defaults, where: str) -> Defaults:
    """The settings that a folder of ours advises; `defaults` for what it does not say."""
    fields = _Fields(where, config)
    known = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(Defaults)}
    for name in config:
        if name not in known:
            raise fields.wrong(name, f"one of {', '.join(known)}")
    for name, value in known.items():
        if isinstance(value, str):
            known[name] = fields.text(name, value)
        else:
            known[name] = (fields.number if isinstance(value, float) else fields.integer)(name, value)
    return Defaults(**known)


def vae_from(config: Config, where: str = "vae/config.json") -> VAEConfig:
    """The sizes that an AutoencoderKL's config states. Raises SfumatoError for what is not supported."""
    fields = _Fields(where, config)
    _check(where, config, VAE_FIXED)
    channels = fields.integers("block_out_channels", (64,))
    for name, block in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if fields.names(name, (block,)) != [block] * len(channels):
            raise fields.wrong(name, f"{block} for every level")
    if config.get("out_channels", 3) != config.get("in_channels", 3):
        raise fields.wrong("out_channels", "the same as in_channels")
    if config.get("use_quant_conv", True) != config.get("use_post_quant_conv", True):
        raise fields.wrong("use_post_quant_conv", "the same as use_quant_conv")
    return VAEConfig(
        in_channels=fields.integer("in_channels", 3),
        latent_channels=fields.integer("latent_channels", 4),
        channels=channels,
        blocks=fields.integer("layers_per_block", 1),
        groups=fields.integer("norm_num_groups", 32),
        scale=fields.number("scaling_factor", 0.18215),
        shift=0.0 if config.get("shift_factor") is None else fields.number("shift_factor", 0.0),
        quant_convs=config.get("use_quant_conv", True),
    )


def vae_to(cfg: VAEConfig, sample_size: int) -> dict[str, Any]:
    """The config of an AutoencoderKL; `sample_size` is the usual side of the pictures."""
    return {
        **{name: values[0] for name, values in VAE_FIXED.items() if values[0] is not None},
        "block_out_channels": list(cfg.channels),
        "down_block_types": ["DownEncoderBlock2D"] * len(cfg.channels),
        "in_channels": cfg.in_channels,
        "latent_channels": cfg.latent_channels,
        "layers_per_block": cfg.blocks,
        "norm_num_groups": cfg.groups,
        "out_channels": cfg.in_channels,
        "sample_size": sample_size,
        "scaling_factor": cfg.scale,
        **({"shift_factor": cfg.shift} if cfg.shift else {}),
        "up_block_types": ["UpDecoderBlock2D"] * len(cfg.channels),
        "use_post_quant_conv": cfg.quant_convs,
        "use_quant_conv": cfg.quant_convs,
    }


def clip_from(config: Config, where: str = "text_encoder/config.json") -> CLIPTextConfig:
    """The sizes that a CLIPTextModel's config states. Raises SfumatoError for what is not supported.

    The 1.x releases name 0, 1 and 2 as start, padding and end, which their tokenizer never had: an end token of 2 means
    the last two of the vocabulary (transformers knows the same exception).
    """
    fields = _Fields(where, config)
    _check(where, config, CLIP_FIXED)
    vocabulary = fields.integer("vocab_size", 49408)
    end = fields.integer("eos_token_id", 49407)
    legacy = end == 2
    projected = PROJECTED in fields.names("architectures", ())
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=fields.integer("hidden_size", 512),
        intermediate_size=fields.integer("intermediate_size", 2048),
        layers=fields.integer("num_hidden_layers", 12),
        heads=fields.integer("num_attention_heads", 8),
        max_length=fields.integer("max_position_embeddings", 77),
        activation=config.get("hidden_act", "quick_gelu"),
        bos_token_id=vocabulary - 2 if legacy else fields.integer("bos_token_id", 49406),
        eos_token_id=vocabulary - 1 if legacy else end,
        pad_token_id=vocabulary - 1 if legacy else fields.integer("pad_token_id", end),
        projection_dim=fields.integer("projection_dim", 512) if projected else None,
        pooled=config.get(POOLED),
    )


def t5_from(config: Config, where: str = "text_encoder_3/config.json") -> T5Config:
    """The sizes that a T5EncoderModel's config states. Raises SfumatoError for what is not supported."""
    fields = _Fields(where, config)
    _check(where, config, T5_FIXED)
    return T5Config(
        vocab_size=fields.integer("vocab_size", 32128),
        hidden_size=fields.integer("d_model", 512),
        intermediate_size=fields.integer("d_ff", 2048),
        layers=fields.integer("num_layers", 6),
        heads=fields.integer("num_heads", 8),
        head_dim=fields.integer("d_kv", 64),
    )


def dpt_from(config: Config, where: str = "depth_estimator/config.json") -> DPTConfig:
    """The sizes that a hybrid DPTForDepthEstimation's config states. Raises SfumatoError for what is not supported."""
    fields = _Fields(where, config)
    _check(where, config, DPT_FIXED)
    if config.get("is_hybrid") is not True:
        raise fields.wrong("is_hybrid", "true")
    backbone = {} if config.get("backbone_config") is None else config["backbone_config"]
    if not isinstance(backbone, Mapping):
        raise fields.wrong("backbone_config", "an object")
    _check(where, backbone, BIT_FIXED)
    resnet = _Fields(where, backbone)
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
        **{name: values[0] for name, values in DPT_FIXED.items() if values[0] is not None},
        "architectures": ["DPTForDepthEstimation"],
        "model_type": "dpt",
        "backbone_config": {
            **{name: values[0] for name, values in BIT_FIXED.items()},
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


def t5_to(cfg: T5Config) -> dict[str, Any]:
    """The config of a T5EncoderModel."""
    return {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "d_ff": cfg.intermediate_size,
        "d_kv": cfg.head_dim,
        "d_model": cfg.hidden_size,
        "dropout_rate": 0.0,
        "num_heads": cfg.heads,
        "num_layers": cfg.layers,
        "tie_word_embeddings": False,
        "vocab_size": cfg.vocab_size,
        **{name: values[0] for name, values in T5_FIXED.items()},
    }


def clip_to(cfg: CLIPTextConfig) -> dict[str, Any]:
    """The config of a CLIPTextModel."""
    return {
        "architectures": ["CLIPTextModel" if cfg.projection_dim is None else PROJECTED],
        "model_type": "clip_text_model",
        "attention_dropout": 0.0,
        "bos_token_id": cfg.bos_token_id,
        "eos_token_id": cfg.eos_token_id,
        "hidden_act": cfg.activation,
        "hidden_size": cfg.hidden_size,
        "intermediate_size": cfg.intermediate_size,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": cfg.max_length,
        "num_attention_heads": cfg.heads,
        "num_hidden_layers": cfg.layers,
        "pad_token_id": cfg.pad_token_id,
        "projection_dim": cfg.hidden_size if cfg.projection_dim is None else cfg.projection_dim,
        "vocab_size": cfg.vocab_size,
        **({POOLED: cfg.pooled} if cfg.pooled == "plain" else {}),
    }


def scheduler_from(config: Config, where: str = "scheduler/scheduler_config.json") -> tuple[Prediction, Schedule]:
    """What the network predicts, and its noise levels. Raises SfumatoError for what is not supported."""
    fields = _Fields(where, config)
    if "FlowMatch" in str(config.get("_class_name")):
        return "flow", _flow_from(fields)
    _check(where, config, SCHEDULER_FIXED)
    schedule = Schedule(
        kind=config.get("beta_schedule", "linear"),
        start=fields.number("beta_start", 0.0001),
        end=fields.number("beta_end", 0.02),
        steps=fields.integer("num_train_timesteps", 1000),
        zero_terminal_snr=config.get("rescale_betas_zero_snr", False),
    )
    return PREDICTIONS[config.get("prediction_type", "epsilon")], schedule


def _flow_from(fields: _Fields) -> Schedule:
    """The noise levels of a FlowMatchEulerDiscreteScheduler."""
    _check(fields.where, fields.config, FLOW_FIXED)
    grows = fields.config.get("use_dynamic_shifting", False) is True
    return Schedule(
        steps=fields.integer("num_train_timesteps", 1000),
        shift=fields.number("shift", 1.0),
        log_shift=(fields.number("base_shift", 0.5), fields.number("max_shift", 1.15)) if grows else None,
    )


def sampling_from(config: Config, defaults: Defaults, where: str = "scheduler/scheduler_config.json") -> Defaults:
    """`defaults` with the sampler and schedule that a scheduler's config stands for, where ours have it."""
    fields = _Fields(where, config)
    name = fields.text("_class_name", "")
    if name not in SAMPLERS:
        return defaults
    sampler, spacing = SAMPLERS[name]
    schedule = SPACINGS[fields.choice("timestep_spacing", spacing, SPACINGS)]
    if sampler in ENDING_AT_THE_FIRST_STEP and schedule == "leading":
        schedule = "ddim_uniform"
    schedule = "karras" if config.get("use_karras_sigmas") is True else schedule
    return dataclasses.replace(defaults, sampler=sampler, schedule=schedule)


def _flow_to(noise: Schedule) -> dict[str, Any]:
    """The config of a FlowMatchEulerDiscreteScheduler."""
    low, high = noise.log_shift or (0.5, 1.15)
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        **{name: values[0] for name, values in FLOW_FIXED.items()},
        "base_shift": low,
        "max_shift": high,
        "num_train_timesteps": noise.steps,
        "shift": noise.shift,
        "use_dynamic_shifting": noise.log_shift is not None,
    }


def scheduler_to(prediction: Prediction, noise: Schedule, defaults: Defaults) -> dict[str, Any]:
    """The config of the scheduler that samples as `defaults` advise, or of one that knows our table."""
    if prediction == "flow":
        return _flow_to(noise)
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if prediction not in predictions:
        raise SfumatoError(f"a Stable Diffusion folder cannot say that the network predicts {prediction!r}")
    classes = {ours: theirs for theirs, (ours, _) in SAMPLERS.items() if theirs in SCHEDULERS}
    name = "DDIMScheduler" if noise.zero_terminal_snr else classes.get(defaults.sampler, "DDIMScheduler")
    spacings = {ours: theirs for theirs, ours in SPACINGS.items()}
    return {
        "_class_name": name,
        "beta_end": noise.end,
        "beta_schedule": noise.kind,
        "beta_start": noise.start,
        "num_train_timesteps": noise.steps,
        "prediction_type": predictions[prediction],
        "steps_offset": 1,
        "timestep_spacing": spacings.get(defaults.schedule, "leading"),
        "trained_betas": None,
        **SCHEDULERS[name],
        **({"rescale_betas_zero_snr": True} if noise.zero_terminal_snr else {}),
    }


def noising_to(noise: Schedule) -> dict[str, Any]:
    """The config of a DDPMScheduler that only adds noise."""
    return {
        "_class_name": "DDPMScheduler",
        "beta_end": noise.end,
        "beta_schedule": noise.kind,
        "beta_start": noise.start,
        "num_train_timesteps": noise.steps,
    }
