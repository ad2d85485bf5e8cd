"""CLIP's vision towers from their files, with what they do to a picture before they look at it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families.layouts import clip_vision
from sfumato.loading.load import fill_alone
from sfumato.nets.clip_vision import CLIPVision, ImageStates
from sfumato.runtime.device import choose_device, choose_dtype
from sfumato.spec import CLIP_PIXELS


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """A vision tower, and pictures as it takes them."""

    network: CLIPVision

    def prepared(self, image: Image.Image) -> Tensor:
        """An RGB picture as the tower takes it, (1, 3, S, S): its middle, the shorter side made S, by cubic filters."""
        size = self.network.cfg.size
        width, height = image.size
        shorter = min(width, height)
        sides = (max(size, size * width // shorter), max(size, size * height // shorter))
        resized = image.resize(sides, Image.Resampling.BICUBIC)
        left, top = (sides[0] - size) // 2, (sides[1] - size) // 2
        values = np.asarray(resized.crop((left, top, left + size, top + size)), np.float32) / 255
        mean, std = np.array(CLIP_PIXELS, np.float32)
        pixels = torch.from_numpy((values - mean) / std)
        return pixels.permute(2, 0, 1)[None].contiguous()

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> ImageStates:
        """What the tower says of an RGB picture."""
        return self.states(self.prepared(image))

    @torch.no_grad()
    def states(self, x: Tensor) -> ImageStates:
        """What the tower says of prepared pictures (B, 3, S, S)."""
        weight = self.network.vision_model.embeddings.class_embedding
        return self.network(x.to(weight))


def load_image_encoder(
    path: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> ImageEncoder:
    """Load a vision tower: a file or folder of transformers, or a file of OpenAI's or OpenCLIP's CLIP.

    Nothing in the file is executed. Raises SfumatoError for a file that is broken, not whole, or has no such tower.
    """
    where = choose_device(device)
    with open_checkpoint(path) as checkpoint:
        return ImageEncoder(_read(checkpoint, choose_dtype(dtype, where), where))


def _read(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> CLIPVision:
    found = clip_vision.found_in(checkpoint.shapes)
    if found is None:
        raise SfumatoError(
            f"{checkpoint.path} holds no vision tower of CLIP; give the image encoder's own file or folder"
        )
    prefix, transformers = found
    inner = (f"{prefix}vision_model.", f"{prefix}visual_projection.") if transformers else (prefix,)
    own = {
        name: one
        for name, one in checkpoint.tensors.items()
        if name.startswith(inner) and not name.endswith("position_ids")
    }
    checkpoint = replace(checkpoint, tensors=own)
    try:
        cfg = clip_vision.sizes(checkpoint.shapes, prefix, transformers, checkpoint.configs.get("config", {}))
    except (LookupError, ValueError, TypeError) as error:
        raise SfumatoError(f"{checkpoint.path} has no whole vision tower of CLIP; download it again") from error
    with torch.device("meta"):
        network = CLIPVision(cfg)
    rules = clip_vision.rules(network.state_dict(), prefix, transformers)
    fill_alone(network, rules, checkpoint, "vision tower of CLIP", dtype, device)
    return network
