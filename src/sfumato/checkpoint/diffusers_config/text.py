"""The configs of the text encoders: CLIPTextModel, with and without projection, and T5EncoderModel."""

from __future__ import annotations

from typing import Any

from sfumato.checkpoint.diffusers_config.fields import Config, Fields, Fixed, check, stated
from sfumato.spec import CLIPTextConfig, T5Config

POOLED = "sfumato_pooled"  # of a text tower in a folder of ours: diffusers has no place for CLIPTextConfig.pooled
PROJECTED = "CLIPTextModelWithProjection"
CLIP_FIXED: Fixed = {
    "hidden_act": ("quick_gelu", "gelu"),
    "layer_norm_eps": (1e-5,),
    POOLED: (None, "plain", "projected"),
}
T5_FIXED: Fixed = {
    "feed_forward_proj": ("gated-gelu",),
    "layer_norm_epsilon": (1e-6,),
    "relative_attention_max_distance": (128,),
    "relative_attention_num_buckets": (32,),
}


def clip_from(config: Config, where: str = "text_encoder/config.json") -> CLIPTextConfig:
    """The sizes that a CLIPTextModel's config states. Raises SfumatoError for what is not supported.

    The 1.x releases name 0, 1 and 2 as start, padding and end, which their tokenizer never had: an end token of 2 means
    the last two of the vocabulary (transformers knows the same exception).
    """
    fields = Fields(where, config)
    check(where, config, CLIP_FIXED)
    vocabulary = fields.integer("vocab_size", 49408)
    end = fields.integer("eos_token_id", 49407)
    legacy = end == 2
    projected = PROJECTED in fields.names("architectures", ())
    width, heads = fields.integer("hidden_size", 512), fields.integer("num_attention_heads", 8)
    if not heads or width % heads:
        raise fields.wrong("num_attention_heads", f"a number that divides the hidden_size {width}")
    for name, usual in (("bos_token_id", 49406), ("eos_token_id", 49407), ("pad_token_id", end)):
        if not legacy and fields.integer(name, usual) >= vocabulary:
            raise fields.wrong(name, f"a token below the vocab_size {vocabulary}")
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=fields.integer("intermediate_size", 2048),
        layers=fields.integer("num_hidden_layers", 12),
        heads=heads,
        max_length=fields.integer("max_position_embeddings", 77),
        activation=config.get("hidden_act", "quick_gelu"),
        bos_token_id=vocabulary - 2 if legacy else fields.integer("bos_token_id", 49406),
        eos_token_id=vocabulary - 1 if legacy else end,
        pad_token_id=vocabulary - 1 if legacy else fields.integer("pad_token_id", end),
        projection_dim=fields.integer("projection_dim", 512) if projected else None,
        pooled=config.get(POOLED),
    )


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


def t5_from(config: Config, where: str = "text_encoder_3/config.json") -> T5Config:
    """The sizes that a T5EncoderModel's config states. Raises SfumatoError for what is not supported."""
    fields = Fields(where, config)
    check(where, config, T5_FIXED)
    return T5Config(
        vocab_size=fields.integer("vocab_size", 32128),
        hidden_size=fields.integer("d_model", 512),
        intermediate_size=fields.integer("d_ff", 2048),
        layers=fields.integer("num_layers", 6),
        heads=fields.integer("num_heads", 8),
        head_dim=fields.integer("d_kv", 64),
    )


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
        **stated(T5_FIXED),
    }
