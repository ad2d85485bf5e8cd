"""The phrases that say a number, colour, size, pose, place or style."""

from collections import defaultdict
from random import Random

import pytest

from sfumato.data.emoji.captions import COLOURS, LANGUAGES, STYLES, Concept
from sfumato.data.emoji.nouns import TINTS, nouns, tint_of
from sfumato.data.emoji.wording import Asked, Thing, phrases, say, values
from sfumato.data.emoji.wording.values import says_value
from sfumato.nets.layout import MAX_COUNT, PLACES, POSES, SIZES
from sfumato.nets.lexicon import Lexicon, phrase_form
from sfumato.nets.reader import value_count, value_ranges
from sfumato.spec import PriorConfig

CFG = PriorConfig(concepts=1)
RANGES = value_ranges(CFG)
FOX = next(noun for noun in nouns() if noun.emoji == "🦊")
CONCEPT = Concept("1f98a", "🦊", "animals-nature", "animal-mammal", FOX.names, {one: ("small",) for one in LANGUAGES})


@pytest.fixture(scope="module")
def table():
    said = [(phrase, 1 + RANGES[field].start + place, False) for phrase, field, place in values()]
    return Lexicon.of([*phrases({0: CONCEPT}), *said], 1, value_count(CFG))


def said(table, text):
    """The values that are found in a text, by field."""
    found = table.find(text, [len(text.encode())]).values
    return {name: {int(v) for v in found[:, span.start : span.stop].nonzero()[:, 1]} for name, span in RANGES.items()}


def test_all_that_can_be_said_has_a_phrase():
    places = defaultdict(set)
    for _, field, place in values():
        places[field].add(place)
    assert places == {name: set(range(len(span))) for name, span in RANGES.items()}


@pytest.mark.parametrize(
    ("text", "field", "place"),
    [
        ("a tiny fox", "size", SIZES.index("small")),
        ("слон величезний", "size", SIZES.index("big")),
        ("จิ้งจอกกลับหัว", "pose", POSES.index("upside_down")),
        ("傾いた狐", "pose", POSES.index("tilted")),
        ("two foxes", "count", 1),
        ("5只狐狸", "count", 4),
        ("a dozen foxes", "count", MAX_COUNT - 1),
        ("жодної, дві лисиці", "count", 1),
        ("a fox and a purple wall", "surface", 0),
        ("лисиця на червоній стіні", "surface", 0),
        ("狐狸在蓝色墙壁前", "surface", 0),
        ("rubah di kiri", "place", PLACES.index("left")),
        ("จิ้งจอก 3 มิติ", "style", STYLES.index("3d")),
        ("狐狸，浅蓝色背景", "ground", next(k for k, colour in enumerate(COLOURS) if colour.name == "light blue")),
    ],
)
def test_a_phrase_says_its_value(table, text, field, place):
    assert said(table, text)[field] == {place}


def test_a_style_with_a_number_in_it_is_no_number(table):
    assert not said(table, "จิ้งจอก 3 มิติ")["count"] and not said(table, "狐狸三维")["count"]


@pytest.mark.parametrize("tag", ["f/1.8", "--ar 16:9", "3 point lighting", "black outline", "1980s"])
def test_tags_of_prompts_say_no_value(table, tag):
    assert not any(said(table, f"a fox, {tag}").values())


def test_a_word_that_is_a_sign_elsewhere_is_no_keyword():
    fox = Concept(
        "1f98a", "🦊", "animals-nature", "animal-mammal", FOX.names, {one: ("on", "wild") for one in LANGUAGES}
    )
    assert {"on", "wild"} & {phrase for phrase, number, _ in phrases({0: fox}) if number == 0} == {"wild"}


def test_shades_have_the_tint_that_is_nearest(table):
    assert TINTS[tint_of("dark green") - 1] == "green" and TINTS[tint_of("lavender") - 1] == "purple"
    assert not tint_of("white") and not said(table, "a white fox")["tint"]
    assert said(table, "a light blue fox")["tint"] == {TINTS.index("blue")}


def test_a_keyword_that_says_a_value_is_none():
    assert says_value("small") and phrase_form("small") not in {word for word, _, named in phrases({0: CONCEPT})}


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_training_says_is_found(table, language):
    rng, missing, asked_for = Random(language), 0, 0
    for _ in range(80):
        tint = rng.choice([colour for colour in COLOURS if colour.name in TINTS])
        thing = Thing(CONCEPT, rng.randint(2, MAX_COUNT), tint, rng.choice(SIZES), rng.choice(POSES))
        asked = Asked((thing,), style=rng.choice(STYLES), ground=rng.choice(COLOURS))
        found = said(table, say(asked, language, rng))
        wanted = {
            "count": thing.count - 1,
            "tint": TINTS.index(tint.name),
            "size": SIZES.index(thing.size),
            "pose": POSES.index(thing.pose),
            "style": STYLES.index(asked.style),
            "ground": COLOURS.index(asked.ground),
        }
        asked_for += len(wanted)
        missing += sum(place not in found[field] for field, place in wanted.items())
    assert missing < 0.08 * asked_for, f"{missing} of {asked_for}"


def test_what_stands_between_two_names_says_no_number():
    """As in a pattern that repeats the name: "{n} and once more {n}"."""
    assert not says_value("і") and not says_value("and") and not says_value("dan")
