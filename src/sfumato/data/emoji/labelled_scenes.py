"""Composed scenes as training methods ask for them: pictures, and labels in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS
from sfumato.data.emoji.concept_scenes import ConceptScenes
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.nets.layout import MAX_THINGS

COLOUR_NAMES = tuple(colour.name for colour in COLOURS)
NO_GROUND = len(COLOURS)  # white that no word mentions
ABSENT = -1


class LabelledConceptScenes:
    """The scenes of a seed as `protocol.LabelledScenes`."""

    def __init__(self, data: EmojiData, seed: int) -> None:
        self._scenes = ConceptScenes(data, seed)

    def draw(self, numbers: Sequence[int]) -> Tensor:
        """See `protocol.LabelledScenes`."""
        return torch.stack([self._scenes.draw(self._scenes[number]).picture for number in numbers])

    def labels(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """See `protocol.LabelledScenes`."""
        n = len(numbers)
        labels = {name: torch.zeros(n, MAX_THINGS, dtype=torch.int64) for name in ("picture", "tint")}
        labels["group"] = torch.full((n, MAX_THINGS), ABSENT)
        labels["spot"] = torch.zeros(n, MAX_THINGS, 5)
        labels["ground"] = torch.zeros(n, dtype=torch.int64)
        for row, scene in enumerate(self._scenes[number] for number in numbers):
            for k, placed in enumerate(scene.objects):
                spot = placed.spot
                labels["picture"][row, k], labels["group"][row, k] = placed.picture, placed.group
                labels["tint"][row, k] = 1 + TINTS.index(placed.colour.name) if placed.colour else 0
                labels["spot"][row, k] = torch.tensor([spot.x, spot.y, spot.side, spot.angle, float(spot.mirrored)])
            ground = scene.asked.ground
            labels["ground"][row] = COLOUR_NAMES.index(ground.name) if ground else NO_GROUND
        return labels
