"""A small text tower that learns, before the denoiser does, to say what the pictures of its texts look like.

A U-Net that reads plain states of words has to learn pictures by heart in its attentions, which takes hours. Here the
tower remembers them: its state at the end of a text, and at the padding after it, is what the principal components of
the picture's latents are read from (regression; the code of a picture as in `codes`). The denoiser then has to learn
only how a code becomes a picture.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.data.protocol import Captioned
from sfumato.errors import SfumatoError
from sfumato.nets.clip import CLIPText
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.precision import bf16_pays
from sfumato.train.preparation import Tensors, kept, shown
from sfumato.train.text_tower import EMBEDDING_STD, TowerSize, shrink_embeddings, tower_config

COMPONENTS = 2  # times the tower's width: principal components that its states say
WARMUP, DECAY = 50, 0.01
SMOOTHING = 0.08  # share of the latest step in the error that is printed


@dataclass(frozen=True)
class PictureText:
    """Sizes of the tower, and how it learns: `steps` of `batch` texts at the highest rate `lr`, which falls to 0."""

    width: int = 96
    layers: int = 2
    heads: int = 4
    steps: int = 1500
    batch: int = 256
    lr: float = 3e-3

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise SfumatoError(f"the text's width is {self.width}; expected a multiple of its heads, {self.heads}")


def picture_tower(
    cfg: PictureText, words: CLIPText, tokenizer: CLIPTokenizer, pictures: Captioned, latents: Tensor, seed: int,
    folder: Path,
) -> CLIPText:  # fmt: skip
    """Returns a tower for the texts of `pictures`, whose latents are (N, C, h, w), in evaluation mode.

    Its vectors of tokens begin as the principal components of those of `words`, a tower with the same tokenizer. The
    result is kept in a file of `folder`, which names what it was made from.
    """
    size = TowerSize(width=cfg.width, layers=cfg.layers, heads=cfg.heads, max_length=tokenizer.max_length)
    tower = CLIPText(replace(tower_config(size, tokenizer), vocab_size=words.cfg.vocab_size))
    parts = [part.fingerprint for part in pictures.parts]
    made_from = repr((cfg, tower.cfg, seed, parts, tuple(latents.shape), latents[0].double().sum().item()))
    file = folder / f"text-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.safetensors"
    tower.load_state_dict(kept(file, lambda: _learnt(tower, cfg, words, tokenizer, pictures, latents, seed)))
    return tower.eval().requires_grad_(False)


def _learnt(
    tower: CLIPText, cfg: PictureText, words: CLIPText, tokenizer: CLIPTokenizer, pictures: Captioned, latents: Tensor,
    seed: int,
) -> Tensors:  # fmt: skip
    """Returns the weights of the tower after its training."""
    torch.manual_seed(seed)
    shrink_embeddings(tower)
    table = words.text_model.embeddings.token_embedding.weight.float()
    own = tower.text_model.embeddings.token_embedding.weight
    first = principal(table, min(cfg.width, table.shape[1]))
    own.data[:, : first.shape[1]] = first * (EMBEDDING_STD / first.std().clamp(min=1e-12))
    numbers = torch.from_numpy(pictures.batch(0, 4096)[0]).unique()
    seen = latents[numbers].float().flatten(1)
    mean = seen.mean(0)
    basis = torch.pca_lowrank(seen - mean, min(COMPONENTS * cfg.width, *seen.shape), center=False)[2]
    scale = seen.var(0).sum().rsqrt()  # a code's mean square is the share of the variance that it says
    head = nn.Linear(cfg.width, basis.shape[1])
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    weights = [*tower.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(weights, cfg.lr, betas=(0.9, 0.99), weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARMUP, 2 * (1 - step / cfg.steps), 1.0)
    )
    error = 1.0
    for step in shown(range(cfg.steps), "text learns pictures"):
        rows, texts = pictures.batch(step, cfg.batch)
        ids = tokenizer(texts)
        said = (latents[rows].float().flatten(1) - mean) @ basis * scale
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays(torch.device("cpu"))):
            states = tower(ids).read()
        ends = (ids == tokenizer.eos_token_id).float()
        misses = (head(states.float()) - said[:, None]).square().sum(2)
        loss = (misses * ends).sum() / ends.sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        error += (loss.item() - error) * SMOOTHING
        if (step + 1) % max(1, cfg.steps // 10) == 0:
            print(f"text {step + 1}/{cfg.steps}  left of the pictures' variance {error:.3f}", flush=True)
    return {name: value.detach().clone() for name, value in tower.state_dict().items()}


def principal(rows: Tensor, count: int) -> Tensor:
    """Returns the first `count` principal components of rows (N, D), (N, count)."""
    centred = rows - rows.mean(0)
    return centred @ torch.linalg.svd(centred, full_matrices=False)[2][:count].T
