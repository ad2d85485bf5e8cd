"""Pictures near a picture: its noise turned towards that of another seed."""

import pytest
import torch

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion.rng import NoiseStream, slerp
from sfumato.errors import SfumatoError
from sfumato.pipeline.sampling import centred
from sfumato.provenance import infotext

SMALL = {"steps": 4, "width": 16, "height": 16, "watermark": False}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def test_slerp_keeps_the_variance_and_moves_by_the_angle() -> None:
    a, b = (NoiseStream(seed, (1, 4, 64, 64)).normal() for seed in (1, 2))
    assert torch.equal(slerp(a, b, 0), a)
    assert torch.allclose(slerp(a, b, 1), b, atol=1e-6)
    for share in (0.2, 0.5, 0.8):
        between = slerp(a, b, share)
        assert between.std().item() == pytest.approx(1, abs=0.01)
        cosine = torch.nn.functional.cosine_similarity(a.flatten(), between.flatten(), 0)
        assert cosine.acos().item() == pytest.approx(share * torch.pi / 2, abs=0.03)
    assert torch.equal(slerp(a, a, 0.5), a)


def test_from_one_seed_to_another(sd: StableDiffusion) -> None:
    (first,), (second,) = (sd.txt2img("a cat", seed=seed, **SMALL).images for seed in (3, 9))
    there = [
        sd.txt2img("a cat", seed=3, variation_seed=9, variation_strength=share, **SMALL).images[0]
        for share in (1e-6, 0.5, 1)
    ]
    assert there[0] == first and there[2] == second and there[1] not in (first, second)


def test_more_variations_have_one_seed_and_rising_variation_seeds(sd: StableDiffusion) -> None:
    drawn = sd.txt2img("a cat", seed=3, variation_seed=9, variation_strength=0.3, n=3, **SMALL)
    assert drawn.seeds == [3, 3, 3]
    fields = [infotext.parse(text)[2] for text in drawn.infotexts]
    assert [each["Variation seed"] for each in fields] == ["9", "10", "11"]
    assert {each["Variation seed strength"] for each in fields} == {"0.3"}
    alone = sd.txt2img("a cat", seed=3, variation_seed=11, variation_strength=0.3, **SMALL)
    assert alone.images[0] == drawn.images[2]


def test_without_variation_nothing_is_said_of_it(sd: StableDiffusion) -> None:
    assert "Variation" not in sd.txt2img("a cat", seed=3, variation_strength=0, **SMALL).infotexts[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variation_strength": 1.5}, "variation_strength is 1.5; choose a number from 0 to 1"),
        ({"variation_strength": float("nan")}, "from 0 to 1"),
        ({"variation_seed": 4}, "changes nothing"),
        ({"variation_seed": 2**64, "variation_strength": 0.5}, "variation_seed is 18446744073709551616"),
    ],
)
def test_bad_options_are_refused(sd: StableDiffusion, options: dict[str, float], words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        sd.txt2img("a cat", **options, **SMALL)


def test_noise_of_another_size_lies_in_the_middle(sd: StableDiffusion) -> None:
    large = torch.zeros(1, 1, 5, 6)
    assert centred(torch.ones(1, 1, 2, 3), large)[0, 0].nonzero().tolist() == [
        [y, x] for y in (1, 2) for x in (1, 2, 3)
    ]
    cut = centred(torch.arange(21.0).view(1, 1, 3, 7), large)[0, 0]
    assert (
        cut[1:4, :5].tolist() == [[1, 2, 3, 4, 5], [8, 9, 10, 11, 12], [15, 16, 17, 18, 19]]
        and cut.count_nonzero() == 15
    )
    same = sd.txt2img("a cat", seed=3, seed_resize=(16, 16), **SMALL)
    assert same.images[0] == sd.txt2img("a cat", seed=3, **SMALL).images[0]
    other = sd.txt2img("a cat", seed=3, seed_resize=(8, 8), **SMALL)
    assert other.images[0] != same.images[0]
    assert infotext.parse(other.infotexts[0])[2]["Seed resize from"] == "8x8"
