"""Choices, wildcard files and styles: one text by the seed, and nothing read that should not be."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.errors import SfumatoError
from sfumato.text.prompt.styles import Style, apply_styles, find_styles
from sfumato.text.prompt.template import MAX_CHOSEN, expand, expand_notes, unmatched


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "wildcards"
    (root / "part").mkdir(parents=True)
    (root / "colour.txt").write_text("\ufeffred\n\n# no colour\n3::blue\n", encoding="utf-8")
    (root / "part" / "animal.txt").write_text("{cat|dog}\n__colour__ fox\n")
    (root / "circle.txt").write_text("a __circle__")
    (root / "pair.txt").write_text("{2$$__pair__}")
    (root / "empty.txt").write_text("# nothing\n")
    (root / "latin.txt").write_bytes(b"caf\xe9")
    (root / "grow.txt").write_text("x" * 60_000)
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    return root


def draws(template: str, folder: Path | None = None, count: int = 300) -> Counter[str]:
    return Counter(expand(template, seed, folder) for seed in range(count))


def test_a_seed_draws_the_same_text_always() -> None:
    assert [expand("{a|b|c} {d|e}", seed) for seed in range(5)] == ["b d", "c d", "c d", "a d", "b d"]
    assert expand("{a|b|c}", 7) == expand("{a|b|c}", 7)


def test_choices() -> None:
    assert set(draws("{a|b}")) == {"a", "b"}
    assert set(draws("{a|{b|c} d}")) == {"a", "b d", "c d"}
    assert set(draws("{[x|y]|z}")) == {"[x|y]", "z"}
    assert set(draws("{a|}")) == {"a", ""}
    twice = draws("{2::a|b}")
    assert 1.5 < twice["a"] / twice["b"] < 2.7
    assert set(draws("{0::a|b}")) == {"b"}


def test_counts() -> None:
    assert set(draws("{2$$a|b|c}")) == {f"{x}, {y}" for x in "abc" for y in "abc" if x != y}
    assert set(draws("{1-2$$ and $$a|b}")) == {"a", "b", "a and b", "b and a"}
    assert set(draws("{-1$$a|b}")) == {"a", "b"}
    assert set(draws("{2-$$a|b}")) == {"a, b", "b, a"}
    assert set(draws("{9$$a|b}")) == {"a, b", "b, a"}
    assert set(draws("{0$$a|b}")) == {""}


@pytest.mark.parametrize(
    "text", ["{a}", "a {b", "a} b", "\\{a|b\\}", "__", "a __ b", "_____", "snake_case", "{}", "\\__a__"]
)
def test_what_is_no_choice_is_text(text: str) -> None:
    assert expand(text, 0) == text


def test_unmatched_braces_are_noted() -> None:
    assert [(note.start, note.end) for note in unmatched("a {b} } {c")] == [(6, 7), (8, 9)]


def test_wildcards(folder: Path) -> None:
    colours = draws("a __colour__ hat", folder)
    assert set(colours) == {"a red hat", "a blue hat"} and colours["a blue hat"] > 2 * colours["a red hat"]
    assert set(draws("__part/animal__", folder)) == {"cat", "dog", "red fox", "blue fox"}
    assert set(draws("{2$$__colour__}", folder)) == {"red, blue", "blue, red"}
    assert set(draws("__part/*__", folder)) == set(draws("__part/animal__", folder))
    assert set(draws("__col*__", folder)) == {"red", "blue"}


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("__none__", r"no none.txt in .* for the wildcard __none__"),
        ("__no*__", "no no.*txt"),
        ("__../secret__", "cannot name a wildcard file"),
        ("__/etc/hostname__", "cannot name a wildcard file"),
        ("__part/../../secret__", "cannot name a wildcard file"),
        ("__part/..*/secret__", "cannot name a wildcard file"),
        ("__..__", "cannot name a wildcard file"),
        ("__C:\\secret__", "cannot name a wildcard file"),
        ("__link__", "no link.txt"),
        ("__lin*__", "no lin.*txt"),
        ("__circle__", "name each other without end: circle > circle"),
        ("__pair__", "name each other without end|choices within choices"),
        ("__empty__", "without lines"),
        ("__latin__", "is no text in UTF-8"),
        ("__part__", "no part.txt"),
        ("__grow__ __grow__", "grows beyond"),
        ("{0::a|0::b}", "weigh nothing"),
    ],
)
def test_what_cannot_be_read_fails_in_one_line(folder: Path, template: str, said: str) -> None:
    with pytest.raises(SfumatoError, match=said) as failure:
        expand(template, 0, folder)
    assert "\n" not in str(failure.value)


def test_wildcards_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="no folder with wildcard files is given"):
        expand("__colour__", 0)
    with pytest.raises(SfumatoError, match="is no folder"):
        expand("__colour__", 0, tmp_path / "none")


@given(st.text(alphabet="{}|$:-_ab12\\", max_size=40).filter(lambda text: "__" not in text), st.integers())
def test_any_template_ends(text: str, seed: int) -> None:
    try:
        assert expand(text, seed) == expand(text, seed)
    except SfumatoError as error:
        assert "weigh nothing" in str(error) or "deep" in str(error)


def test_styles(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text(
        '\ufeffname,prompt,negative_prompt\nink,"{prompt}, ink, black",colour\nsoft,soft light,\n', encoding="utf-8"
    )
    ink, soft = find_styles(["ink", "soft"], path)
    assert apply_styles("a cat", "dog", [ink]) == ("a cat, ink, black", "dog, colour")
    assert apply_styles("a cat", "", [ink, soft]) == ("a cat, ink, black, soft light", "colour")
    assert apply_styles("", "", [Style("x", "")]) == ("x", "")
    old = tmp_path / "old.csv"
    old.write_text("name,text\nink,ink drawing\n")
    assert find_styles(["ink"], old) == [Style("ink drawing", "")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no styles file at"),
        (b"a,b\n1,2\n", "first line must be"),
        (b"name\n\xff", "cannot read"),
        (b"", "first line"),
    ],
)
def test_a_styles_file_that_is_none(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "styles.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SfumatoError, match=said):
        find_styles(["ink"], path)


def test_an_unknown_style_lists_the_known(tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text("name,prompt,negative_prompt\nink,ink,\n")
    with pytest.raises(SfumatoError, match=r"no style 'oil' in .*; it has ink"):
        find_styles(["oil"], path)


def test_names_with_blanks_and_comments(folder: Path) -> None:
    (folder / "my animals.txt").write_text("red fox # the usual one\n# none\n")
    assert expand("a __my animals__, __colour__", 1, folder).startswith("a red fox, ")
    assert expand("__init and main__ __colour__", 1, folder).startswith("__init and main__ ")
    assert expand("__my animals__", 1) == "__my animals__"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a __my animals__", "__my animals__", "names no wildcard file"),
        ("{@a|b}", "{@a|", "variables and cyclic choices"),
        ("${x=red} ${x}", "${x=red}", "variables and cyclic choices"),
        ("red # trailing", "# trailing", "a comment is drawn as words"),
    ],
)
def test_marks_that_are_drawn_as_words_are_noted(text: str, place: str, words: str) -> None:
    note = next(iter(expand_notes(text)))
    assert text[note.start : note.end] == place and words in note.text
    assert not list(expand_notes("a cat, snake_case, #1, {a|b}"))


def test_choices_from_long_files_have_an_end(folder: Path) -> None:
    (folder / "long.txt").write_text("\n".join(map(str, range(50_000))))
    with pytest.raises(SfumatoError, match=f"at most {MAX_CHOSEN} are drawn"):
        expand("{9999$$__long__}", 1, folder)
    with pytest.raises(SfumatoError, match="make its files smaller"):
        expand("{400$$__long__}", 1, folder)
    assert expand("__long__", 1, folder)
