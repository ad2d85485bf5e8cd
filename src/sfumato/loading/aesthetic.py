"""LAION's aesthetic predictors from their files, in the layouts in which they were published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from sfumato.checkpoint.keymap import Shapes, rename
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.loading.image_encoders import ImageEncoder
from sfumato.loading.load import fill_alone
from sfumato.nets.aesthetic import AestheticPredictor

_LAYER = re.compile(r"((?:.+\.)?(\d+)\.|)weight")


@dataclass(frozen=True, eq=False)
class AestheticScorer:
    """Says how much people would like a picture, from about 1 to 10. `name` is that of the predictor's file."""

    name: str
    predictor: AestheticPredictor
    encoder: ImageEncoder

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> float:
        """The score of an RGB picture."""
        vector = F.normalize(self.encoder(image).vector.float(), dim=1)
        return self.predictor(vector).item()


def load_predictor(path: str | Path, device: torch.device) -> AestheticPredictor:
    """Load the network of an aesthetic predictor, in float32: one linear layer, or several (`layers.0.weight` ...).

    Nothing in the file is executed. Raises SfumatoError for a file that is broken, not whole, or no such network.
    """
    with open_checkpoint(path) as checkpoint:
        shapes = checkpoint.shapes
        layers = _layers(shapes)
        widths = [shapes[f"{layer}weight"] for layer in layers]
        fits = bool(layers) and all(len(shape) == 2 for shape in widths)
        if not fits or [shape[0] for shape in widths] != [*(shape[1] for shape in widths[1:]), 1]:
            raise SfumatoError(
                f"{checkpoint.path} is no aesthetic predictor; give a file of LAION's, such as "
                "sac+logos+ava1-l14-linearMSE.pth"
            )
        with torch.device("meta"):
            network = AestheticPredictor([shape[1] for shape in widths], _rectified(layers))
        rules = rename(network.state_dict(), lambda name: layers[int(name.split(".")[1])] + name.rpartition(".")[2])
        fill_alone(network, rules, checkpoint, "aesthetic predictor", torch.float32, device)
    return network


def _layers(shapes: Shapes) -> list[str]:
    """What stands before `weight` in the names of a file's linear layers, in their order; [""] of a single one."""
    found = [match for name in shapes if (match := _LAYER.fullmatch(name))]
    return [match[1] for match in sorted(found, key=lambda match: int(match[2] or 0))]


def _rectified(layers: list[str]) -> bool:
    """Whether there is a ReLU between layers: their numbers count dropout, which stands in all but the last gap, and
    ReLU."""
    return len(layers) > 1 and _number(layers[-1]) - _number(layers[-2]) > 1


def _number(layer: str) -> int:
    return int(layer.split(".")[-2])
