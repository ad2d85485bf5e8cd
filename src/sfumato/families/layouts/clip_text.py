"""CLIP's text transformer as transformers names it, which is also how the 1.x and XL originals keep CLIP-L."""

from __future__ import annotations

import re

from sfumato.checkpoint.keymap import Shapes
from sfumato.spec import CLIPTextConfig

HEAD = 64  # CLIP's towers all have heads of this width


def sizes(shapes: Shapes, prefix: str) -> CLIPTextConfig:
    """The sizes of a text transformer from the shapes of its tensors; LookupError when they are not those of one.

    The last two tokens of CLIP's vocabulary are the start and the end.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    vocabulary, width = own["text_model.embeddings.token_embedding.weight"]
    layers = sum(re.fullmatch(r"text_model\.encoder\.layers\.\d+\.mlp\.fc1\.weight", name) is not None for name in own)
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=own["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        layers=layers,
        heads=max(1, width // HEAD),
        max_length=own["text_model.embeddings.position_embedding.weight"][0],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
        projection_dim=own["text_projection.weight"][0] if "text_projection.weight" in own else None,
    )
