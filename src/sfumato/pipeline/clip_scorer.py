"""How well pictures and words fit, by a CLIP that ships or that `sfumato train clip` left (Radford et al. 2021).

Two such networks ship. The perceptor serves drawing: it ranks pictures, guides and finds captions. The judge measures
what was drawn and takes part in nothing else, so that no picture is made to please it. Both are trained by the same
recipe, with other seeds and other pictures held out.
"""

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
from sfumato.loading.exports import load_clip
from sfumato.nets.dual_encoder import CLIP
from sfumato.text.tokenizer import CLIPTokenizer

BATCH = 128
PERCEPTOR, JUDGE = "perceptor", "judge"


@dataclass(frozen=True, eq=False)
class ClipScorer:
    """Puts pictures and texts into one space, where the cosine says how well they fit.

    `held_out` names the pictures of the emoji set that its training did not see, each "STYLE/CODE".
    """

    clip: CLIP
    tokenizer: CLIPTokenizer
    device: torch.device
    held_out: frozenset[str] = frozenset()

    @property
    def width(self) -> int:
        """E, the length of its vectors."""
        return self.clip.width

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, E) of texts, on the CPU; equal texts are read once."""
        # Texts of like length share a batch, so that little padding is computed.
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        parts = []
        for start in range(0, len(distinct), BATCH):
            ids = self.tokenizer.batch(distinct[start : start + BATCH])
            parts.append(self.clip.embed_text(ids.to(self.device)).cpu())
        place = {text: k for k, text in enumerate(distinct)}
        return torch.cat(parts)[[place[text] for text in texts]]

    def encode_image(self, x: Tensor) -> Tensor:
        """Unit vectors (B, E) of pictures (B, 3, H, W) in [-1, 1] of any size, on the scorer's device and with a
        gradient.

        Pictures are seen whole, so long ones are squeezed.
        """
        x, side = x.to(self.device), self.clip.image.cfg.size
        if min(x.shape[2:]) < side:
            x = F.interpolate(x, (max(side, x.shape[2]), max(side, x.shape[3])), mode="bilinear")
        return self.clip.embed_image(F.adaptive_avg_pool2d(x, side))

    @torch.no_grad()
    def scores(self, image: Image.Image, texts: Tensor) -> list[float]:
        """The cosines of an RGB picture with texts (N, E), as `encode_text` gives them."""
        return (texts @ self.encode_image(to_pixels(image))[0].cpu()).tolist()


def first_of(scores: Tensor, fitting: Tensor, candidates: int = 100) -> Tensor:
    """The chance of each row of scores (N, K) that a fitting column is the first among `candidates`: the best of those
    that fit (N, K) and random others, the exact expectation over all draws: (N,).

    A tie is a miss. Where there are fewer others, all take part.
    """
    scores, fitting = scores.float().cpu(), fitting.cpu()
    own = scores.masked_fill(~fitting, -torch.inf).amax(1, keepdim=True)
    others = (~fitting).sum(1).double()
    worse = others - (~(scores < own) & ~fitting).sum(1)
    drawn = others.clamp(max=candidates - 1)
    ways = torch.lgamma(worse + 1) - torch.lgamma((worse - drawn).clamp(min=0) + 1)
    all_ways = torch.lgamma(others + 1) - torch.lgamma(others - drawn + 1)
    return torch.where(worse >= drawn, (ways - all_ways).exp(), 0.0).float()


def load_scorer(source: str | Path, device: torch.device) -> ClipScorer:
    """Returns PERCEPTOR or JUDGE, the two that ship, or the one in an export folder of `sfumato train clip`.

    Raises SfumatoError for a folder that holds none.
    """
    folder = Path(str(resources.files("sfumato") / "assets" / source)) if source in (PERCEPTOR, JUDGE) else Path(source)
    try:
        clip, tokenizer, held_out = load_clip(folder)
    except SfumatoError:
        raise
    except Exception as error:  # a broken or foreign file makes the readers raise nearly anything
        raise SfumatoError(
            f"{folder} holds no CLIP that this version reads ({type(error).__name__}); "
            "give the export folder of `sfumato train clip`"
        ) from error
    return ClipScorer(clip.to(device), tokenizer, device, held_out)
