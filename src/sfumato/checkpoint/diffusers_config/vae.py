"""The config of an autoencoder: AutoencoderKL."""

from __future__ import annotations

from typing import Any

from sfumato.checkpoint.diffusers_config.fields import Config, Fields, Fixed, check, stated
from sfumato.spec import VAEConfig

VAE_FIXED: Fixed = {
    "_class_name": ("AutoencoderKL",),
    "act_fn": ("silu", "swish"),
    "mid_block_add_attention": (True,),
    "use_post_quant_conv": (True, False),
    "use_quant_conv": (True, False),
}


def vae_from(config: Config, where: str = "vae/config.json") -> VAEConfig:
    """The sizes that an AutoencoderKL's config states. Raises SfumatoError for what is not supported."""
    fields = Fields(where, config)
    check(where, config, VAE_FIXED)
    channels = fields.integers("block_out_channels", (64,))
    for name, block in (("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")):
        if fields.names(name, (block,)) != [block] * len(channels):
            raise fields.wrong(name, f"{block} for every level")
    if config.get("out_channels", 3) != config.get("in_channels", 3):
        raise fields.wrong("out_channels", "the same as in_channels")
    if config.get("use_quant_conv", True) != config.get("use_post_quant_conv", True):
        raise fields.wrong("use_post_quant_conv", "the same as use_quant_conv")
    mean, std = (_of_channels(fields, name) for name in ("latents_mean", "latents_std"))
    if len(mean) != len(std) or not all(std):
        raise fields.wrong("latents_std", "a number above 0 for each of latents_mean")
    scale = fields.number("scaling_factor", 0.18215)
    if scale <= 0:
        raise fields.wrong("scaling_factor", "a number above 0")
    return VAEConfig(
        in_channels=fields.integer("in_channels", 3),
        latent_channels=fields.integer("latent_channels", 4),
        channels=channels,
        blocks=fields.integer("layers_per_block", 1),
        groups=fields.integer("norm_num_groups", 32),
        scale=scale,
        shift=0.0 if config.get("shift_factor") is None else fields.number("shift_factor", 0.0),
        quant_convs=fields.flag("use_quant_conv", True),
        mean=mean,
        std=std,
    )


def _of_channels(fields: Fields, name: str) -> tuple[float, ...]:
    """A number for each channel of the latents; () where the file has none."""
    value = fields.config.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) != fields.integer("latent_channels", 4):
        raise fields.wrong(name, "a list of a number for each channel of the latents")
    return tuple(Fields(fields.where, {name: number}).number(name, 0) for number in value)


def vae_to(cfg: VAEConfig, sample_size: int) -> dict[str, Any]:
    """The config of an AutoencoderKL; `sample_size` is the usual side of the pictures."""
    return {
        **stated(VAE_FIXED),
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
        **({"latents_mean": list(cfg.mean), "latents_std": list(cfg.std)} if cfg.mean else {}),
        "up_block_types": ["UpDecoderBlock2D"] * len(cfg.channels),
        "use_post_quant_conv": cfg.quant_convs,
        "use_quant_conv": cfg.quant_convs,
    }
