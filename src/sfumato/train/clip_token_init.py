"""First token embeddings, computed from what the texts of a data set speak of.

Tokens that are used for the same concepts, styles and colours become neighbours, whatever their language. Their counts
over these labels are turned into positive pointwise mutual information and factorised (Levy & Goldberg 2014, section
3.2). A small tower that starts from them tells concepts apart at once. One that starts at random has to see every word
of every language many times first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def associations(ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], vocabulary: int, width: int) -> Tensor:
    """Returns embeddings (vocabulary, width), rows of length 1, from the token ids of texts and the numbers of their
    labels.

    Tokens that never occur get small random rows.
    """
    pairs: dict[tuple[int, int], int] = {}
    for tokens, said in zip(ids, labels, strict=True):
        for token in set(tokens):
            for label in said:
                pairs[token, label] = pairs.get((token, label), 0) + 1
    rows, columns = torch.tensor(list(pairs)).T
    counts = torch.zeros(vocabulary, int(columns.max()) + 1)
    counts[rows, columns] = torch.tensor(list(pairs.values()), dtype=torch.float32)
    # Rare labels would score too high; raising their share tames them (Levy & Goldberg 2014, section 3.1).
    smooth = counts.sum(0) ** 0.75
    expected = counts.sum(1, keepdim=True) * smooth / smooth.sum()
    information = (counts / expected.clamp(min=1e-9)).clamp(min=1).log()
    generator = torch.Generator().manual_seed(0)
    left, strength, _ = torch.linalg.svd(information.double(), full_matrices=False)
    embeddings = (left[:, :width] * strength[:width].sqrt()).float()
    if len(strength) < width:  # few labels fill few columns
        embeddings = F.pad(embeddings, (0, width - len(strength)))
    norms = embeddings.norm(dim=1, keepdim=True)
    chance = torch.randn(vocabulary, width, generator=generator) * 0.1 / width**0.5
    return torch.where(norms > 1e-4, embeddings / norms.clamp(min=1e-4), chance)
