"""The prompt language of InvokeAI (compel): `word+`, `word--`, `(some words)1.2`, `(some words)++`, `"quoted words"-`.

A plus multiplies by 1.1, a minus by 0.9, groups within groups multiply. Brackets without a weight are not drawn, nor
are quotes; `\\(`, `\\)` and `\\"` are. Blanks are one blank each. What is not closed is text.
"""

from __future__ import annotations

import re

from sfumato.text.prompt.emphasis import Spans
from sfumato.text.prompt.tree import within
from sfumato.text.prompt.weights import Weighing

PLUS, MINUS = 1.1, 0.9

# A word holds + and - where more of a word follows; at its end they weigh it.
_PIECE = re.compile(
    r"\s+|(?P<open>\()|(?P<close>\))|(?P<quote>\")"
    r"|(?P<word>(?:\\.|[^\s()\"\\+,.\-]|[+\-](?=[^\s()\"\\+,.\-])|[.](?=\d))+)(?P<signs>\+{1,40}|-{1,40})?|.",
    re.DOTALL,
)
_WEIGHT = re.compile(r"\+{1,40}|-{1,40}|\d{1,3}(?:\.\d{1,6})?|\.\d{1,6}")


def read(text: str) -> Spans:
    """The weighted words of a text."""
    weighing = Weighing()
    place, quoted = 0, False
    depth: list[str] = []
    closable = _closable(text)
    while place < len(text):
        match = _PIECE.match(text, place)
        assert match is not None  # a dot takes any character
        start, place = place, match.end()
        if match[0].isspace():
            weighing.words(" ")
        elif match["word"] is not None:
            words = _plain(match["word"])
            if match["signs"] is None:
                weighing.words(words)
            else:
                weighing.weighed(words, factor_of(match["signs"]))
        elif match[0] in '()"' and start in closable:
            ends = match[0] == ")" or (match[0] == '"' and quoted)
            quoted = (match[0] == '"' and not quoted) or (quoted and match[0] != '"')
            if not ends:
                weighing.open("")
                depth.append(match[0])
                continue
            weight = _WEIGHT.match(text, place)
            weighing.close(1.0 if weight is None else factor_of(weight[0]))
            depth.pop()
            place = place if weight is None else weight.end()
        else:
            weighing.words(match[0])
            if match[0] == "," and not text[place : place + 1].isspace() and place < len(text):
                weighing.words(" ")
    return weighing.spans()


def factor_of(mark: str) -> float:
    """What pluses, minuses or a number multiply by."""
    return within(float(mark) if mark[0] not in "+-" else (PLUS if mark[0] == "+" else MINUS) ** len(mark))


def _closable(text: str) -> set[int]:
    """The places of brackets and quotes that form pairs, properly inside each other."""
    opened: list[tuple[str, int]] = []
    found: set[int] = set()
    for match in re.finditer(r"\\.|[()\"]", text, re.DOTALL):
        mark, place = match[0], match.start()
        if len(mark) > 1:
            continue
        if mark == "(" or (mark == '"' and (not opened or opened[-1][0] != '"')):
            opened.append((mark, place))
        elif opened and opened[-1][0] == ("(" if mark == ")" else '"'):
            found |= {opened.pop()[1], place}
    return found


def _plain(word: str) -> str:
    return re.sub(r"\\([()\"+\-.,=])", r"\1", word)
