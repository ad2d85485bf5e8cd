"""Composed scenes as training methods ask for them: pictures, and labels in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS, STYLES
from sfumato.data.emoji.concept_scenes import ConceptScene, ConceptScenes
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.nets.layout import ARRANGEMENTS, MAX_GROUPS, MAX_THINGS, PLACES, POSES, SIZES

COLOUR_NAMES = tuple(colour.name for colour in COLOURS)
NO_GROUND = len(COLOURS)  # white that no word mentions
ABSENT = -1


class LabelledConceptScenes:
    """The scenes of a seed as `protocol.LabelledScenes`."""

    def __init__(self, data: EmojiData, seed: int) -> None:
        self._scenes = ConceptScenes(data, seed)
        self._concepts = {concept.hex: k for k, concept in enumerate(data.concepts)}

    def draw(self, numbers: Sequence[int]) -> Tensor:
        """See `protocol.LabelledScenes`."""
        return torch.stack([self._scenes.draw(self._scenes[number]).picture for number in numbers])

    def labels(self, numbers: Sequence[int]) -> dict[str, Tensor]:
        """See `protocol.LabelledScenes`."""
        n = len(numbers)
        out = {name: torch.zeros(n, MAX_THINGS, dtype=torch.int64) for name in ("picture", "tint", "group")}
        out["group"] += ABSENT
        out["spot"] = torch.zeros(n, MAX_THINGS, 5)
        out |= {name: torch.zeros(n, MAX_GROUPS, dtype=torch.int64) for name in ("concept", "count", "size", "pose")}
        out["concept"] += ABSENT
        out |= {name: torch.zeros(n, dtype=torch.int64) for name in ("arrangement", "place", "style", "ground")}
        for row, number in enumerate(numbers):
            self._label({name: value[row] for name, value in out.items()}, self._scenes[number])
        return out

    def _label(self, row: dict[str, Tensor], scene: ConceptScene) -> None:
        """Fills in the labels of one scene; `row` has the tensors of `labels` without their first dimension."""
        for k, placed in enumerate(scene.objects):
            spot = placed.spot
            row["picture"][k], row["group"][k] = placed.picture, placed.group
            row["tint"][k] = 1 + TINTS.index(placed.colour.name) if placed.colour else 0
            row["spot"][k] = torch.tensor([spot.x, spot.y, spot.side, spot.angle, float(spot.mirrored)])
        asked = scene.asked
        for k, thing in enumerate(asked.things):
            row["concept"][k], row["count"][k] = self._concepts[thing.concept.hex], thing.count
            row["size"][k] = 1 + SIZES.index(thing.size) if thing.size else 0
            row["pose"][k] = 1 + POSES.index(thing.pose) if thing.pose else 0
        row["arrangement"].fill_(ARRANGEMENTS.index(asked.arrangement))
        row["place"].fill_(1 + PLACES.index(asked.place) if asked.place else 0)
        row["style"].fill_(STYLES.index(scene.style))
        row["ground"].fill_(COLOUR_NAMES.index(asked.ground.name) if asked.ground else NO_GROUND)
