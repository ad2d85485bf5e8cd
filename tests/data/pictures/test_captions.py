"""What training does to captions."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path
from random import Random

import pytest

from sfumato.data.pictures.captions import drawn_caption, plain_caption
from sfumato.data.pictures.options import PictureOptions, SubsetOptions
from sfumato.errors import SfumatoError


def drawn(caption: str, count: int = 400, **options: object) -> Counter[str]:
    rng = Random(0)
    return Counter(drawn_caption((caption,), SubsetOptions(**options), rng) for _ in range(count))


def test_the_first_tags_are_kept_and_the_others_shuffled() -> None:
    found = drawn("a, b,c , d", shuffle_tags=True, keep_tags=2)
    assert set(found) == {"a, b, c, d", "a, b, d, c"} and min(found.values()) > 150
    assert set(drawn("a, b ||| c, d", shuffle_tags=True, keep_separator="|||")) == {"a, b, c, d", "a, b, d, c"}
    assert set(drawn("a; b", shuffle_tags=True, separator=";")) == {"a; b", "b; a"}
    assert set(drawn("a;;;b, c", shuffle_tags=True, secondary_separator=";;;")) == {"a,b, c", "c, a,b"}


def test_tags_and_captions_are_dropped_as_often_as_asked() -> None:
    found = drawn("a, b, c", tag_dropout=0.25, keep_tags=1)
    assert all(text.startswith("a") for text in found)
    assert 0.2 < sum("b" not in text for text in found.elements()) / 400 < 0.3
    assert 0.06 < drawn("a, b", caption_dropout=0.1)[""] / 400 < 0.14


def test_one_of_several_captions_is_drawn() -> None:
    rng = Random(1)
    found = Counter(drawn_caption(("one", "two"), SubsetOptions(), rng) for _ in range(200))
    assert set(found) == {"one", "two"} and min(found.values()) > 70
    assert plain_caption(("one", "two"), SubsetOptions()) == "one"


def test_words_are_put_around_captions() -> None:
    options = SubsetOptions(prefix="a photo of", suffix=", sharp", trigger="sks", keep_separator="|")
    assert plain_caption(("a dog|",), options) == "sks, a photo of a dog , sharp"
    assert plain_caption(("my SKS dog",), SubsetOptions(trigger="sks")) == "my SKS dog"
    assert plain_caption(("skskin",), SubsetOptions(trigger="sks")) == "sks, skskin"
    assert plain_caption((), SubsetOptions(trigger="sks")) == "sks"
    assert set(drawn("sks", caption_dropout=1.0, trigger="sks")) == {""}


@pytest.mark.parametrize(("options", "message"), [
    ({"repeats": 0}, "repeats is 0"), ({"weight": -1.0}, "weight is -1"), ({"tag_dropout": 1.5}, "a share from 0 to 1"),
    ({"keep_tags": -1}, "keep_tags is -1"), ({"separator": " "}, "separator is empty"),
    ({"caption_endings": ("txt",)}, "caption_endings has 'txt'"), ({"background": "transparentish"}, "give a colour"),
])  # fmt: skip
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(SfumatoError, match=message):
        SubsetOptions(**options)


def test_the_table_of_options_in_the_docs_is_whole() -> None:
    text = (Path(__file__).parents[3] / "docs/data.md").read_text(encoding="utf-8")
    table = text.split("| option | default |")[1].split("\n\n")[0]
    named = [name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")]
    options = {field.name for field in fields(PictureOptions)} - {"regularisation"}  # which a folder of its own says
    assert sorted(named) == sorted(options)
