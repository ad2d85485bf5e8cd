"""The prompt languages of other programs, each by its own rules, and what a prompt says in a second pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.text.prompt import comfyui, invokeai
from sfumato.text.prompt.editing import after_first_pass, stretches
from sfumato.text.prompt.emphasis import Span
from sfumato.text.prompt.syntax import SYNTAXES, parsed, read, weighed
from sfumato.text.prompt.tree import show

Weights = list[tuple[str, float]]


def pairs(spans: object) -> Weights:
    assert isinstance(spans, tuple)
    return [(span.text, round(span.weight, 6)) for span in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a [cat] AND ((dog:1.2) mat:1.5) BREAK x [red:blue:0.5]",
         [("a [cat] AND ", 1), ("dog", 1.2), (" mat", 1.5), (" BREAK x [red:blue:0.5]", 1)]),
        ("(a) ((b))", [("a", 1.1), (" ", 1), ("b", 1.21)]),
        ("(a (b:1.3) c)", [("a ", 1.1), ("b", 1.3), (" c", 1.1)]),
        ("(a: 1.3 ) (b:-0.5)", [("a", 1.3), (" ", 1), ("b", -0.5)]),
        ("(a:b) (:1.2)", [("a:b", 1.1), (" ", 1), (":1.2", 1.1)]),
        (r"\(a\) (b\):1.2)", [("(a) ", 1), ("b)", 1.2)]),
        ("(never (b) closed", [("(never (b) closed", 1)]),
        ("(never (b:1.2)", [("never (b", 1.2)]),
        ("a) (b) c", [("a) (b) c", 1)]),
        ("a) ((b)) c", [("a) (", 1), ("b", 1.1), (") c", 1)]),
        ("(a:nan) (b:1e9999)", [("a:nan", 1.1), (" ", 1), ("b:1e9999", 1.1)]),
        ("", [("", 1)]),
    ],
)  # fmt: skip
def test_comfyui(text: str, expected: Weights) -> None:
    assert pairs(comfyui.read(text)) == expected


def test_embeddings_of_comfyui_are_named() -> None:
    prompt = comfyui.parse("a embedding:bad-hands.pt, (embedding:x:1.2)")
    assert [str(one) for one in prompt.adapters] == ["embedding:bad-hands.pt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat++ on a (red mat)1.3, old-",
         [("a ", 1), ("cat", 1.21), (" on a ", 1), ("red mat", 1.3), (", ", 1), ("old", 0.9)]),
        ("(a (b)+ c)1.2 d", [("a ", 1.2), ("b", 1.32), (" c", 1.2), (" d", 1)]),
        ("(fine skin) \"two words\"--", [("fine skin ", 1), ("two words", 0.81)]),
        ("well-known a+b 5+", [("well-known a+b ", 1), ("5", 1.1)]),
        ("(never closed+", [("(never ", 1), ("closed", 1.1)]),
        (r"\(plain\) a,b", [("(plain) a, b", 1)]),
        ("(word:1.3) [x] {y}", [("word:1.3 [x] {y}", 1)]),
        ("- a + b)", [("- a + b)", 1)]),
    ],
)  # fmt: skip
def test_invokeai(text: str, expected: Weights) -> None:
    assert pairs(invokeai.read(text)) == expected


@given(st.lists(st.sampled_from([*'()[]:"+-\\ a\n,.', "1.3", "++", "embedding:", "é"]), max_size=30).map("".join))
def test_any_text_is_words_in_every_language(text: str) -> None:
    for syntax in SYNTAXES:
        prompt = parsed(syntax, text)
        assert prompt.drawn
        spans = weighed(syntax, text)
        assert spans and all(abs(span.weight) <= 1000 for span in spans if isinstance(span, Span))


def test_blanks_around_a_weight_by_version() -> None:
    assert pairs(weighed("a1111", "(red : 1.3 ) car")) == [("red ", 1.3), (" car", 1)]
    assert pairs(weighed("a1111-1.5", "(red: 1.3) car")) == [("red: 1.3", 1.1), (" car", 1)]


@pytest.mark.parametrize(
    ("text", "new", "old"),
    [
        ("[a:b:1.0]", [(10, "a")], [(1, "a"), (10, "b")]),
        ("[a:b:0.5]", [(5, "a"), (10, "b")], [(5, "a"), (10, "b")]),
        ("[a:b:3]", [(3, "a"), (10, "b")], [(3, "a"), (10, "b")]),
        ("[a:b:3.0]", [(10, "a")], [(3, "a"), (10, "b")]),
    ],
)
def test_a_decimal_point_is_a_share(text: str, new: object, old: object) -> None:
    for syntax, expected in (("a1111", new), ("a1111-1.5", old)):
        assert stretches(parsed(syntax, text).branches[0].nodes, 10) == expected


def test_what_a_second_pass_says() -> None:
    text = "[a:b:0.5] [c:d:1.5] [e:f:12] [(g:h:1.0)|i] <lora:x:1>"
    (branch,) = parsed("a1111", text).branches
    assert show(after_first_pass(branch.nodes, 10)) == "[a:b:0.0] [c:d:0.5] [e:f:2] [(g:h:1.0)|i] <lora:x:1>"
    _, (part,) = read("a1111", "[a:b:0.5] [c:d:1.5]", 4, after=6)
    assert part.texts == ("b c", "b c", "b d", "b d")
    for syntax in ("a1111-1.5", "comfyui", "invokeai", "plain"):
        assert read(syntax, text, 4, after=10) == read(syntax, text, 4)
    _, (first, second) = read("a1111", "a AND [b:(c:1.5):0.5] :0.7", 2, after=10)
    assert (first.texts, second.texts, second.weight) == (("a", "a"), (" (c:1.5)", " (c:1.5)"), 0.7)
    assert second.spans[0] == (Span(" "), Span("c", 1.5))
