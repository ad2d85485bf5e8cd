"""The scene prior: what it drafts, what it decides, and what it hands on."""

from dataclasses import replace
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.nets.composer import OUTLINE, Autoencoding, Composer, Things
from sfumato.nets.layout import ARRANGEMENTS, Group, Region, filling
from sfumato.nets.prior import Named, ScenePrior, Underlay, Understood, Words, decided
from sfumato.nets.reader import Phrases, Reading
from sfumato.spec import PriorConfig

CFG = PriorConfig(
    concepts=5, styles=3, code=8, attributes=4, latent_channels=3, side=16, text_dim=12, reader=8, reader_layers=1,
    reader_heads=2,
)  # fmt: skip
PLAIN = Autoencoding(lambda pixels: F.avg_pool2d(pixels, 2), lambda latents: F.interpolate(latents, scale_factor=2), 2)
BLUE, GREEN = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0])
SIZE = 16, 16


class Whole(nn.Module):
    """Cuts out the left and upper half of what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        alpha = torch.zeros_like(x[:, :1])
        side = x.shape[-1]
        alpha[..., : side // 2, : side // 2] = 1
        return torch.cat([x * alpha, alpha], 1)


@pytest.fixture
def composer() -> Composer:
    torch.manual_seed(0)
    net = Composer(CFG).requires_grad_(False)
    net.cutter = Whole()
    net.basis.weight.zero_()
    net.basis.bias.view(3, -1).copy_(torch.tensor([1.0, -1.0, -1.0])[:, None])  # all things are red
    net.ground_colours[3], net.tint_colours[2] = BLUE, GREEN
    return net


def things(*spots: tuple[float, float, float, float, bool], ground: int = CFG.grounds - 1) -> Things:
    n = len(spots)
    codes = torch.randn(1, 6, CFG.code, generator=torch.Generator().manual_seed(1))
    present = torch.arange(6)[None] < n
    spot = torch.tensor([[0.5, 0.5, 1.0, 0.0, 0.0]]).repeat(1, 6, 1)
    for k, values in enumerate(spots):
        spot[0, k] = torch.tensor([float(value) for value in values])
    return Things(
        codes * present[..., None], torch.zeros(1, 6, dtype=torch.long), spot, present, torch.tensor([ground])
    )


def colour(draft: Tensor, x: float, y: float) -> list[float]:
    """The RGB of a place in a draft, from 0 to 1."""
    return ((draft[0, :, int(y * draft.shape[2]), int(x * draft.shape[3])] + 1) / 2).tolist()


RED, WHITE = [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]


def test_a_thing_lies_where_its_spot_says(composer):
    draft = composer.drafted(things((0.5, 0.5, OUTLINE, 0, False)), *SIZE, PLAIN)
    assert colour(draft, 0.2, 0.2) == pytest.approx(RED, abs=0.01)
    assert colour(draft, 0.8, 0.2) == colour(draft, 0.2, 0.8) == WHITE
    small = composer.drafted(things((0.75, 0.75, OUTLINE / 2, 0, False)), *SIZE, PLAIN)
    assert colour(small, 0.6, 0.6) == pytest.approx(RED, abs=0.01) and colour(small, 0.4, 0.6) == WHITE


def test_a_draft_turns_and_mirrors_its_thing(composer):
    plain = composer.drafted(things((0.5, 0.5, OUTLINE, 0, False)), *SIZE, PLAIN)
    upside = composer.drafted(things((0.5, 0.5, OUTLINE, 180, False)), *SIZE, PLAIN)
    mirrored = composer.drafted(things((0.5, 0.5, OUTLINE, 0, True)), *SIZE, PLAIN)
    quarter = composer.drafted(things((0.5, 0.5, OUTLINE, 90, False)), *SIZE, PLAIN)
    assert torch.allclose(upside, plain.flip(2, 3), atol=1e-4)
    assert torch.allclose(mirrored, plain.flip(3), atol=1e-4)
    assert torch.allclose(quarter, plain.rot90(-1, (2, 3)), atol=1e-4), "clockwise"


def test_the_first_thing_is_in_front_and_each_has_its_tint(composer):
    scene = things((0.5, 0.5, OUTLINE, 0, False), (0.5, 0.5, OUTLINE, 0, False), ground=3)
    scene.tint[0, 0] = 2
    draft = composer.drafted(scene, *SIZE, PLAIN)
    assert colour(draft, 0.2, 0.2) == pytest.approx(GREEN.tolist(), abs=0.01)
    assert colour(draft, 0.8, 0.8) == BLUE.tolist()


def test_what_is_drawn_on_stays_where_no_thing_is(composer):
    picture = torch.randn(1, 3, 16, 24)
    draft = composer.drafted(things((0.25, 0.5, 0.5, 0, False)), 16, 24, PLAIN, picture)
    assert torch.equal(draft[..., 13:], picture[..., 13:]) and not torch.equal(draft[..., :12], picture[..., :12])


def test_of_nothing_nothing_is_told(composer):
    scene = things((0.5, 0.5, 0.9, 0, False)).dropped(torch.tensor([True]), CFG.grounds)
    composer.unknown.copy_(torch.tensor([1.0, 2.0, 3.0]))
    cond = composer(scene, composer.drafted(scene, *SIZE, PLAIN))
    assert not scene.present.any() and int(scene.ground) == CFG.grounds
    assert torch.equal(cond.tokens[:, 0], cond.tokens[:, 1]), "absent things are alike"
    assert cond.tokens.shape == (1, 7, 12) and cond.pooled.shape == (1, 12)
    assert cond.concat[0, :, 3, 5].tolist() == [1, 2, 3]


def reading(**chosen) -> Reading:
    """Logits that choose these places, and else the first."""
    sizes = {"arrangement": (5,), "place": (5,), "style": (4,), "ground": (22,), "concept": (4, 5), "count": (4, 7),
             "tint": (4, 8), "size": (4, 3), "pose": (4, 4)}  # fmt: skip
    logits = {name: torch.zeros(1, *size) for name, size in sizes.items()}
    for name, value in chosen.items():
        places = torch.tensor(value)[..., None]
        logits[name][0].scatter_(-1, places if logits[name].dim() == 3 else places.view(1), 5.0)
    return Reading(**logits)


ALL = torch.ones(5, 3, dtype=torch.bool)


def test_a_reading_becomes_a_request():
    found = decided(
        reading(arrangement=ARRANGEMENTS.index("left"), style=3, ground=21, concept=[2, 4, 0, 0], count=[2, 1, 0, 0],
                tint=[0, 3, 0, 0], size=[1, 0, 0, 0], pose=[0, 2, 0, 0]), CFG, ALL)  # fmt: skip
    assert found == Understood(
        (Named(2, 0, Group(2, "small")), Named(4, 3, Group(1, pose="mirrored"))), "left", None, None, 21
    )


def test_a_reading_is_made_consistent():
    many = decided(reading(arrangement=ARRANGEMENTS.index("left"), count=[5, 4, 0, 0]), CFG, ALL)
    assert sum(thing.group.count for thing in many.things) == 6
    unknown = decided(reading(concept=[3, 0, 0, 0], count=[1, 0, 0, 0]), CFG, ALL & (torch.arange(5) != 3)[:, None])
    assert unknown.things[0].concept != 3, "what has no picture is not drawn"
    nothing = decided(reading(count=[0, 0, 0, 0], ground=21), CFG, ALL)
    assert nothing.things == () and nothing.ground == CFG.grounds
    assert decided(reading(count=[0, 0, 0, 0], ground=4), CFG, ALL).ground == 4


def test_what_goes_together_decides_the_arrangement():
    left = ARRANGEMENTS.index("left")
    alone = reading(count=[1, 0, 0, 0], place=2)
    alone.arrangement[0, left] = 5.5
    assert decided(alone, CFG, ALL).arrangement == "one", "one group that has a place"
    pair = reading(arrangement=ARRANGEMENTS.index("one"), concept=[1, 2, 0, 0], count=[1, 1, 0, 0])
    pair.arrangement[0, left] = 4.5
    assert decided(pair, CFG, ALL).arrangement == "left", "two groups"
    row = ARRANGEMENTS.index("row")
    assert len(decided(reading(arrangement=row, concept=[0, 1, 2, 3], count=[1, 1, 1, 0]), CFG, ALL).things) == 3
    assert len(decided(reading(arrangement=row, concept=[0, 1, 2, 3], count=[1, 1, 1, 1]), CFG, ALL).things) == 4


@pytest.fixture
def prior() -> ScenePrior:
    torch.manual_seed(0)
    net = ScenePrior(CFG)
    net.memory.codes.normal_()
    net.memory.known.fill_(1)
    return net.eval()


def words(count: int = 4) -> Words:
    generator = torch.Generator().manual_seed(0)
    states, embeddings = (torch.randn(1, count, 12, generator=generator) for _ in range(2))
    return Words(states, embeddings, torch.ones(1, count), "", (0,) * count)


def test_a_seed_lays_out_always_alike_and_seeds_differ(prior):
    prior.reader.group["count"].bias.data[:] = torch.tensor([-9, 9, -9, -9, -9, -9, -9.0])
    first, again, other = (prior(words(), Random(seed), *SIZE, PLAIN) for seed in (1, 1, 2))
    assert torch.equal(first.concat, again.concat) and not torch.equal(first.concat, other.concat)


def test_a_word_without_weight_is_not_read(prior):
    some = words()
    muted = replace(some, weights=torch.tensor([[1.0, 1, 0, 1]]))
    states = some.states.clone()
    states[:, 2] = 7.0
    none = Phrases.of([prior.lexicon.find("", some.lengths)])
    first, second = (prior.reader(one, some.embeddings, muted.weights, none).concept for one in (some.states, states))
    heard = prior.reader(states, some.embeddings, some.weights, none).concept
    assert torch.equal(first, second) and not torch.equal(first, heard)


def test_things_go_into_a_region_and_stand_on_its_ground(prior):
    prior.reader.group["count"].bias.data[:] = torch.tensor([-9, 9, -9, -9, -9, -9, -9.0])
    prior.reader.whole["ground"].bias.data[CFG.grounds - 1] = 99
    prior.composer.ground_colours[3] = BLUE
    plain = (2 * BLUE - 1).view(1, 3, 1, 1).expand(1, 3, *SIZE)
    given = Underlay(plain, Region(0.75, 0.5, 0.5, 1.0))
    cond = prior(words(), Random(0), *SIZE, PLAIN, given)
    assert prior.composer.nearest_ground(plain) == 3
    assert torch.equal(cond.concat[..., :4], given.latents[..., :4]), "far from the region all is as given"


def test_a_prompt_that_names_nothing_draws_the_ground_where_the_picture_goes_on(prior):
    prior.reader.group["count"].bias.data[:] = torch.tensor([9, -9, -9, -9, -9, -9, -9.0])
    prior.reader.whole["ground"].bias.data[CFG.grounds - 1] = 99
    picture, region = torch.randn(1, 3, *SIZE), Region(0.75, 0.5, 0.5, 1.0)
    on, off = (
        prior(words(), Random(0), *SIZE, PLAIN, Underlay(picture, region, goes_on=goes_on)) for goes_on in (True, False)
    )
    assert torch.allclose(on.concat, picture)
    assert torch.equal(off.concat, prior.nothing(*SIZE).concat) and not torch.allclose(off.concat, on.concat)


def test_unsaid_styles_are_those_that_all_things_have(prior):
    prior.memory.known.copy_(torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 0, 0]]))
    assert prior.memory.styles_of([0, 1]) == [1] and prior.memory.styles_of([0, 2]) == [0, 1]


def test_a_draft_goes_on_from_a_picture_as_far_as_the_strength_says(prior):
    prior.reader.group["count"].bias.data[:] = torch.tensor([-9, 9, -9, -9, -9, -9, -9.0])
    picture = torch.randn(1, 3, *SIZE)
    own, half, none = (
        prior(words(), Random(0), *SIZE, PLAIN, None if strength == 1 else Underlay(picture, strength=strength)).concat
        for strength in (1, 0.5, 0)
    )
    assert torch.allclose(none, picture) and torch.allclose(half, (own + picture) / 2, atol=1e-6)


def test_things_fill_a_region_on_a_ground_of_their_own(prior):
    prior.reader.group["count"].bias.data[:] = torch.tensor([-9, 9, -9, -9, -9, -9, -9.0])
    prior.reader.whole["ground"].bias.data[3] = 99
    prior.composer.ground_colours[3] = BLUE
    region = Region(0.75, 0.5, 0.5, 0.5)
    told = prior.things([Understood((Named(0),), "one", None, 0, 3)], [Random(0)], fitted=lambda s: filling(s, region))
    assert told.spot[0, 0, :3].tolist() == pytest.approx([0.75, 0.5, 0.5])
    cond = prior(words(), Random(0), *SIZE, PLAIN, region)
    left, right = cond.concat[..., : SIZE[1] // 4], cond.concat[..., SIZE[1] // 2 :]
    assert left.std((2, 3)).max() < 1e-5 < right.std((2, 3)).max(), "nothing lies outside"
