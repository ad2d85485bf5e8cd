"""The text towers of the methods that train one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from sfumato.spec import CLIPTextConfig
from sfumato.text.tokenizer import CLIPTokenizer

EMBEDDING_STD = 0.02


@dataclass(frozen=True)
class TowerSize:
    """Sizes of a text tower; its vocabulary is learnt from the texts of the data set."""

    vocab_size: int = 8000
    width: int = 192
    layers: int = 4
    heads: int = 6
    max_length: int = 64


def tower_config(size: TowerSize, tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Returns the config of a tower of these sizes for the symbols of `tokenizer`."""
    return CLIPTextConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=size.width,
        intermediate_size=4 * size.width,
        layers=size.layers,
        heads=size.heads,
        max_length=size.max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def shrink_embeddings(tower: nn.Module) -> None:
    """Draws small first embeddings; torch's unit normal would drown the layers' outputs.

    Radford et al. 2021 take standard deviations of 0.02 for tokens and 0.01 for positions.
    """
    for module in tower.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_STD)
