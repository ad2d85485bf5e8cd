"""CLIP's vision transformer (Radford et al. 2021): patches of a picture are its words (Dosovitskiy et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.nets.clip import Encoder
from sfumato.nets.layers import Linear
from sfumato.spec import CLIPVisionConfig


@dataclass(frozen=True)
class ImageStates:
    """Hidden states (B, 1 + patches, D) after the embedding and after every layer, none normalised at the end, of
    which the first is that of the whole picture; and its vector (B, P) in the space that pictures and texts share, or
    (B, D) where nothing projects."""

    hidden: tuple[Tensor, ...]
    vector: Tensor


class Embeddings(nn.Module):
    def __init__(self, cfg: CLIPVisionConfig):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(cfg.hidden_size))
        self.patch_embedding = nn.Conv2d(3, cfg.hidden_size, cfg.patch, stride=cfg.patch, bias=False)
        self.position_embedding = nn.Embedding((cfg.size // cfg.patch) ** 2 + 1, cfg.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embedding(x).flatten(2).transpose(1, 2)  # (B, patches, D)
        whole = self.class_embedding.expand(len(x), 1, -1)
        return torch.cat([whole, patches], 1) + self.position_embedding.weight


class Transformer(nn.Module):
    def __init__(self, cfg: CLIPVisionConfig):
        super().__init__()
        self.embeddings = Embeddings(cfg)
        self.pre_layrnorm = nn.LayerNorm(cfg.hidden_size)  # transformers' spelling
        self.encoder = Encoder(cfg)
        self.post_layernorm = nn.LayerNorm(cfg.hidden_size)


class CLIPVision(nn.Module):
    """Pictures (B, 3, size, size), normalised by `spec.CLIP_PIXELS` -> ImageStates."""

    def __init__(self, cfg: CLIPVisionConfig):
        super().__init__()
        self.cfg = cfg
        self.vision_model = Transformer(cfg)
        if cfg.projection_dim is not None:
            self.visual_projection = Linear(cfg.hidden_size, cfg.projection_dim, bias=False)

    def forward(self, x: Tensor) -> ImageStates:
        model = self.vision_model
        hidden = [model.pre_layrnorm(model.embeddings(x))]
        for layer in model.encoder.layers:
            hidden.append(layer(hidden[-1]))
        vector = model.post_layernorm(hidden[-1][:, 0])
        projected = vector if self.cfg.projection_dim is None else self.visual_projection(vector)
        return ImageStates(tuple(hidden), projected)
