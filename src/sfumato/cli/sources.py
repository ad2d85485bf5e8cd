"""What a command is given to work on: pictures by name or pattern or from standard input, and a prompt."""

from __future__ import annotations

import glob
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from PIL import Image

STDIN = "-"
MAX_BYTES = 1 << 28  # of a picture from standard input
_MAGIC = "*?["


def pictures_and_prompt(words: Sequence[str]) -> tuple[list[str], str]:
    """The pictures and the prompt of a command line: one picture or several, then perhaps a prompt.

    The last word is a prompt unless it is the only one, names an existing file, or is a pattern of files. A pattern
    ("cats/*.png", in quotes) stands for the files that it fits, in the order of their names. Raises SfumatoError for a
    pattern that fits none.
    """
    *first, last = words
    is_picture = not first or (Path(last).suffix != "" and (_is_file(last) or _is_pattern(last)))
    named = [*words] if is_picture else first
    if wordy := [word for word in named[: len(words) - 1] if _is_words(word)]:
        raise SfumatoError(f"there is no file {wordy[0]!r}; name the pictures first, and then the prompt")
    return [name for word in named for name in _expanded(word)], "" if is_picture else prompt_of(last)


def prompt_of(text: str) -> str:
    """A prompt, which "-" takes from standard input. Raises SfumatoError where that is no text."""
    if text != STDIN:
        return text
    try:
        return sys.stdin.buffer.read(MAX_BYTES).decode().strip()
    except UnicodeDecodeError:
        raise SfumatoError("the prompt on standard input is no text in UTF-8") from None


def from_stdin(name: str) -> str | Image.Image:
    """The picture on standard input where `name` is "-", else the name. Raises SfumatoError for what is no picture."""
    if name != STDIN:
        return name
    from sfumato.images.files import read_picture

    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise SfumatoError(f"the picture on standard input has more than {MAX_BYTES:,} bytes")
    return read_picture(io.BytesIO(content), "the picture on standard input")


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # a prompt that is too long for any name
        return False


def _is_words(text: str) -> bool:
    """Whether it is more likely a prompt than the name of a picture that is missing."""
    if text == STDIN or any(mark in text for mark in _MAGIC):
        return False
    try:
        return Path(text).suffix == "" and not Path(text).exists()
    except OSError:  # too long for any name
        return True


def _is_pattern(word: str) -> bool:
    return any(mark in word for mark in _MAGIC) and bool(glob.glob(word))


def _expanded(word: str) -> list[str]:
    if not any(mark in word for mark in _MAGIC) or _is_file(word):
        return [word]
    found = sorted(name for name in glob.glob(word, recursive=True) if _is_file(name))
    if not found:
        raise SfumatoError(f"no file fits {word!r}; give the names of pictures, or a pattern such as 'cats/*.png'")
    return found
