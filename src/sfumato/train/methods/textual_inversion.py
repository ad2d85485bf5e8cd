"""Textual inversion (Gal et al. 2022): vectors for a new word, by which a frozen model draws what pictures show.

The vectors are read in place of the word by each CLIP text encoder of the model; nothing else learns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from sfumato.data.pictures.protocol import CaptionedPictures, SampleSource
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.nets.clip import CLIPText
from sfumato.pipeline.model import Model
from sfumato.text.embeddings import Embedding
from sfumato.train.fine_tuning import FineTuning, FineTuningTask
from sfumato.train.learnt import with_networks

Layout = Literal["safetensors", "a1111", "diffusers"]
NAMES = ("clip_l", "clip_g")  # of the encoders' vectors in a file for several


@dataclass(frozen=True, kw_only=True)
class InversionTraining(FineTuning):
    """Recipe of a new `word` of so many `vectors`.

    They start as those of the word `like`, such as "dog", or by chance if there is none. Captions that lack the word
    get it in front. The file is called as the word; its `layout` is "safetensors" (`emb_params`, or `clip_l` and
    `clip_g`), "a1111" (a .pt file of the web UI) or "diffusers" (learned_embeds.safetensors); the last two are for
    models of one text encoder.
    """

    word: str
    like: str = ""
    vectors: int = 1
    layout: Layout = "safetensors"

    def __post_init__(self) -> None:
        if not self.word.strip() or self.word.split() != [self.word]:
            raise SfumatoError(f"word is {self.word!r}; expected one word without spaces, such as my-dog")
        if not 1 <= self.vectors <= 75:
            raise SfumatoError(f"vectors is {self.vectors}; expected a whole number from 1 to 75")


def make(
    cfg: InversionTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> InversionTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return InversionTask(replace(cfg, model=model or cfg.model), data, folder, device)


class Vectors(nn.Module):
    """The vectors (n, D) of a word for each text encoder, and the model that reads them."""

    def __init__(self, base: Model, cfg: InversionTraining):
        super().__init__()
        self.cfg, self.base = cfg, [base]  # in a list, so that its networks are no part of this one
        ids = base.encode.tokenizer.encode(cfg.like)
        if cfg.like and not ids:
            raise SfumatoError(f"`like` is {cfg.like!r}, which the model reads as nothing; give a word such as dog")
        self.rows = nn.ParameterList(nn.Parameter(_first(tower, ids, cfg.vectors)) for tower in base.encode.towers)
        word = Embedding(cfg.word, tuple(self.rows))
        encode = replace(base.encode, learns=True).with_embeddings([word])
        self.model = with_networks(base, base.denoiser.network, encode)

    @property
    def networks(self) -> nn.ModuleDict:
        """See `Learnt`."""
        return nn.ModuleDict({"text": self})

    def write(self, folder: Path, said: Mapping[str, str]) -> None:
        """Writes the word's file."""
        rows = [value.detach().float().cpu().contiguous() for value in self.rows]
        word, layout = self.cfg.word, self.cfg.layout
        if layout == "a1111":
            content = {
                "string_to_token": {"*": 265}, "string_to_param": {"*": rows[0]}, "name": word,
                "step": self.cfg.loop.steps, "sd_checkpoint": said["ss_sd_model_hash"],
                "sd_checkpoint_name": said["ss_sd_model_name"],
            }  # fmt: skip
            with atomic_write(folder / f"{word}.pt") as file:
                torch.save(content, file)
            return
        if layout == "diffusers":
            tensors, name = {word: rows[0]}, "learned_embeds"
        elif len(rows) == 1:
            tensors, name = {"emb_params": rows[0]}, word
        else:
            tensors, name = dict(zip(NAMES, rows, strict=True)), word
        with atomic_write(folder / f"{name}.safetensors") as file:
            file.write(save(tensors, {**said, "ss_output_name": word, "modelspec.title": word}))


class InversionTask(FineTuningTask):
    """Trains the vectors of a word, see `FineTuningTask`."""

    KIND = "textual-inversion"
    cfg: InversionTraining

    def _learnt(self) -> Vectors:
        cfg, base = self.cfg, self.base
        if base.prior is not None:
            raise SfumatoError(
                f"{base.name} draws things from its memory, not from vectors; use `sfumato train embedding`"
            )
        if cfg.layout != "safetensors" and len(base.encode.towers) > 1:
            raise SfumatoError(f"layout {cfg.layout!r} is for models of one text encoder; leave it out")
        return Vectors(base, cfg)

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        trigger = {"trigger": self.cfg.word, "caption_missing": "allow"}
        return self._opened(data, trigger | self.cfg.data)


def _first(tower: CLIPText, ids: Sequence[int], count: int) -> Tensor:
    """The first vectors (count, D): of the tokens `ids` in turn, or of chance as large as those of all tokens."""
    table = tower.text_model.embeddings.token_embedding.weight.detach().float().cpu()
    if not ids:
        return table.mean(0) + table.std(0) * torch.randn(count, table.shape[1])
    return torch.stack([table[ids[k % len(ids)]] for k in range(count)])
