"""The CLIP text transformer (Radford et al. 2021, section 2.4): causal, pre-norm, learned positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.layers import Linear, look_up
from sfumato.spec import CLIPTextConfig, CLIPVisionConfig

Config = CLIPTextConfig | CLIPVisionConfig


@dataclass(frozen=True)
class TextStates:
    """Hidden states (B, L, D) after the embedding and after every layer, none normalised, and what they are read by."""

    hidden: tuple[Tensor, ...]
    final_norm: nn.LayerNorm
    ends: Tensor  # (B,) position of the end token
    cfg: CLIPTextConfig
    projection: nn.Linear | None = None

    def skip(self, clip_skip: int) -> Tensor:
        """Normalised output of the last layer (1), the last but one (2) ...: (B, L, D)."""
        return self.final_norm(self.hidden[-clip_skip])

    def read(self, clip_skip: int = 1) -> Tensor:
        """Returns the states (B, L, D) that condition a network: of the release's layer, or of an earlier one."""
        layer = self.hidden[1 - self.cfg.skip - clip_skip]
        return self.final_norm(layer) if self.cfg.normalised else layer

    @property
    def last(self) -> Tensor:
        return self.skip(1)

    @property
    def pooled(self) -> Tensor:
        """Normalised last state at the end token (B, D), before any projection."""
        rows = torch.arange(len(self.ends), device=self.ends.device)
        return self.final_norm(self.hidden[-1][rows, self.ends])

    @property
    def vector(self) -> Tensor | None:
        """Returns the vector (B, P) of the whole text that conditions a network, if the release uses one."""
        if self.cfg.pooled is None:
            return None
        return self.pooled if self.cfg.pooled == "plain" else self.projected

    @property
    def projected(self) -> Tensor:
        """`pooled` in the space that text and pictures share (B, P), or as it is where there is no projection."""
        return self.pooled if self.projection is None else self.projection(self.pooled)


class Embeddings(nn.Module):
    def __init__(self, cfg: CLIPTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.position_embedding = nn.Embedding(cfg.max_length, cfg.hidden_size)

    def forward(self, ids: Tensor, further: Tensor | None = None) -> Tensor:
        return look_up(self.token_embedding, ids, further) + self.position_embedding.weight[: ids.shape[1]]


class SelfAttention(nn.Module):
    """Words look at those before them and at themselves, patches of a picture at all of them."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.heads, self.causal = cfg.heads, isinstance(cfg, CLIPTextConfig)
        d = cfg.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, nh, L, hs)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(h.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.quick = cfg.activation == "quick_gelu"
        self.fc1 = Linear(cfg.hidden_size, cfg.intermediate_size)
        self.fc2 = Linear(cfg.intermediate_size, cfg.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x) if self.quick else F.gelu(x))


class Layer(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(cfg.hidden_size)
        self.self_attn = SelfAttention(cfg)
        self.layer_norm2 = nn.LayerNorm(cfg.hidden_size)
        self.mlp = MLP(cfg)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    def __init__(self, cfg: Config):
        super().__init__()
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg.layers))


class Transformer(nn.Module):
    def __init__(self, cfg: CLIPTextConfig):
        super().__init__()
        self.embeddings = Embeddings(cfg)
        self.encoder = Encoder(cfg)
        self.final_layer_norm = nn.LayerNorm(cfg.hidden_size)


class CLIPText(nn.Module):
    """Token ids (B, L), L at most `cfg.max_length` -> TextStates. For ids of `further` vectors (E, D) see `look_up`."""

    def __init__(self, cfg: CLIPTextConfig):
        super().__init__()
        self.cfg = cfg
        self.text_model = Transformer(cfg)
        if cfg.projection_dim is not None:
            self.text_projection = Linear(cfg.hidden_size, cfg.projection_dim, bias=False)

    def forward(self, ids: Tensor, further: Tensor | None = None) -> TextStates:
        model = self.text_model
        hidden = [model.embeddings(ids, further)]
        for layer in model.encoder.layers:
            hidden.append(layer(hidden[-1]))
        # argmax finds the first end token; the padding after it is often the same token.
        ends = (ids == self.cfg.eos_token_id).int().argmax(1)
        projection = self.text_projection if self.cfg.projection_dim is not None else None
        return TextStates(tuple(hidden), model.final_layer_norm, ends, self.cfg, projection)
