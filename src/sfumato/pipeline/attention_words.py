"""Which tokens of a conditioning stand for which words of a prompt."""

from __future__ import annotations

import string
from random import Random

from torch import Tensor

from sfumato.nets.layout import MAX_THINGS
from sfumato.nets.prior import ScenePrior, Words
from sfumato.text.encode import TextEncoder
from sfumato.text.prompt.emphasis import Spans

GROUND = "(ground)"  # what stands for the ground of a picture, where no word of the prompt does
START_OF_WORD = "\u2581"  # before the pieces of T5 with which words begin

Named = list[tuple[str, list[int]]]
"""Words in their order, each with the places of its tokens."""


def things_named(prior: ScenePrior, words: Words, seed: int) -> Named:
    """What the tokens of a prior stand for: each group of equal things by the prompt's words for it, then the ground.

    A thing that no known words name is called by its number.
    """
    understood, new = prior.understand(words), [one.thing for one in words.new]
    present = int(prior.things([understood], [Random(seed)], new=new).present.sum())
    found = prior.lexicon.find(words.text, words.lengths).with_names([one.tokens for one in words.new])
    named: Named = []
    place = 0
    for number, thing in enumerate(understood.things, 1):
        end = min(present, place + thing.group.count)
        said = found.scores[:, thing.concept]
        text = _phrase(words, found.tokens[int(said.argmax())]) if len(said) and said.max() > 0 else ""
        named.append((text or f"({number})", list(range(place, end))))
        place = end
    return [*named, (GROUND, [MAX_THINGS])]


def _phrase(words: Words, tokens: Tensor) -> str:
    """The part of a prompt for which tokens (L,), 1 where they belong to it, stand."""
    covered = tokens.nonzero().flatten().tolist()
    first, last = sum(words.lengths[: covered[0]]), sum(words.lengths[: covered[-1] + 1])
    said, place = "", 0
    for letter in words.text:
        if first <= place < last:
            said += letter
        place += 0 if letter.isspace() else len(letter.encode())
    return said.strip()


def words_named(encode: TextEncoder, spans: Spans, windows: int) -> Named:
    """The words of a prompt beside which the longest has so many `windows`: their tokens of CLIP and of T5.

    Punctuation is left out.
    """
    named = _clip(encode, spans)
    _add_t5(encode, spans, windows * (encode.window + 2), named)
    return [(word, places) for word, places in named if word.strip(string.punctuation)]


def _clip(encode: TextEncoder, spans: Spans) -> Named:
    vocabulary, tokenizer = encode.vocabulary, encode.tokenizer
    named: Named = []
    ids: list[int] = []
    goes_on = False
    for number, window in enumerate(encode.windows(spans)):
        for place, token in enumerate(window, number * (encode.window + 2) + 1):
            name = vocabulary.name_of(token.id)
            if name is None:
                ids = [*ids, token.id] if goes_on else [token.id]
            _, places = named.pop() if goes_on or (name is not None and not token.together) else ("", [])
            named.append((tokenizer.decode(ids) if name is None else f"<{name}>", [*places, place]))
            goes_on = name is None and not tokenizer.ends_word(token.id)
    return named


def _add_t5(encode: TextEncoder, spans: Spans, first: int, named: Named) -> None:
    """Adds T5's tokens, which begin at the place `first`, to the words that have the same letters."""
    reader = encode.t5
    if reader is None or reader.tokenizer is None:
        return
    marks = {f"<{name}>" for name in encode.vocabulary.counts}
    embeddings = {word: places for word, places in reversed(named) if word in marks}
    letters = [places for word, places in named if word not in embeddings for letter in word if not letter.isspace()]
    at = 0
    for place, token in enumerate(reader.rows([spans])[0], first):
        if (name := reader.vocabulary.name_of(token.id)) is not None:
            embeddings[f"<{name}>"].append(place)
            continue
        if at < len(letters):
            letters[at].append(place)
        at += len(reader.tokenizer.piece(token.id).replace(START_OF_WORD, ""))
