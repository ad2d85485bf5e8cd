"""The judge: a second text-and-image model, trained with another seed, that no picture was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.images.tensors import to_pixels
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.clip import CLIP, load_clip, trim

BATCH = 128


@dataclass(frozen=True, eq=False)
class Judge:
    """Puts pictures and captions into one space, where the cosine says how well they fit."""

    clip: CLIP
    tokenizer: CLIPTokenizer
    device: torch.device

    @property
    def width(self) -> int:
        """E, the length of its vectors."""
        return self.clip.text_projection.out_features

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, E) of captions, on the CPU; equal captions are read once."""
        # Captions of like length share a batch, so that little padding is computed.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        parts = []
        for start in range(0, len(distinct), BATCH):
            ids = trim(self.tokenizer(distinct[start : start + BATCH]), self.tokenizer)
            parts.append(self.clip.embed_text(ids.to(self.device)).cpu())
        place = {text: k for k, text in enumerate(distinct)}
        return torch.cat(parts)[[place[text] for text in texts]]

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Tensor:
        """Unit vectors (B, E) of pictures (B, 3, S, S) in [-1, 1], on the CPU; S as `load_judge` was told."""
        return self.clip.embed_image(x.to(self.device)).cpu()

    def look(self, x: Tensor) -> Tensor:
        """Unit vectors (B, E) of pictures (B, 3, H, W) in [-1, 1] of any size, on its device and with a gradient.

        Pictures are seen whole, so long ones are squeezed.
        """
        side = self.clip.image.cfg.size
        if min(x.shape[2:]) < side:
            x = F.interpolate(x, (max(side, x.shape[2]), max(side, x.shape[3])), mode="bilinear")
        return self.clip.embed_image(F.adaptive_avg_pool2d(x, side))

    @torch.no_grad()
    def scores(self, image: Image.Image, captions: Tensor) -> list[float]:
        """The cosines of an RGB picture with captions (N, E), as `texts` gives them."""
        return (captions @ self.look(to_pixels(image).to(self.device))[0].cpu()).tolist()


def embedded_judge() -> Path:
    """The folder of the judge that ships with the package."""
    return Path(str(resources.files("sfumato") / "assets" / "judge"))


def load_judge(folder: Path | None, size: int | None, device: torch.device) -> Judge:
    """The judge in `folder` (None: the one that ships), for pictures of `size` pixels a side (None: of any size).

    Raises SfumatoError for a folder that holds none, or one that cannot see pictures of this size.
    """
    folder = folder or embedded_judge()
    try:
        clip, tokenizer = load_clip(folder)
    except SfumatoError:
        raise
    except Exception as error:  # a broken or foreign file makes the readers raise nearly anything
        raise SfumatoError(
            f"{folder} is no judge that this version reads ({type(error).__name__}); "
            "give the export folder of `sfumato train clip`"
        ) from error
    sees = clip.image.cfg.size
    if size is not None and size % sees:
        raise SfumatoError(f"the judge in {folder} sees {sees} pixels, the pictures have {size}; expected a multiple")
    return Judge(clip.float().to(device), tokenizer, device)
