"""The lexicon's phrases, the tokens that they cover, and the things that the reader gives them to."""

import torch
import torch.nn.functional as F

from sfumato.nets.lexicon import NOTHING, Lexicon
from sfumato.nets.reader import Phrases, Reader, value_count, value_ranges
from sfumato.spec import PriorConfig
from sfumato.text.tokenizer import CLIPTokenizer

CAT, DOG, HOT_DOG, APPLE = range(4)
SAID = [
    ("cat", CAT, True), ("dog", DOG, True), ("hot dog", HOT_DOG, True), ("苹果", APPLE, True), ("แอปเปิล", APPLE, True),
    ("fruit", APPLE, False), ("pet", CAT, False), ("pet", DOG, False),
]  # fmt: skip
CFG = PriorConfig(
    concepts=4, styles=2, code=4, attributes=4, latent_channels=2, side=4, text_dim=32, reader=32,
    reader_layers=2, reader_heads=2, phrases=len(SAID),
)  # fmt: skip


def lexicon() -> Lexicon:
    return Lexicon.of(SAID, 4, value_count(CFG))


def test_the_longest_phrase_is_found_and_none_inside_a_word():
    found = lexicon().find("a hot dog, concatenated", [1, 3, 3, 1, 12])
    assert found.scores.shape == (1, 4) and found.scores.argmax() == HOT_DOG
    assert found.tokens.tolist() == [[0, 1, 1, 0, 0]]


def test_a_name_tells_more_than_a_keyword_and_that_more_than_a_shared_one():
    def told(text: str) -> float:
        return lexicon().find(text, [len(text)]).scores.max().item()

    assert told("cat") > told("fruit") > told("pet") > 0


def test_declined_words_are_compared_by_their_stems():
    table = Lexicon.of([("кіт", CAT, True), ("зірка", APPLE, True), ("хом’як", DOG, True)], 4)
    for text, concept in {
        "над котом": CAT, "п'ять котів": CAT, "багато зірок": APPLE, "зіркою": APPLE, "хом'яка": DOG, "хомʼяки": DOG,
    }.items():  # fmt: skip
        assert table.find(text, [len(text)]).scores.argmax() == concept, text
    assert not len(table.find("китом", [5]).named)


def test_a_phrase_is_kept_once_for_each_thing():
    table = Lexicon.of([("кіт", CAT, False), ("кота", CAT, True), ("кіт", DOG, False)], 4)
    assert len(table.entries) == 2 and table.find("кіт", [3]).named.tolist() == [1]


def test_words_that_name_nothing_keep_names_out_of_themselves():
    table = Lexicon.of([("ลา", DOG, True), ("แมว", CAT, True), ("หลาย", NOTHING, False)], 4)
    found = table.find("แมวหลายตัว", [len("แมวหลายตัว".encode())])
    assert found.scores.shape == (1, 4) and found.scores.argmax() == CAT
    assert table.find("ลาหลายตัว", [24]).scores.argmax() == DOG


def test_english_plurals_are_compared_without_their_s():
    table = Lexicon.of([("bee", CAT, False), ("fox", DOG, True), ("glass", APPLE, True)], 4)
    for text, concept in {"three bees": CAT, "Foxes!": DOG, "two glasses": APPLE, "glass": APPLE}.items():
        assert table.find(text, [len(text)]).scores.argmax() == concept, text


def test_phrases_cover_their_tokens_in_every_script():
    tokenizer = CLIPTokenizer.openai()
    for text, phrase in {"画一个苹果和 dog": "苹果", "วาดแอปเปิลสีแดง": "แอปเปิล", "A Hot  Dog!": "hotdog"}.items():
        ids = tokenizer([text])[0].tolist()
        lengths = tokenizer.byte_lengths(ids)
        assert sum(lengths) == len("".join(text.split()).encode())
        found = lexicon().find(text, lengths)
        best = int(found.tokens.sum(1).argmax())
        covered = [k for k, inside in enumerate(found.tokens[best].tolist()) if inside]
        assert phrase in "".join(tokenizer.decode(ids[covered[0] : covered[-1] + 1]).split())


def test_tokens_of_another_length_than_the_text_are_scaled():
    found = lexicon().find("cat dog", [0, 6, 6, 0])
    assert sorted(found.tokens.tolist()) == [[0, 0, 1, 0], [0, 1, 0, 0]]


def test_texts_with_fewer_phrases_and_tokens_are_padded():
    found = [lexicon().find("cat dog", [3, 3]), lexicon().find("tree", [4])]
    phrases = Phrases.of(found)
    assert phrases.tokens.shape == (2, 2, 2) and phrases.scores.shape == (2, 2, 4)
    assert not phrases.tokens[1].any() and not phrases.scores[1].any()
    marks = phrases.marks(value_ranges(CFG))
    assert marks[0, :, :3].tolist() == [[1, 0, 1], [1, 0, 1]] and not marks[1].any()


