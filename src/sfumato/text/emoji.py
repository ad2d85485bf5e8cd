"""Emoji in prompts as words, for text towers that learnt words alone."""

from __future__ import annotations

import re
from functools import lru_cache

from sfumato.text.emoji_names import emoji_names

# Variation selectors, the joiner and skin tones say how an emoji looks and not what it is.
_LOOKS = re.compile("[\ufe0e\ufe0f\u200d\U0001f3fb-\U0001f3ff]")


def spelled_out(text: str) -> str:
    """The text with every emoji of the emoji set replaced by its English name: "🍎 🍎" is "red apple red apple"."""
    if text.isascii():
        return text  # no emoji, so their long pattern need not be made
    names, pattern = _known()
    return pattern.sub(lambda match: f" {names[_bare(match[0])]} ", text)


def _bare(emoji: str) -> str:
    return _LOOKS.sub("", emoji)


@lru_cache(maxsize=1)
def _known() -> tuple[dict[str, str], re.Pattern[str]]:
    names = {_bare(emoji): name for emoji, name in emoji_names().items()}
    # The longest first, since some begin with others; looks may stand between any two parts.
    some = sorted((emoji for emoji in names if not emoji.isascii()), key=len, reverse=True)
    between = f"(?:{_LOOKS.pattern})*"
    return names, re.compile("|".join("".join(re.escape(part) + between for part in emoji) for emoji in some))
