"""The one exception a user may see, and the one warning."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

FEW = 8  # names that a message lists even where a command lists them too
LONGEST_VALUE = 120  # characters of a value in a message
_MARKED = re.compile(r"`([A-Za-z]\w*)`")


class SfumatoError(Exception):
    """Bad input or a broken file.

    The message is a single line that says what was wrong, what was expected and what to do. The command line prints it
    and exits with code 2; library users catch this class.
    """


class OptionError(SfumatoError):
    """An option that cannot be honoured. In `marked` the options' names stand between backquotes.

    The message has them as Python does; `spelled` has them as another door does, such as the command line.
    """

    def __init__(self, marked: str):
        super().__init__(_MARKED.sub(r"\1", marked))
        self.marked = marked

    def spelled(self, names: Mapping[str, str]) -> str:
        """The message with each option by its name in `names`."""
        return _MARKED.sub(lambda match: names.get(match[1], match[1]), self.marked)


class SfumatoWarning(UserWarning):
    """What goes on but not as the user may expect; a single line, which the command line prints."""


def warn(text: str) -> None:
    """Tell the user something once a run, not once a picture."""
    warnings.warn(text, SfumatoWarning, stacklevel=3)


def unknown(kind: str, value: object, known: Iterable[str], more: str = "") -> SfumatoError:
    """The error for a value that is none of the `known` names: with the nearest of them, and all where they are few.

    `kind` is the word for what was sought, `more` says where all names are listed; without it they always are.
    """
    names = list(known)
    spelled = {re.sub(r"[\s_-]", "", name.lower()): name for name in names}
    near = get_close_matches(re.sub(r"[\s_-]", "", value.lower()), spelled, 1) if isinstance(value, str) else []
    guess = f"did you mean {spelled[near[0]]!r}? " if near else ""
    listed = f"choose one of {', '.join(names)}" if len(names) <= FEW or not more else more
    return SfumatoError(f"unknown {kind} {shortened(value)}; {guess}{listed}")


def shortened(value: object) -> str:
    """A value as messages show it, on one line and cut where it is long."""
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
