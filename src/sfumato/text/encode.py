"""Prompts to conditioning: weighted tokens in windows of the encoder's length, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.errors import OptionError, SfumatoError
from sfumato.nets.clip import CLIPText, TextStates
from sfumato.nets.layers import FURTHER, look_up
from sfumato.nets.prior import NamedThing, Words
from sfumato.nets.t5 import T5
from sfumato.text.embeddings import Embedding, Vocabulary, table
from sfumato.text.emoji import spelled_out
from sfumato.text.prompt.chunks import Token, tokens, windows
from sfumato.text.prompt.emphasis import Emphasis, Span, Spans
from sfumato.text.t5_tokenizer import T5Tokenizer
from sfumato.text.tokenizer import CLIPTokenizer

MAX_WINDOWS = 16
MAX_T5 = 512  # tokens, of which most are padding


@dataclass(frozen=True, eq=False)
class T5Reader:
    """T5 with its tokenizer, for a network whose text is `width` wide; without either of them it reads nothing.

    `embeddings` are words that vectors stand for; it reads nothing of those that have none for it.
    """

    width: int
    length: int
    tokenizer: T5Tokenizer | None = None
    network: T5 | None = None
    embeddings: tuple[Embedding, ...] = ()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's words, and those of the embeddings."""
        counts = {one.name: 0 if one.t5 is None else len(one.t5) for one in self.embeddings}
        return Vocabulary(self._encode, counts)

    def _encode(self, text: str) -> list[int]:
        return [] if self.tokenizer is None else self.tokenizer.encode(text)[:-1]

    def rows(self, prompts: Sequence[Spans]) -> list[list[Token]]:
        """The tokens of each prompt, without its end; none where nothing is read. T5 has no windows to break."""
        if self.network is None or self.tokenizer is None:
            return [[] for _ in prompts]
        words = (tokens(spans, self.vocabulary.units) for spans in prompts)
        return [[token for token in row if isinstance(token, Token)] for row in words]

    def __call__(self, prompts: Sequence[Spans], emphasis: Emphasis = "a1111") -> Tensor:
        """States (prompts, L, width), all zeros where nothing is read.

        L is `length`, or that of the longest prompt where that is longer, so that nothing is cut.
        """
        network, tokenizer = self.network, self.tokenizer
        if network is None or tokenizer is None:
            return torch.zeros(len(prompts), self.length, self.width)
        rows = self.rows(prompts)
        length = max(self.length, *(len(row) + 1 for row in rows))
        further = table([one.t5 for one in self.embeddings if one.t5 is not None])

        def read(rows: Sequence[Sequence[Token]]) -> Tensor:
            ids = [[*(token.id for token in row), tokenizer.eos_token_id] for row in rows]
            ids = [row + [tokenizer.pad_token_id] * (length - len(row)) for row in ids]
            return network(torch.tensor(ids, device=network.shared.weight.device), further)

        empty = read([[]]) if emphasis == "comfy" and any(map(_weighed, rows)) else None
        weights = [[token.weight for token in row] for row in rows]
        return weigh(read(rows), weights, emphasis, empty)


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A tokenizer with the CLIP text towers of a model, which are read side by side, and maybe T5 after them.

    `embeddings` are words that vectors stand for, see `with_embeddings`. With `learns` gradients go through it.
    """

    tokenizer: CLIPTokenizer
    towers: tuple[CLIPText, ...]
    t5: T5Reader | None = None
    embeddings: tuple[Embedding, ...] = ()
    learns: bool = False

    def with_embeddings(self, embeddings: Sequence[Embedding]) -> Self:
        """This encoder, on the same networks, knowing these words and no others besides its tokenizer's.

        Raises SfumatoError for vectors that do not fit the towers, or more than one window holds.
        """
        widths = [tower.cfg.hidden_size for tower in self.towers]
        for one in embeddings:
            if [part.shape[1] for part in one.clip] != widths:
                found, fit = (" + ".join(map(str, each)) for each in ([part.shape[1] for part in one.clip], widths))
                raise SfumatoError(f"the embedding {one.name} has vectors of {found} numbers, this model needs {fit}")
            if one.count > self.window:
                raise SfumatoError(
                    f"the embedding {one.name} has {one.count} vectors; a prompt holds at most {self.window} together"
                )
        own = tuple(embeddings)
        return replace(self, embeddings=own, t5=self.t5 and replace(self.t5, embeddings=own))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's words, and those of the embeddings."""
        return Vocabulary(self.tokenizer.encode, {one.name: one.count for one in self.embeddings})

    @property
    def window(self) -> int:
        """Tokens that one pass of a tower holds besides its start and end tokens."""
        return min(tower.cfg.max_length for tower in self.towers) - 2

    def windows(self, prompt: Spans) -> list[list[Token]]:
        """The prompt's tokens in windows, see `chunks.windows`. Raises SfumatoError for more than `MAX_WINDOWS`."""
        cut = windows(prompt, self.vocabulary.units, self.window)
        if len(cut) > MAX_WINDOWS:
            most = f"{MAX_WINDOWS} windows of {self.window} tokens"
            raise SfumatoError(f"the prompt has {sum(map(len, cut))} tokens; shorten it to at most {most}")
        return cut

    def __call__(self, prompts: Sequence[str | Spans], clip_skip: int = 1, emphasis: Emphasis = "a1111") -> list[Cond]:
        """One Cond for every prompt: tokens (1, windows * L, D), and where the model wants it pooled (1, P).

        A prompt is weighted words, or a text that is read as it stands. All get as many windows as the longest needs,
        so that they can share network calls. A prompt longer than one window is encoded window by window and laid side
        by side, as the community does it; its pooled vector is that of the first, which no weight changes. What T5
        makes of the whole prompt comes after the windows. `clip_skip` 1 reads the layer that the release does, 2 the
        one before; `emphasis` see `weigh`. Raises SfumatoError for a clip_skip beyond the layers.
        """
        self._check(clip_skip)
        spans = [(Span(prompt),) if isinstance(prompt, str) else prompt for prompt in prompts]
        cut = [self.windows(prompt) for prompt in spans]
        count = max(map(len, cut))
        rows = [window for each in cut for window in each + [[]] * (count - len(each))]
        with torch.set_grad_enabled(self.learns and torch.is_grad_enabled()):
            states = [self._states(tower, rows, self._further(k)) for k, tower in enumerate(self.towers)]
            read = (
                self._read(tower, each, rows, clip_skip, emphasis)
                for tower, each in zip(self.towers, states, strict=True)
            )
            hidden = torch.cat(list(read), -1)  # (prompts * windows, L, D)
            hidden = hidden.unflatten(0, (-1, count)).flatten(1, 2)
            if self.t5 is not None:
                long = self.t5(spans, emphasis).to(hidden)
                hidden = torch.cat([F.pad(hidden, (0, long.shape[-1] - hidden.shape[-1])), long], 1)
            vectors = [each.vector[::count] for each in states if each.vector is not None]
            pooled = torch.cat(vectors, -1) if vectors else None
        return [Cond(hidden[i : i + 1], None if pooled is None else pooled[i : i + 1]) for i in range(len(prompts))]

    def _check(self, clip_skip: int) -> None:
        layers = min(tower.cfg.layers - tower.cfg.skip + 1 for tower in self.towers)
        if not 1 <= clip_skip <= layers:
            raise OptionError(f"`clip_skip` is {clip_skip}; this model's text encoder takes 1 to {layers}")

    def words(self, prompt: str | Spans, clip_skip: int = 1, emphasis: Emphasis = "a1111") -> Words:
        """A prompt for a scene prior, which reads the first tower's tokens, windows side by side, and their weights.

        Raises SfumatoError as a call.
        """
        tower = self.towers[0]
        self._check(clip_skip)
        rows = self.windows((Span(prompt),) if isinstance(prompt, str) else prompt)
        with torch.no_grad():
            ids, further = self._ids(tower, rows), self._further(0)
            states = tower(ids, further)
            embeddings = look_up(tower.text_model.embeddings.token_embedding, ids, further)
        weights = (torch.arange(ids.shape[1], device=ids.device) <= states.ends[:, None]).float()
        if emphasis != "none":
            for i, row in enumerate(rows):
                weights[i, 1 : 1 + len(row)] = torch.tensor([token.weight for token in row])
        flat = states.read(clip_skip).flatten(0, 1), embeddings.flatten(0, 1), weights.flatten()
        there = flat[2] != 0
        read, known, counts = (value[there][None] for value in flat)
        lengths = tuple(self.tokenizer.byte_lengths(ids.flatten()[there].tolist()))
        if any(id >= FURTHER for id in ids.flatten().tolist()):
            text = " ".join(self._texts(token for row in rows for token in row if token.weight > 0))
        else:
            pieces = (Span(prompt),) if isinstance(prompt, str) else prompt
            text = " ".join(piece.text for piece in pieces if isinstance(piece, Span) and piece.weight > 0)
        return Words(read, known, counts, spelled_out(text), lengths, self._things(ids.flatten()[there]))

    def _things(self, ids: Tensor) -> tuple[NamedThing, ...]:
        """The things that the embeddings among ids (L,) stand for, each with its places."""
        found = []
        for one in self.embeddings:
            own = self.vocabulary.ids_of(one.name)
            if one.thing is None:
                continue
            for start in (ids == own[0]).nonzero().flatten().tolist():
                tokens = torch.zeros(len(ids))
                tokens[start : start + len(own)] = 1
                found.append(NamedThing(tokens, one.thing))
        return tuple(found)

    def _texts(self, row: Iterable[Token]) -> Iterator[str]:
        """What stands between the embeddings of a row."""
        for new, run in groupby((token.id for token in row), key=lambda id: id >= FURTHER):
            if not new:
                yield self.tokenizer.decode(list(run))

    def _further(self, tower: int) -> Tensor | None:
        """The vectors of all embeddings for a tower (E, D); None without any."""
        return table([one.clip[tower] for one in self.embeddings])

    def _states(self, tower: CLIPText, rows: list[list[Token]], further: Tensor | None = None) -> TextStates:
        return tower(self._ids(tower, rows), further)

    def _ids(self, tower: CLIPText, rows: list[list[Token]]) -> Tensor:
        """Token ids (rows, L), padded to the tower's length."""
        ids = [
            self.tokenizer.pad([token.id for token in row], tower.cfg.max_length, tower.cfg.pad_token_id)
            for row in rows
        ]
        return torch.tensor(ids, device=tower.text_model.embeddings.token_embedding.weight.device)

    def _read(
        self, tower: CLIPText, states: TextStates, rows: list[list[Token]], clip_skip: int, emphasis: Emphasis
    ) -> Tensor:
        """What a tower says of every window (windows, L, D), weighted."""
        compared = emphasis == "comfy" and any(map(_weighed, rows))
        empty = self._states(tower, [[]]).read(clip_skip) if compared else None
        weights = [[1.0, *(token.weight for token in row)] for row in rows]  # the start token weighs 1
        return weigh(states.read(clip_skip), weights, emphasis, empty)


def weigh(states: Tensor, weights: Sequence[Sequence[float]], emphasis: Emphasis, empty: Tensor | None) -> Tensor:
    """States (rows, L, D) with each row's first tokens weighted; what has no weight, and rows without any, stay as is.

    "plain" multiplies. "a1111" then brings the mean of the row back to what it was (AUTOMATIC1111's web UI).
    "comfy" goes from the states (1, L, D) of the `empty` prompt to these and on, by the weight (ComfyUI). "none" reads
    the words and not their weights.
    """
    rows = list(states)
    for i, row in enumerate(weights):
        if emphasis == "none" or all(weight == 1 for weight in row):
            continue
        factor = torch.ones(states.shape[1], 1, dtype=torch.float32, device=states.device)
        factor[: len(row), 0] = torch.tensor(row)
        plain = states[i].float()
        origin = torch.zeros_like(plain) if empty is None else empty[0].float()
        weighted = origin + factor * (plain - origin)
        if emphasis == "a1111" and weighted.mean() != 0:
            weighted *= plain.mean() / weighted.mean()
        rows[i] = weighted.to(states.dtype)
    return torch.stack(rows)


def _weighed(row: Sequence[Token]) -> bool:
    return any(token.weight != 1 for token in row)
