"""Tokens: ids equal to the original tokenizer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.verify.cases import Case, Result, exact, failing, files, listed, read_json, strangers

LATER = {"t5_sentencepiece_tokens": "the T5 tokenizer", "a1111_prompt_syntax": "prompt emphasis and editing"}


def find(folder: Path) -> Iterator[Case]:
    known = []
    for path in files(folder):
        name = f"text/{path.stem}"
        if path.name == "clip_bpe_tokens.json":
            yield from listed(path, name, _clip)
        elif path.suffix == ".json" and path.stem in LATER:
            yield failing(name, f"not supported yet: {LATER[path.stem]}")
        else:
            continue
        known.append(path.name)
    yield from strangers(folder, known)


def _clip(path: Path) -> Iterator[Case]:
    prompts = read_json(path)["prompts"]
    texts = [case["prompt"] for case in prompts]
    tokenizer = CLIPTokenizer.openai()
    forms: dict[str, Callable[[], list[Any]]] = {
        "ids": lambda: [tokenizer.encode(text) for text in texts],
        "tokenize_77_truncated": lambda: [tokenizer.pad(tokenizer.encode(text), pad_id=0) for text in texts],
        "padded_77_with_eot_sd1": lambda: tokenizer(texts).tolist(),
        "decoded": lambda: [tokenizer.decode(tokenizer.encode(text)) for text in texts],
    }
    for form, ours in forms.items():
        reference = [case[form].rstrip(" ") if form == "decoded" else case[form] for case in prompts]
        yield Case(f"text/{path.stem}/{form}", partial(_compare, ours, reference))


def _compare(ours: Callable[[], list[Any]], reference: list[Any]) -> Result:
    return exact(ours(), reference)
