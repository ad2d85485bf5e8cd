from random import Random

import pytest

from sfumato.data.emoji import captions
from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLE_WORDS, STYLES, Concept, caption, prompt

ROCKET = Concept(
    "1f680",
    "🚀",
    "travel-places",
    "transport-air",
    dict(zip(LANGUAGES, ("rocket", "จรวด", "火箭", "roket", "ракета", "ロケット"), strict=True)),
    {language: (f"{language}-rare", f"{language}-common", "x" * 60) for language in LANGUAGES},
)
WHITE = COLOURS[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_words_every_style_and_colour(language):
    assert set(STYLE_WORDS[language]) == set(STYLES)
    assert len({prompt(ROCKET, style, language) for style in STYLES}) == len(STYLES)
    assert len({colour.words[language] for colour in COLOURS}) == len(COLOURS)


def test_the_prompt_is_name_and_style():
    assert prompt(ROCKET, "flat", "en") == "rocket, flat icon"
    assert prompt(ROCKET, "3d", "ja") == "ロケット、3dレンダー"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_background_is_named_when_and_only_when_given(language):
    blue = next(colour for colour in COLOURS if colour.name == "blue")
    words = (blue.words[language], blue.locative)
    rng = Random(0)
    for _ in range(200):
        style = rng.choice(STYLES)
        on_blue, on_white = (caption(ROCKET, style, language, rng, colour) for colour in (blue, None))
        assert any(word in on_blue for word in words) and not any(word in on_white for word in words)


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_mix_names_keywords_and_styles_in_their_shares(language):
    rng = Random(0)
    texts = [caption(ROCKET, "flat", language, rng, None) for _ in range(4000)]
    named = sum(ROCKET.names[language] in text for text in texts) / len(texts)
    styled = sum(any(word in text for word in STYLE_WORDS[language]["flat"]) for text in texts) / len(texts)
    assert named == pytest.approx(captions.NAME_SHARE, abs=0.03)
    assert styled == pytest.approx(captions.STYLE_SHARE, abs=0.03)
    assert max(map(len, texts)) < 120 and not any("{" in text for text in texts)


def test_plain_english_prompts_occur():
    rng = Random(0)
    texts = {caption(ROCKET, "3d", "en", rng, rng.choice((None, WHITE))) for _ in range(4000)}
    assert {"a rocket", "rocket", "rocket, 3d render", "3d render of a rocket on a white background"} <= texts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rocket", "a rocket"),
        ("orange book", "an orange book"),
        ("unicorn", "a unicorn"),
        ("grapes", "grapes"),
        ("clinking beer mugs", "clinking beer mugs"),
        ("glass of milk", "a glass of milk"),
        ("eyes with hearts", "eyes with hearts"),
        ("octopus", "an octopus"),
        ("Christmas tree", "Christmas tree"),
        ("O button (blood type)", "O button (blood type)"),
    ],
)
def test_english_articles(name, expected):
    assert captions.with_article(name) == expected


def test_background_colours_stay_in_their_boxes():
    rng = Random(0)
    for colour in COLOURS:
        for _ in range(20):
            value = colour.sample(rng)
            assert all(low <= v <= high for low, v, high in zip(colour.low, value, colour.high, strict=True))
    assert WHITE.sample(rng) == (255, 255, 255)
