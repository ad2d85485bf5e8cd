"""A text and an image encoder whose vectors can be compared, as CLIP's (Radford et al. 2021), but tied by classes.

Each encoder ends in probabilities of classes of several kinds: what is shown, in which style, on which ground, how
many. A class has one vector, which both encoders are drawn to, so that they need no pairs to agree. The cosine of the
two lists of probabilities says how well a text and a picture fit. The last class of a kind may be that nothing is said:
no picture is of it, so that such a text fits all pictures alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.clip import CLIPText
from sfumato.nets.image_tower import ImageTower, ImageTowerConfig
from sfumato.spec import CLIPTextConfig

START_SCALE, MAX_SCALE = 16.0, 60.0
OTHER_WEIGHT = 0.3  # of every kind but the first, whose weight is 1


class CLIP(nn.Module):
    """`kinds` gives the number of classes of each kind, the most important first; `embedding` is the length E of the
    vectors of classes."""

    def __init__(self, text: CLIPTextConfig, image: ImageTowerConfig, embedding: int, kinds: Mapping[str, int]):
        super().__init__()
        self.kinds = dict(kinds)
        self.text = CLIPText(text)
        self.image = ImageTower(image)
        self.text_projection = nn.Linear(text.hidden_size, embedding, bias=False)
        self.visual_projection = nn.Linear(image.channels[-1], embedding, bias=False)
        self.classes = nn.init.normal_(nn.Parameter(torch.empty(self.width, embedding)), std=embedding**-0.5)
        self.log_scales = nn.Parameter(torch.full((len(self.kinds),), math.log(START_SCALE)))

    @property
    def width(self) -> int:
        """The length of what `embed_text` and `embed_image` return: all classes of all kinds, V."""
        return sum(self.kinds.values())

    def text_features(self, ids: Tensor) -> Tensor:
        """Token ids (B, L) -> unit vectors (B, E) in the space of the classes."""
        return F.normalize(self.text_projection(self.text(ids).pooled).float(), dim=1)

    def image_features(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] -> unit vectors (B, E) in the space of the classes."""
        return F.normalize(self.visual_projection(self.image(x)).float(), dim=1)

    def log_probabilities(self, features: Tensor, fixed: bool = False) -> dict[str, Tensor]:
        """Features (B, E) -> for each kind the logarithms of the probabilities of its classes (B, classes).

        With `fixed` the classes get no gradient.
        """
        classes, log_scales = (value.detach() if fixed else value for value in (self.classes, self.log_scales))
        cosines = features @ F.normalize(classes, dim=1).T
        scales = log_scales.clamp(max=math.log(MAX_SCALE)).exp()
        parts = cosines.split(list(self.kinds.values()), dim=1)
        return {
            name: (scale * part).log_softmax(1) for name, scale, part in zip(self.kinds, scales, parts, strict=True)
        }

    def embed_text(self, ids: Tensor) -> Tensor:
        """Token ids (B, L) -> unit vectors (B, V)."""
        return self._embedded(self.text_features(ids))

    def embed_image(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] -> unit vectors (B, V)."""
        return self._embedded(self.image_features(x))

    def _embedded(self, features: Tensor) -> Tensor:
        parts = [F.normalize(log_p.exp(), dim=1) for log_p in self.log_probabilities(features).values()]
        return F.normalize(torch.cat([parts[0], *(OTHER_WEIGHT * part for part in parts[1:])], 1), dim=1)
