"""The safety checker of Stable Diffusion 1.x: pictures near to certain concepts in CLIP's space are unsafe.

Which concepts these are is said by vectors alone; Rando et al. 2022 describe what they stand for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.clip_vision import CLIPVision
from sfumato.spec import CLIPVisionConfig

STRICTER = 0.01  # by which every threshold falls for a picture that is near to a concept of special care
PLACES = 3  # decimals to which distances are rounded before they are compared


class SafetyChecker(nn.Module):
    """Pictures (B, 3, S, S) as CLIP takes them -> which of them are unsafe, (B,) of bool.

    A picture is unsafe where its cosine with a concept is above that concept's threshold (its "weight" in files).
    """

    def __init__(self, cfg: CLIPVisionConfig, concepts: int, special: int):
        super().__init__()
        self.vision = CLIPVision(cfg)
        width = cfg.projection_dim or cfg.hidden_size
        self.concept_embeds = nn.Parameter(torch.zeros(concepts, width))
        self.special_care_embeds = nn.Parameter(torch.zeros(special, width))
        self.concept_embeds_weights = nn.Parameter(torch.zeros(concepts))
        self.special_care_embeds_weights = nn.Parameter(torch.zeros(special))

    def forward(self, x: Tensor) -> Tensor:
        vector = F.normalize(self.vision(x).vector.float(), dim=1)

        def near(concepts: Tensor, thresholds: Tensor, by: Tensor | float = 0.0) -> Tensor:
            above = vector @ F.normalize(concepts.float(), dim=1).T - thresholds.float() + by
            return (above.round(decimals=PLACES) > 0).any(1)

        careful = near(self.special_care_embeds, self.special_care_embeds_weights)
        return near(self.concept_embeds, self.concept_embeds_weights, STRICTER * careful[:, None])
