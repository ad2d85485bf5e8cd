"""Captions of scenes of nouns in six languages; `captions` has those of single emoji."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING

from sfumato.data.emoji import captions
from sfumato.data.emoji.captions import with_article
from sfumato.data.emoji.nouns import Noun

if TYPE_CHECKING:
    from sfumato.data.emoji.noun_scenes import NounScene

STYLE_SHARE = 0.6
OTHER_SHARE = 0.35

# {a} is the scene's first object, {b} its second, {c} its third. The first pattern of each list is canonical,
# the second says the same from the second object.
PATTERNS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "left": (
            "{a} to the left of {b}",
            "{b} to the right of {a}",
            "{a} left of {b}",
            "{b} right of {a}",
            "{a} on the left, {b} on the right",
        ),
        "above": ("{a} above {b}", "{b} below {a}", "{a} at the top, {b} at the bottom"),
        "front": ("{a} in front of {b}", "{b} behind {a}"),
        "sizes": ("{a} and {b}", "{b} and {a}"),
        "row": ("{a}, {b} and {c}", "{a}, {b} and {c} in a row"),
    },
    "th": {
        "left": ("{a}อยู่ทางซ้ายของ{b}", "{b}อยู่ทางขวาของ{a}", "{a}ทางซ้าย {b}ทางขวา"),
        "above": ("{a}อยู่เหนือ{b}", "{b}อยู่ใต้{a}", "{a}ด้านบน {b}ด้านล่าง"),
        "front": ("{a}อยู่ข้างหน้า{b}", "{b}อยู่ข้างหลัง{a}"),
        "sizes": ("{a}กับ{b}", "{b}กับ{a}"),
        "row": ("{a} {b} และ{c}", "{a} {b} และ{c} เรียงกัน"),
    },
    "zh": {
        "left": ("{a}在{b}左边", "{b}在{a}右边", "左边是{a}，右边是{b}"),
        "above": ("{a}在{b}上面", "{b}在{a}下面", "上面是{a}，下面是{b}"),
        "front": ("{a}在{b}前面", "{b}在{a}后面"),
        "sizes": ("{a}和{b}", "{b}和{a}"),
        "row": ("{a}、{b}和{c}", "{a}、{b}和{c}排成一排"),
    },
    "id": {
        "left": ("{a} di sebelah kiri {b}", "{b} di sebelah kanan {a}", "{a} di kiri, {b} di kanan"),
        "above": ("{a} di atas {b}", "{b} di bawah {a}"),
        "front": ("{a} di depan {b}", "{b} di belakang {a}"),
        "sizes": ("{a} dan {b}", "{b} dan {a}"),
        "row": ("{a}, {b} dan {c}", "{a}, {b} dan {c} berjajar"),
    },
    # Adverbs, because "to the left of" would need every name declined.
    "uk": {
        "left": ("{a} ліворуч, {b} праворуч", "праворуч {b}, ліворуч {a}", "ліворуч {a}, праворуч {b}"),
        "above": ("{a} вгорі, {b} внизу", "внизу {b}, вгорі {a}", "вгорі {a}, внизу {b}"),
        "front": ("{a} попереду, {b} позаду", "попереду {a}, позаду {b}"),
        "sizes": ("{a} і {b}", "{b} і {a}"),
        "row": ("{a}, {b} і {c}", "{a}, {b} і {c} в ряд"),
    },
    "ja": {
        "left": ("{b}の左に{a}", "{a}の右に{b}", "左に{a}、右に{b}"),
        "above": ("{b}の上に{a}", "{a}の下に{b}", "上に{a}、下に{b}"),
        "front": ("{b}の前に{a}", "{a}の後ろに{b}"),
        "sizes": ("{a}と{b}", "{b}と{a}"),
        "row": ("{a}と{b}と{c}", "並んだ{a}と{b}と{c}"),
    },
}

# One object somewhere in the picture.
PLACES: dict[str, dict[str, str]] = {
    language: dict(zip(("left", "right", "top", "bottom"), patterns.split("/"), strict=True))
    for language, patterns in {
        "en": "{a} on the left/{a} on the right/{a} at the top/{a} at the bottom",
        "th": "{a}ทางซ้าย/{a}ทางขวา/{a}ด้านบน/{a}ด้านล่าง",
        "zh": "左边的{a}/右边的{a}/上面的{a}/下面的{a}",
        "id": "{a} di kiri/{a} di kanan/{a} di atas/{a} di bawah",
        "uk": "{a} ліворуч/{a} праворуч/{a} вгорі/{a} внизу",
        "ja": "左に{a}/右に{a}/上に{a}/下に{a}",
    }.items()
}


def caption(scene: NounScene, language: str, rng: Random) -> str:
    """Returns one way in which a person might ask for this scene; a named background is always named."""
    words = {thing.noun.emoji: _word(thing.noun, rng) for thing in scene.objects}
    phrase = _phrase(
        scene, language, [words[thing.noun.emoji] for thing in scene.objects], rng.choice, rng.random() < 0.6
    )
    style = scene.style if rng.random() < STYLE_SHARE else None
    return captions.with_style_and_background(phrase, style, language, rng, scene.background)


def prompt(scene: NounScene, language: str) -> str:
    """Returns the canonical prompt for evaluation: the things, the style, then the background if it has a name."""
    phrase = _phrase(scene, language, [thing.noun for thing in scene.objects], itemgetter(0), article=True)
    return captions.canonical(phrase, scene.style, language, scene.background)


def _word(noun: Noun, rng: Random) -> Noun:
    return rng.choice(noun.others) if noun.others and rng.random() < OTHER_SHARE else noun


def _phrase(
    scene: NounScene, language: str, words: Sequence[Noun], choose: Callable[[Sequence[str]], str], article: bool
) -> str:
    """Returns the things in these words, in the pattern that `choose` takes."""
    things = scene.objects
    if scene.kind == "count":
        return words[0].counted(language, len(things), things[0].colour)
    phrases = [noun.phrase(language, thing.colour, thing.size) for noun, thing in zip(words, things, strict=True)]
    if article and language == "en":
        phrases = [with_article(phrase) for phrase in phrases]
    if scene.kind == "one":
        return PLACES[language][scene.place].format(a=phrases[0]) if scene.place else phrases[0]
    return choose(PATTERNS[language][scene.kind]).format(**dict(zip("abc", phrases, strict=False)))
