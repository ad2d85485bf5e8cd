"""Tokens: ids equal to the original tokenizer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sfumato.text.t5_tokenizer import T5Tokenizer
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.verify.cases import Case, Result, exact, failing, fields_of, files, listed, read_json, strangers

LATER = {"a1111_prompt_syntax": "prompt emphasis and editing"}
NO_T5 = "T5's vocabulary does not ship with sfumato; give its spiece.model or tokenizer.json with --t5-tokenizer"


def find(folder: Path, t5_tokenizer: Path | None = None) -> Iterator[Case]:
    """The cases of a folder; T5's ids are compared where its tokenizer file is given."""
    known = []
    for path in files(folder):
        name = f"text/{path.stem}"
        if path.name == "clip_bpe_tokens.json":
            yield from listed(path, name, _clip)
        elif path.name == "t5_sentencepiece_tokens.json":
            yield failing(name, NO_T5) if t5_tokenizer is None else Case(name, partial(_t5, path, t5_tokenizer))
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


def _t5(path: Path, tokenizer_file: Path) -> Result:
    with fields_of(path):
        prompts = read_json(path)["prompts"]
        tokenizer = T5Tokenizer.from_file(tokenizer_file)
        return exact([tokenizer.encode(case["prompt"]) for case in prompts], [case["ids_with_eos"] for case in prompts])


def _compare(ours: Callable[[], list[Any]], reference: list[Any]) -> Result:
    return exact(ours(), reference)
