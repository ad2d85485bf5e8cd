"""Forms that the patterns of each language take."""

from __future__ import annotations

from sfumato.data.captions import Colour
from sfumato.data.nouns import JAPANESE_ADJECTIVES
from sfumato.data.wording import english
from sfumato.data.wording.lexicon import agree

COMMAS = {"en": ", ", "th": ", ", "zh": "，", "id": ", ", "uk": ", ", "ja": "、"}


def colour_words(colour: Colour, word: str, language: str, gender: str = "n") -> dict[str, str]:
    """A colour by its `word` in every form: {c} beside a noun; English {a} with its article; Chinese {k} without "色";
    Japanese {i} before a noun; Ukrainian {m} masculine, {l} locative, {g} genitive and {i} instrumental."""
    match language:
        case "en":
            return {"c": word, "a": english.with_article(word)}
        case "zh":
            return {"c": word, "k": word.removesuffix("色")}
        case "ja":
            return {"c": word, "i": word + ("い" if word in JAPANESE_ADJECTIVES else "の")}
        case "uk":
            stem, masculine = colour.locative.removesuffix("му"), agree(word, "m")
            ending = "ім" if masculine.endswith("ій") else "им"
            return {
                "c": agree(word, gender),
                "m": masculine,
                "l": colour.locative,
                "g": stem + "го",
                "i": masculine[:-2] + ending,
            }
        case _:
            return {"c": word}