def test_the_reader_learns_which_thing_each_phrase_belongs_to():
    """From the order of words alone, for concepts that it never saw in this order."""
    torch.manual_seed(0)
    reader, words = Reader(CFG), torch.randn(3, 32)  # the states of a first, a second and another word
    adam = torch.optim.Adam(reader.parameters(), 3e-3)
    names = ("cat", "dog", "fruit")

    def read(first: str, second: str) -> torch.Tensor:
        text = f"{first} near {second}"
        found = Phrases.of([lexicon().find(text, [len(word) for word in text.split()])])
        states = torch.stack([words[0], words[2], words[1]])[None]
        return reader(states, states, torch.ones(1, 3), found).concept[0, :2]

    pairs = [(a, b) for a in names for b in names if a != b and (a, b) != ("dog", "cat")]
    for step in range(120):
        first, second = pairs[step % len(pairs)]
        labels = torch.tensor([{"cat": CAT, "dog": DOG, "fruit": APPLE}[name] for name in (first, second)])
        loss = F.cross_entropy(read(first, second), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert read("dog", "cat").argmax(-1).tolist() == [DOG, CAT]


def test_a_phrase_of_no_weight_does_not_count():
    torch.manual_seed(0)
    reader, states = Reader(CFG), torch.randn(1, 2, 32)
    found = Phrases.of([lexicon().find("cat tree", [3, 4])])
    none = Phrases.of([lexicon().find("bush tree", [4, 4])])
    heard, muted = (reader(states, states, torch.tensor([[w, 1.0]]), found).concept for w in (1.0, 0.0))
    assert heard[0, :, CAT].sum() > reader(states, states, torch.ones(1, 2), none).concept[0, :, CAT].sum()
    assert torch.allclose(muted, reader(states, states, torch.tensor([[0.0, 1.0]]), none).concept, atol=1e-5)


RED = value_ranges(CFG)["tint"].start
SMALL = value_ranges(CFG)["size"].start


def with_values() -> Lexicon:
    return Lexicon.of([*SAID, ("red", 4 + RED, False), ("tiny", 4 + SMALL, False)], 4, value_count(CFG))


def test_a_phrase_for_a_value_is_no_keyword():
    found = with_values().find("red cat", [3, 3])
    assert found.values[0].nonzero().flatten().tolist() == [RED] and not found.scores[0].any()
    marks = Phrases.of([found]).marks(value_ranges(CFG))[0]
    assert marks[:, :3].tolist() == [[0, 0, 1], [1, 0, 1]]
    assert marks[:, 3:].sum(1).tolist() == [1, 0]


def test_phrases_come_in_the_order_of_the_text():
    found = with_values().find("tiny hot dog, red cat", [4, 3, 3, 1, 3, 3])
    assert found.tokens.argmax(1).tolist() == [0, 1, 4, 5]
    further = found.with_names([torch.tensor([0.0, 0, 0, 1, 0, 0])])
    assert further.tokens.argmax(1).tolist() == [0, 1, 3, 4, 5] and further.named.tolist() == [0, 1, 1, 0, 1]


def test_a_value_belongs_to_the_thing_beside_it():
    """To the one before, the one after, or the picture; what names no thing is passed over."""
    torch.manual_seed(0)
    reader, states = Reader(CFG).eval(), torch.randn(1, 4, 32)
    found = Phrases.of([with_values().find("cat red tiny dog", [3, 3, 4, 3])])
    with torch.no_grad():
        reader.unowned.weight.zero_()
        reader.unowned.bias.fill_(-9)  # every name belongs to some group
        reader.sides.weight.zero_()

        def shares(side: int) -> tuple[torch.Tensor, torch.Tensor]:
            reader.sides.bias.copy_(torch.tensor([99.0 if k == side else 0.0 for k in range(4)]))
            (named, beside), whole = reader._owners(torch.randn(1, 4, 32), states, found, torch.ones(1, 4))
            return torch.stack([named[0], beside[0]]), whole[0]

        torch.manual_seed(1)
        (names, before), none = shares(0)
        assert torch.allclose(before[1], names[0], atol=1e-3) and torch.allclose(before[2], names[0], atol=1e-3)
        assert none.max() < 1e-6
        (names, after), _ = shares(1)
        assert torch.allclose(after[1], names[3], atol=1e-3) and torch.allclose(after[2], names[3], atol=1e-3)
        (_, beside), whole = shares(2)
        assert beside.max() < 1e-6 and whole.min() > 0.99


def test_a_value_adds_to_its_own_field_alone():
    torch.manual_seed(0)
    reader, states = Reader(CFG).eval(), torch.zeros(1, 2, 32)
    with torch.no_grad():
        reader.from_marks.weight.zero_()
        reader.unowned.bias.fill_(-9)
        reader.sides.bias.copy_(torch.tensor([0.0, 99.0, 0.0, 0.0]))
        red, tiny = (
            reader(states, states, torch.ones(1, 2), Phrases.of([with_values().find(text, [4, 3])]))
            for text in ("red cat", "tiny cat")
        )
    assert (red.tint - tiny.tint)[0, :, 1].sum() > 1 and torch.equal(red.tint[..., 2:], tiny.tint[..., 2:])
    assert (tiny.size - red.size)[0, :, 1].sum() > 1 and torch.equal(red.ground, tiny.ground)
