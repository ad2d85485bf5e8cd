"""Tokens: ids equal to the original tokenizer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sfumato.text.prompt import emphasis
from sfumato.text.prompt.editing import stretches
from sfumato.text.prompt.emphasis import Break
from sfumato.text.prompt.parse import parse
from sfumato.text.prompt.tree import Nodes, show
from sfumato.text.t5_tokenizer import T5Tokenizer
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.verify.cases import Case, Result, exact, failing, fields_of, files, listed, read_json, strangers

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
        elif path.name == "a1111_prompt_syntax.json":
            yield from listed(path, name, _prompts)
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


def _prompts(path: Path) -> Iterator[Case]:
    """A case for each stage of the prompt language, as the reference has it of the web UI before version 1.6.

    A prompt that the original itself fails on is left out.
    """
    content = read_json(path)
    stages: dict[str, Callable[[dict[str, Any]], Any]] = {
        "emphasis": lambda case: _weighed_words(case["prompt"]),
        "editing": lambda case: [list(stretch) for stretch in stretches(_only_branch(case["prompt"]), case["steps"])],
        "composable_AND": lambda case: _branches(case["prompt"]),
    }
    for stage, ours in stages.items():
        cases = [case for case in content[stage]["cases"] if "error" not in case["result"]]
        reference = [case["result"] for case in cases]
        if stage == "emphasis":
            reference = [[_break(*pair) for pair in result] for result in reference]
        yield Case(f"text/{path.stem}/{stage}", partial(_all_equal, ours, cases, reference))


def _all_equal(ours: Callable[[dict[str, Any]], Any], cases: list[dict[str, Any]], reference: list[Any]) -> Result:
    return exact([ours(case) for case in cases], reference)


def _break(words: str, weight: float) -> list[Any]:
    """A BREAK's weight is -1 times that of the brackets around it, and means nothing."""
    return ["BREAK", -1] if words == "BREAK" and weight < 0 else [words, weight]


def _weighed_words(prompt: str) -> list[list[Any]]:
    spans, _ = emphasis.read(prompt, blanks=False)
    return [["BREAK", -1] if isinstance(span, Break) else [span.text, span.weight] for span in spans]


def _only_branch(prompt: str) -> Nodes:
    return parse(prompt, compose=False, old=True).branches[0].nodes


def _branches(prompt: str) -> dict[str, Any]:
    branches = [(show(branch.nodes), branch.weight) for branch in parse(prompt).branches]
    texts = list(dict.fromkeys(text for text, _ in branches))
    return {"parts": [[texts.index(text), weight] for text, weight in branches], "texts": texts}


def _t5(path: Path, tokenizer_file: Path) -> Result:
    with fields_of(path):
        prompts = read_json(path)["prompts"]
        tokenizer = T5Tokenizer.from_file(tokenizer_file)
        return exact([tokenizer.encode(case["prompt"]) for case in prompts], [case["ids_with_eos"] for case in prompts])


def _compare(ours: Callable[[], list[Any]], reference: list[Any]) -> Result:
    return exact(ours(), reference)
