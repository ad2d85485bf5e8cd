"""How people ask for pictures, in six languages: texts whose meaning is known exactly."""

from sfumato.data.wording.asked import Asked, Thing
from sfumato.data.wording.canonical import canonical
from sfumato.data.wording.keywords import is_held, keywords, nothing, say_keywords
from sfumato.data.wording.names import typo
from sfumato.data.wording.phrases import phrases
from sfumato.data.wording.say import say

__all__ = ["Asked", "Thing", "canonical", "is_held", "keywords", "nothing", "phrases", "say", "say_keywords", "typo"]
