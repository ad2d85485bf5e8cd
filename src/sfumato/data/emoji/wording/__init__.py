"""How people ask for pictures, in six languages: texts whose meaning is known exactly."""

from sfumato.data.emoji.wording.asked import Asked, Thing
from sfumato.data.emoji.wording.canonical import canonical
from sfumato.data.emoji.wording.keywords import ask_for_keywords, is_held, keywords, nothing, say_keywords
from sfumato.data.emoji.wording.names import typo
from sfumato.data.emoji.wording.phrases import phrases
from sfumato.data.emoji.wording.say import say
from sfumato.data.emoji.wording.values import values

__all__ = [
    "Asked",
    "Thing",
    "ask_for_keywords",
    "canonical",
    "is_held",
    "keywords",
    "nothing",
    "phrases",
    "say",
    "say_keywords",
    "typo",
    "values",
]
