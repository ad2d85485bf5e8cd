"""Prompts to conditioning: tokens in windows of the encoder's length, side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.nets.clip import CLIPText, TextStates
from sfumato.text.tokenizer import CLIPTokenizer

MAX_WINDOWS = 16


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A tokenizer with the text towers of a model, which are read side by side.

    `pooled`: the network is also conditioned on the projected vector of the last tower.
    """

    tokenizer: CLIPTokenizer
    towers: tuple[CLIPText, ...]
    pooled: bool = False

    @property
    def window(self) -> int:
        """Tokens that one pass of a tower holds besides its start and end tokens."""
        return min(tower.cfg.max_length for tower in self.towers) - 2

    def windows(self, prompt: str) -> list[list[int]]:
        """The prompt's token ids, cut into windows; at least one, the last may be short.

        Raises SfumatoError for a prompt of more than `MAX_WINDOWS` windows.
        """
        ids = self.tokenizer.encode(prompt)
        if len(ids) > MAX_WINDOWS * self.window:
            raise SfumatoError(f"the prompt has {len(ids)} tokens; shorten it to at most {MAX_WINDOWS * self.window}")
        return [ids[i : i + self.window] for i in range(0, max(len(ids), 1), self.window)]

    def __call__(self, prompts: list[str], clip_skip: int = 1) -> list[Cond]:
        """One Cond for every prompt: tokens (1, windows * L, D), and where the model wants it pooled (1, P).

        All get as many windows as the longest prompt needs, so that they can share network calls. A prompt longer
        than one window is encoded window by window and laid side by side, as the community does it; its pooled vector
        is that of the first. `clip_skip` 1 reads the layer that the release does, 2 the one before. Raises SfumatoError
        for a clip_skip beyond the layers.
        """
        layers = min(tower.cfg.layers - tower.cfg.skip + 1 for tower in self.towers)
        if not 1 <= clip_skip <= layers:
            raise SfumatoError(f"clip skip is {clip_skip}; this model's text encoder takes 1 to {layers}")
        cut = [self.windows(prompt) for prompt in prompts]
        count = max(map(len, cut))
        rows = [window for windows in cut for window in windows + [[]] * (count - len(windows))]
        with torch.no_grad():
            states = [self._states(tower, rows) for tower in self.towers]
            tokens = torch.cat([each.read(clip_skip) for each in states], -1)  # (prompts * windows, L, D)
            pooled = states[-1].projected[::count] if self.pooled else None
        return [
            Cond(part.flatten(0, 1)[None], None if pooled is None else pooled[i : i + 1])
            for i, part in enumerate(tokens.split(count))
        ]

    def _states(self, tower: CLIPText, rows: list[list[int]]) -> TextStates:
        ids = [self.tokenizer.pad(row, tower.cfg.max_length, tower.cfg.pad_token_id) for row in rows]
        device = tower.text_model.embeddings.token_embedding.weight.device
        return tower(torch.tensor(ids, device=device))
