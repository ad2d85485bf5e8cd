"""Text to tree. Whatever the text is, it parses; what may not be as meant is noted with its place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby

from sfumato.text.prompt import emphasis
from sfumato.text.prompt.emphasis import MAX_DEPTH
from sfumato.text.prompt.tree import (
    CLOSING,
    NUMBER,
    Adapter,
    Alternate,
    Branch,
    Edit,
    Node,
    Nodes,
    Note,
    Prompt,
    Text,
    show,
    split_weight,
    within,
)

_MARK = re.compile(
    r"\\."
    r"|<(?P<kind>lora|lyco|hypernet):(?P<arguments>[^<>]*)>"
    r"|\bembedding:(?P<embedding>[\w./-]*\w)"
    r"|\bAND\b"
    r"|[()\[\]:|]",
    re.DOTALL,
)


def parse(text: str, compose: bool = True, old: bool = False) -> Prompt:
    """The tree of a prompt. Never raises.

    `compose` False takes AND for a word, as in negative prompts. `old` reads as AUTOMATIC1111 did before version 1.6:
    a change at a number below 1 is at a share of the steps, where since then it is at one with a decimal point.
    A bracket that does not fit its neighbours makes text of every bracket that is open around it: what is left of the
    tree is what can be relied upon.
    """
    parser = _Parser(text, compose, old)
    for match in _MARK.finditer(text):
        parser.take(match)
    return parser.end()


@dataclass
class _Frame:
    """A bracket that is open: where, the parts so far, and the marks between them."""

    bracket: str
    start: int
    parts: list[list[Node]] = field(default_factory=lambda: [[]])
    marks: list[str] = field(default_factory=list)

    def nodes(self) -> Nodes:
        """Returns what is inside, with the marks as text."""
        inner = [*self.parts[0]]
        for mark, part in zip(self.marks, self.parts[1:], strict=True):
            inner += [Text(mark), *part]
        return _joined(inner)


class _Parser:
    def __init__(self, text: str, compose: bool, old: bool) -> None:
        self.text, self.compose, self.old, self.done, self.began = text, compose, old, 0, 0
        self.stack = [_Frame("", 0)]
        self.branches: list[Branch] = []
        self.notes: list[Note] = []
        self.deep = False
        self.blanked: list[str] = []  # the branch so far, with spaces for what holds no words

    def take(self, match: re.Match[str]) -> None:
        """Takes the text up to a mark as words, then the mark itself."""
        mark, (start, end) = match[0], match.span()
        if mark == "AND" and not self.compose:
            return
        self._words(start)
        self.done = end
        adapter = self._adapter(match)
        if adapter is not None:
            self.stack[-1].parts[-1].append(adapter)
            self.blanked.append(" " * len(mark))
            return
        if mark == "AND":
            self._branch()
            self.began = end
            return
        self.blanked.append(mark)
        if mark in CLOSING:
            if len(self.stack) > MAX_DEPTH:
                if not self.deep:
                    self.notes.append(
                        Note(start, end, f"more than {MAX_DEPTH} brackets within each other are no syntax")
                    )
                self.deep = True
                self._flatten()
                self._text(mark)
            else:
                self.stack.append(_Frame(mark, start))
        elif mark in (")", "]"):
            self._close(mark)
        elif mark in (":", "|") and self.stack[-1].bracket == "[":
            self.stack[-1].marks.append(mark)
            self.stack[-1].parts.append([])
        else:
            self._text(mark)

    def end(self) -> Prompt:
        self._words(len(self.text))
        self._branch(alone=not self.branches)
        return Prompt(tuple(self.branches), tuple(sorted(self.notes, key=lambda note: note.start)))

    def _words(self, end: int) -> None:
        self._text(self.text[self.done : end])
        self.blanked.append(self.text[self.done : end])

    def _text(self, text: str) -> None:
        self.stack[-1].parts[-1].append(Text(text))

    def _adapter(self, match: re.Match[str]) -> Adapter | None:
        if match["embedding"] is not None:
            return Adapter("embedding", match["embedding"])
        if match["kind"] is None:
            return None
        name, *options = match["arguments"].split(":")
        listed = [option for option in options if "=" not in option]
        named = [option.split("=", 1)[1] for option in options if option.startswith(("te=", "unet="))]
        if not name.strip() or not all(NUMBER.fullmatch(number) for number in filter(None, listed + named)):
            form = f"<{match['kind']}:name:0.8>"
            self.notes.append(Note(*match.span(), f"this is read as words; an adapter is written {form}"))
            return None
        return Adapter(match["kind"], name, tuple(options))  # type: ignore[arg-type]  # the pattern has no other

    def _close(self, mark: str) -> None:
        frame = self.stack[-1]
        if CLOSING.get(frame.bracket) != mark:
            self._flatten()
            self._text(mark)
            return
        self.stack.pop()
        self.stack[-1].parts[-1] += self._bracketed(frame)

    def _bracketed(self, frame: _Frame) -> Nodes:
        """Returns what a closed pair of brackets means: a change over the steps, or the brackets themselves."""
        parts = [_joined(part) for part in frame.parts]
        if frame.marks and set(frame.marks) == {"|"}:
            return (Alternate(tuple(parts)),)
        if frame.marks in ([":"], [":", ":"]):
            number = show(parts[-1]).strip()
            if NUMBER.fullmatch(number):
                when = within(float(number))
                share = when < 1 if self.old else "." in number
                return (Edit(parts[0] if len(parts) == 3 else (), parts[-2], when, share),)
        if frame.marks and frame.bracket == "[":
            forms = "[before:after:0.5] and [one|another] change over the steps; this only weighs less, as [words]"
            self.notes.append(Note(frame.start, self.done, forms))
        return Text(frame.bracket), *frame.nodes(), Text(CLOSING[frame.bracket])

    def _flatten(self) -> None:
        """Make text of all brackets that are open; what is complete within them stays."""
        while len(self.stack) > 1:
            frame = self.stack.pop()
            self.stack[-1].parts[-1] += [Text(frame.bracket), *frame.nodes()]

    def _branch(self, alone: bool = False) -> None:
        self._flatten()
        nodes = _joined(self.stack.pop().parts[0])
        self.stack.append(_Frame("", self.done))
        _, notes = emphasis.read("".join(self.blanked), blanks=not self.old)
        self.notes += [Note(note.start + self.began, note.end + self.began, note.text) for note in notes]
        branch = _weighed(nodes) if self.compose else Branch(nodes)
        if alone and branch.written:
            blanked = "".join(self.blanked)
            start, end = self.began + blanked.rindex(":"), self.began + len(blanked.rstrip())
            self.notes.append(Note(start, end, "a weight counts beside AND only; this is read as words"))
        self.blanked = []
        self.branches.append(branch)


def _weighed(nodes: Nodes) -> Branch:
    """The weight of a branch is its last words; adapters may stand after it. Spaces at its end do not count."""
    rest, after = list(nodes), list[Node]()
    while rest and (isinstance(rest[-1], Adapter) or not str(rest[-1]).strip()):
        after.insert(0, rest.pop())
    if after and isinstance(after[-1], Text):
        after.pop()
    weight = ""
    if rest and isinstance(rest[-1], Text):
        words, weight = split_weight(rest[-1].text)
        if weight or not after:
            rest[-1:] = [Text(words)] if words else []
    return Branch((*rest, *after), weight)


def _joined(nodes: list[Node]) -> Nodes:
    """Neighbouring words become one text, and none are left out."""
    joined: list[Node] = []
    for words, run in groupby(nodes, key=lambda node: isinstance(node, Text)):
        if not words:
            joined += run
        elif text := "".join(map(str, run)):
            joined.append(Text(text))
    return tuple(joined)
