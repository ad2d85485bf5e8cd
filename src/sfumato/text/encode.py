"""Prompts to conditioning: tokens in windows of the encoder's length, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.nets.clip import CLIPText, TextStates
from sfumato.nets.t5 import T5
from sfumato.text.t5_tokenizer import T5Tokenizer
from sfumato.text.tokenizer import CLIPTokenizer

MAX_WINDOWS = 16
MAX_T5 = 512  # tokens, of which most are padding


@dataclass(frozen=True, eq=False)
class T5Reader:
    """T5 with its tokenizer, for a network whose text is `width` wide; without either of them it reads nothing."""

    width: int
    length: int
    tokenizer: T5Tokenizer | None = None
    network: T5 | None = None

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """States (prompts, L, width), all zeros where nothing is read.

        L is `length`, or that of the longest prompt where that is longer, so that nothing is cut.
        """
        if self.network is None or self.tokenizer is None:
            return torch.zeros(len(prompts), self.length, self.width)
        rows = [self.tokenizer.encode(prompt) for prompt in prompts]
        length = max(self.length, *map(len, rows))
        ids = [row + [self.tokenizer.pad_token_id] * (length - len(row)) for row in rows]
        return self.network(torch.tensor(ids, device=self.network.shared.weight.device))


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A tokenizer with the CLIP text towers of a model, which are read side by side, and maybe T5 after them."""

    tokenizer: CLIPTokenizer
    towers: tuple[CLIPText, ...]
    t5: T5Reader | None = None

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
        is that of the first. What T5 makes of the whole prompt comes after the windows. `clip_skip` 1 reads the layer
        that the release does, 2 the one before. Raises SfumatoError for a clip_skip beyond the layers.
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
            tokens = tokens.unflatten(0, (-1, count)).flatten(1, 2)
            if self.t5 is not None:
                long = self.t5(prompts).to(tokens)
                tokens = torch.cat([F.pad(tokens, (0, long.shape[-1] - tokens.shape[-1])), long], 1)
            vectors = [each.vector[::count] for each in states if each.vector is not None]
            pooled = torch.cat(vectors, -1) if vectors else None
        return [Cond(tokens[i : i + 1], None if pooled is None else pooled[i : i + 1]) for i in range(len(prompts))]

    def _states(self, tower: CLIPText, rows: list[list[int]]) -> TextStates:
        ids = [self.tokenizer.pad(row, tower.cfg.max_length, tower.cfg.pad_token_id) for row in rows]
        device = tower.text_model.embeddings.token_embedding.weight.device
        return tower(torch.tensor(ids, device=device))
