"""The prompt language: what texts mean, and that any text means something."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sfumato.text.prompt import emphasis
from sfumato.text.prompt.editing import stretches, text_per_step
from sfumato.text.prompt.emphasis import MAX_DEPTH, Break, Span
from sfumato.text.prompt.parse import parse
from sfumato.text.prompt.tree import LARGEST, Adapter, Alternate, Edit, Text

PIECES = [*"()[]:|<>{}\\ a\n", "AND", " AND ", "BREAK", "0.5", "12", ":1.3)", "<lora:", "<lora:x:1>", "embedding:", "é"]
texts = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=24).map("".join))


@given(texts)
@example("a\\ AND b")
@example("[a:b:" + "9" * 400 + "]")
@example("(" * 300 + "a" + ")" * 300)
@example("x:0.5:1")
def test_what_is_printed_parses_to_the_same_tree(text: str) -> None:
    tree = parse(text)
    assert parse(str(tree)) == tree
    negative = parse(text, compose=False)
    assert parse(str(negative), compose=False) == negative


@given(texts)
def test_any_text_is_words_at_every_step_and_its_notes_lie_within(text: str) -> None:
    tree = parse(text)
    for branch in tree.branches:
        for words in text_per_step(branch.nodes, 3):
            spans, _ = emphasis.read(words)
            assert spans and all(abs(span.weight) < float("inf") for span in spans if isinstance(span, Span))
    assert all(0 <= note.start < note.end <= len(text) and note.text for note in tree.notes)


@given(st.text(alphabet=st.characters(exclude_characters="()[]:|<>\\"), min_size=1))
def test_words_without_syntax_are_themselves(text: str) -> None:
    if any(word in text for word in ("AND", "BREAK")):
        return
    tree = parse(text)
    assert str(tree) == text.rstrip() and not tree.notes
    assert emphasis.read(text) == ((Span(text),), ())


def test_a_tree_has_typed_nodes() -> None:
    (first, second) = parse("a (big:1.2) [cat:dog:0.4] AND [in|out] <lora:fur:0.7> :0.5").branches
    assert first.nodes == (
        Text("a (big:1.2) "),
        Edit((Text("cat"),), (Text("dog"),), 0.4, share=True),
    )
    assert second.nodes == (
        Text(" "),
        Alternate(((Text("in"),), (Text("out"),))),
        Text(" "),
        Adapter("lora", "fur", ("0.7",)),
    )
    assert (first.weight, second.weight) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a red (car", "(", "never closed"),
        ("a [b", "[", "never closed"),
        ("a) b", ")", "closes nothing"),
        ("[a|b:c]", "[a|b:c]", "only weighs less"),
        ("[a:b]", "[a:b]", "only weighs less"),
        ("(x:1.2.3)", "1.2.3", "no number"),
        ("(x:99999)", "99999", "limited"),
        ("a clock at 12:30", ":30", "beside AND only"),
        ("<lora:x:strong> b", "<lora:x:strong>", "<lora:name:0.8>"),
        ("<lora:> b", "<lora:>", "<lora:name:0.8>"),
        ("(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1), "(", f"more than {MAX_DEPTH}"),
    ],
)
def test_what_may_not_be_as_meant_is_noted_with_its_place(text: str, place: str, words: str) -> None:
    notes = [note for note in parse(text).notes if words in note.text]
    assert [text[note.start : note.end] for note in notes] == [place]


@pytest.mark.parametrize("text", ["a \\(b\\)", "12\\:30", "rock \\AND roll", "\\BREAK", "a\\\\", "(a:1.5)", "[a|b] :)"])
def test_what_is_escaped_or_meant_needs_no_note(text: str) -> None:
    tree = parse(text)
    assert tree.notes == () or "closes nothing" in tree.notes[0].text
    assert len(tree.branches) == 1 and tree.branches[0].weight == 1
    assert Break() not in emphasis.read(text)[0]


def test_a_backslash_makes_words_of_syntax() -> None:
    assert emphasis.read("\\(a\\) \\BREAK (12\\:30) \\\\")[0] == (Span("(a) BREAK "), Span("12:30", 1.1), Span(" \\"))
    assert parse("rock \\AND roll").branches[0].nodes == (Text("rock \\AND roll"),)


def test_a_bracket_that_fits_nothing_makes_text_of_those_around_it() -> None:
    assert text_per_step(parse("[a (b] c:d:1] [e:f:1]").branches[0].nodes, 2) == [
        "[a (b] c:d:1] e",
        "[a (b] c:d:1] f",
    ]


def test_empty_alternatives_and_changes_of_weight() -> None:
    assert text_per_step(parse("a [|b]").branches[0].nodes, 3) == ["a ", "a b", "a "]
    assert text_per_step(parse("(a:[1.2|0.8])").branches[0].nodes, 2) == ["(a:1.2)", "(a:0.8)"]
    assert text_per_step(parse("[a:b:-3]").branches[0].nodes, 1) == ["b"]
    assert stretches(parse("[a:b:0.29]").branches[0].nodes, 100) == [(28, "a"), (100, "b")]  # 0.29 * 100 < 29


def test_a_number_too_large_for_arithmetic_is_a_large_number() -> None:
    (branch,) = parse("[a:b:" + "9" * 400 + "]").branches
    assert branch.nodes == (Edit((Text("a"),), (Text("b"),), LARGEST),)


def test_adapters_are_data_and_no_words() -> None:
    lora = "<lora:one:0.5:0.7:16>"
    tree = parse(f"(a {lora}:1.2) [b:<lyco:two>:3] <hypernet:net:te=0.2:unet=0.4> embedding:bad-hands {lora}")
    assert [(each.kind, each.name, each.text_weight, each.network_weight) for each in tree.adapters] == [
        ("lora", "one", 0.5, 0.7),
        ("lyco", "two", 1.0, 1.0),
        ("hypernet", "net", 0.2, 0.4),
        ("embedding", "bad-hands", 1.0, 1.0),
    ]
    assert text_per_step(tree.branches[0].nodes, 1) == ["(a :1.2) b  embedding:bad-hands "]


def test_a_weight_with_nothing_beside_it_is_words() -> None:
    clock, joined = parse("a clock at 12 : 30 "), parse("a clock AND 12:30")
    assert (clock.branches[0].weight, [branch.weight for branch in joined.drawn]) == (30, [1, 30])
    assert text_per_step(clock.drawn[0].nodes, 1) == ["a clock at 12 : 30"]


def test_a_negative_prompt_has_no_branches() -> None:
    assert str(parse("a AND b :0.5", compose=False)) == "a AND b :0.5"
    assert len(parse("a AND b :0.5", compose=False).branches) == 1
    assert parse("sANDwich AND sea").branches[0].nodes == (Text("sANDwich"),)
