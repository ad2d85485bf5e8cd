"""Reads what a person wrote after a command: a prompt with options."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sfumato.errors import SfumatoError, unknown

# Every option of the commands: how its value is read, and what it is. Services with forms make fields of it.
WHOLE, NUMBER, TEXT, SWITCH = "whole number", "number", "text", "switch"


@dataclass(frozen=True)
class ChatOption:
    """An option of a command. `help` is one line; `name` is the server's name of the option, if it has another."""

    kind: str
    help: str
    name: str = ""


OPTIONS = {
    "no": ChatOption(TEXT, "What should not be in the picture.", "negative"),
    "steps": ChatOption(WHOLE, "How many steps."),
    "cfg": ChatOption(NUMBER, "How strictly the prompt is followed."),
    "seed": ChatOption(WHOLE, "The same number draws the same picture again."),
    "n": ChatOption(WHOLE, "How many pictures."),
    "size": ChatOption(TEXT, "Width and height, such as 512x768."),
    "sampler": ChatOption(TEXT, "A sampler, such as euler."),
    "model": ChatOption(TEXT, "A model of the server."),
    "strength": ChatOption(NUMBER, "How much a given picture is changed, 0 to 1."),
    "private": ChatOption(SWITCH, "Only you see the pictures."),
}
# Phones write a long dash for two hyphens.
_OPTION = re.compile(r"(?:^|\s)(?:--|—|–)([A-Za-z]+)(?=[\s=]|$)")
_SIZE = re.compile(r"(\d{2,4})\s*[x×*]\s*(\d{2,4})")
LONGEST = 2000  # characters of a prompt


@dataclass(frozen=True)
class Asked:
    """A prompt, and the values of its options by their names in OPTIONS."""

    prompt: str
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def private(self) -> bool:
        return bool(self.given.get("private"))

    def options(self) -> dict[str, Any]:
        """Returns the options that the server takes, under the server's names."""
        found: dict[str, Any] = {
            name: self.given[name] for name in ("steps", "cfg", "seed", "n", "sampler") if name in self.given
        }
        if "size" in self.given:
            found["width"], found["height"] = self.given["size"]
        return found


def read(text: str) -> Asked:
    """Reads a prompt with options: `a cat --steps 20 --no text --size 512x512`. Raises SfumatoError."""
    marks = list(_OPTION.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)] * bool(marks)
    given = {mark[1].lower(): text[mark.end() : end].lstrip("=").strip() for mark, end in zip(marks, ends, strict=True)}
    return asked(text[: marks[0].start()] if marks else text, given)


def asked(prompt: str, given: dict[str, Any]) -> Asked:
    """Checks a prompt and options whose values are text, or of the right type already. Raises SfumatoError."""
    prompt = " ".join(prompt.split())
    if len(prompt) > LONGEST:
        raise SfumatoError(f"the prompt has {len(prompt)} characters; at most {LONGEST} are read, so shorten it")
    found = {}
    for name, value in given.items():
        if name not in OPTIONS:
            raise unknown("option", name, OPTIONS)
        found[name] = _value(name, value)
    return Asked(prompt, found)


def _value(name: str, value: Any) -> Any:
    kind = OPTIONS[name].kind
    if kind == SWITCH:
        return value if isinstance(value, bool) else str(value).lower() not in ("no", "off", "false", "0")
    if name == "size":
        match = _SIZE.fullmatch(str(value))
        if match is None:
            raise SfumatoError(f"--size is {value!r}; write width and height, such as 512x768")
        return int(match[1]), int(match[2])
    if kind == TEXT:
        if not str(value):
            raise SfumatoError(f"--{name} lacks its {kind}")
        return str(value)
    try:
        return int(value) if kind == WHOLE else float(value)
    except ValueError:
        raise SfumatoError(f"--{name} takes a {kind}, not {str(value)[:40]!r}") from None


COMMANDS = {
    "imagine": (" PROMPT", "draws pictures; what stands below them varies and enlarges each"),
    "blend": (" PROMPT, with two pictures or more", "draws a mixture of them"),
    "describe": (", with a picture", "says what it shows"),
    "queue": ("", "says how long the queue is, and how your jobs stand"),
    "help": ("", "lists commands and options"),
}
"""What follows each command, and what it does."""


def help_text(sign: str) -> str:
    """Returns what a person can write, in a service whose commands begin with `sign`."""
    lines = [f"{sign}{name}{given}: {does}" for name, (given, does) in COMMANDS.items()]
    options = ", ".join(f"--{name} ({one.help.rstrip('.').lower()})" for name, one in OPTIONS.items())
    return "\n".join([*lines, f"Options: {options}"])
