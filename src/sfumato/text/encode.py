"""Prompts to conditioning: tokens in windows of the encoder's length, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.nets.clip import CLIPText
from sfumato.text.tokenizer import CLIPTokenizer

MAX_WINDOWS = 16


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A tokenizer with its text tower."""

    tokenizer: CLIPTokenizer
    network: CLIPText

    @property
    def window(self) -> int:
        """Tokens that one pass of the tower holds besides its start and end tokens."""
        return self.network.cfg.max_length - 2

    def windows(self, prompt: str) -> list[list[int]]:
        """The prompt's token ids, cut into windows; at least one, the last may be short.

        Raises SfumatoError for a prompt of more than `MAX_WINDOWS` windows.
        """
        ids = self.tokenizer.encode(prompt)
        if len(ids) > MAX_WINDOWS * self.window:
            raise SfumatoError(f"the prompt has {len(ids)} tokens; shorten it to at most {MAX_WINDOWS * self.window}")
        return [ids[i : i + self.window] for i in range(0, max(len(ids), 1), self.window)]

    def __call__(self, prompts: list[str], clip_skip: int = 1) -> list[Cond]:
        """One Cond for every prompt: tokens (1, windows * L, D).

        All get as many windows as the longest prompt needs, so that they can share network calls. A prompt longer
        than one window is encoded window by window and laid side by side, as the community does it. `clip_skip` 1
        reads the tower's last layer, 2 the last but one. Raises SfumatoError for a clip_skip beyond the layers.
        """
        layers = self.network.cfg.layers
        if not 1 <= clip_skip <= layers:
            raise SfumatoError(f"clip skip is {clip_skip}; this model's text encoder takes 1 to {layers}")
        cut = [self.windows(prompt) for prompt in prompts]
        count = max(map(len, cut))
        rows = [window for windows in cut for window in windows + [[]] * (count - len(windows))]
        cfg = self.network.cfg
        ids = [self.tokenizer.pad(row, cfg.max_length, cfg.pad_token_id) for row in rows]
        device = self.network.text_model.embeddings.token_embedding.weight.device
        with torch.no_grad():
            states = self.network(torch.tensor(ids, device=device)).skip(clip_skip)  # (prompts * windows, L, D)
        return [Cond(tokens.flatten(0, 1)[None]) for tokens in states.split(count)]
