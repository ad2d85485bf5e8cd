"""First token embeddings from what captions speak of, in closed form.

A word is known by the concepts it is said of: tokens whose counts over concepts, styles and colours are alike become
neighbours, whatever their language. The counts are turned into positive pointwise mutual information and factorised
(Levy & Goldberg 2014, section 3.2). A small tower that begins here tells concepts apart at once, where one that begins
at random needs to see every word of every language many times first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def associations(ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], vocabulary: int, width: int) -> Tensor:
    """Embeddings (vocabulary, width), rows of length 1, from captions' token ids and the numbers of their labels.

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
    norms = embeddings.norm(dim=1, keepdim=True)
    chance = torch.randn(vocabulary, width, generator=generator) * 0.1 / width**0.5
    return torch.where(norms > 1e-4, embeddings / norms.clamp(min=1e-4), chance)
