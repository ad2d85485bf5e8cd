"""The text-and-image model as a method; its task stands in `train.clip`."""

from __future__ import annotations

from pathlib import Path

import torch

from sfumato.data.emoji.dataset import EmojiData, corpus
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.train.clip import CLIPTask, CLIPTraining

__all__ = ["CLIPTraining", "make"]


def make(cfg: CLIPTraining, data: EmojiData, folder: Path, device: torch.device) -> CLIPTask:
    """The task of a run in `folder`, where its tokenizer is kept."""
    return CLIPTask(cfg, data, run_tokenizer(cfg, data, folder / "tokenizer"))


def run_tokenizer(cfg: CLIPTraining, data: EmojiData, folder: Path) -> CLIPTokenizer:
    """The run's own: of equally frequent merges another may come first each time, and weights go with their symbols."""
    if not (folder / "tokenizer_config.json").is_file():
        CLIPTokenizer.train(corpus(data), cfg.text.vocab_size, max_length=cfg.text.max_length).save(folder)
    return CLIPTokenizer.from_folder(folder)
