"""T5's encoder as transformers names it, which is also how 3 and 3.5 and the community's files keep it."""

from __future__ import annotations

import re

from sfumato.checkpoint.keymap import Shapes
from sfumato.spec import T5Config

# How llama.cpp names them in GGUF files.
LLAMA_CPP = {
    "attn_q": "0.SelfAttention.q",
    "attn_k": "0.SelfAttention.k",
    "attn_v": "0.SelfAttention.v",
    "attn_o": "0.SelfAttention.o",
    "attn_rel_b": "0.SelfAttention.relative_attention_bias",
    "attn_norm": "0.layer_norm",
    "ffn_gate": "1.DenseReluDense.wi_0",
    "ffn_up": "1.DenseReluDense.wi_1",
    "ffn_down": "1.DenseReluDense.wo",
    "ffn_norm": "1.layer_norm",
}
ALIASES = (
    (r"token_embd\.weight|encoder\.embed_tokens\.weight", "shared.weight"),
    (r"enc\.output_norm\.weight", "encoder.final_layer_norm.weight"),
    *((rf"enc\.blk\.(\d+)\.{old}\.weight", rf"encoder.block.\1.layer.{new}.weight") for old, new in LLAMA_CPP.items()),
)
# What a whole T5, or the tied copy of its table, adds to the encoder.
IGNORED = (r"decoder\..*", r"lm_head\.weight", r"encoder\.embed_tokens\.weight", r"spiece_model")


def sizes(shapes: Shapes, prefix: str) -> T5Config:
    """The sizes of an encoder from the shapes of its tensors; LookupError when they are not those of one."""
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    vocabulary, width = own.get("shared.weight") or own["encoder.embed_tokens.weight"]
    last = re.compile(r"encoder\.block\.\d+\.layer\.1\.layer_norm\.weight")
    attention = "encoder.block.0.layer.0.SelfAttention."
    heads = own[f"{attention}relative_attention_bias.weight"][1]
    return T5Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=own["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0],
        layers=sum(last.fullmatch(name) is not None for name in own),
        heads=heads,
        head_dim=own[f"{attention}q.weight"][0] // max(1, heads),
    )
