"""The random numbers of CUDA, by known values."""

import numpy as np
import pytest
import torch

import sfumato
from sfumato.diffusion.philox import normal, philox
from sfumato.diffusion.rng import NoiseStream
from sfumato.errors import SfumatoError
from sfumato.provenance import infotext


@pytest.mark.parametrize(
    ("counter", "seed", "words"),
    [  # known answers of Random123, whose key is the seed
        ([0] * 4, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ],
)
def test_known_answers(counter: list[int], seed: int, words: list[int]) -> None:
    assert philox(np.array(counter, np.uint64)[:, None], seed)[:, 0].tolist() == words


def test_the_first_numbers_of_a_gpu() -> None:
    """`torch.manual_seed(0); torch.randn(12, device="cuda")` as it prints."""
    on_cuda = [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655]
    assert normal(0, 0, 12).round(4).tolist() == np.float32(on_cuda).tolist()


def test_they_are_normal_and_every_draw_is_another() -> None:
    first, second = (normal(5, draw, 100_000) for draw in (0, 1))
    for numbers in (first, second):
        assert abs(numbers.mean()) < 0.01 and abs(numbers.std() - 1) < 0.01
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    stream = NoiseStream(5, (2, 3), source="nv")
    assert torch.equal(stream.normal(), torch.from_numpy(first[:6].reshape(2, 3)))
    assert torch.equal(stream(1.0, 0.5), torch.from_numpy(normal(5, 1, 6).reshape(2, 3)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="compares with a GPU")
def test_equal_to_this_gpu() -> None:
    generator = torch.Generator("cuda").manual_seed(7)
    stream = NoiseStream(7, (1, 4, 64, 64), source="nv")
    for _ in range(2):
        theirs = torch.randn(1, 4, 64, 64, device="cuda", generator=generator).cpu()
        assert torch.allclose(stream.normal(), theirs, atol=1e-5)


def test_a_picture_from_the_numbers_of_a_gpu(model: str) -> None:
    sd, small = sfumato.load(model), {"steps": 2, "seed": 3, "width": 16, "height": 16, "sampler": "Euler a"}
    drawn = [sd.txt2img("a cat", rng=rng, **small) for rng in ("cpu", "NV", "gpu")]
    assert drawn[0].images != drawn[1].images == drawn[2].images
    assert [infotext.parse(each.infotexts[0])[2]["RNG"] for each in drawn] == ["CPU", "NV", "NV"]
    with pytest.raises(SfumatoError, match="unknown rng 'dice'; choose one of cpu, nv"):
        sd.txt2img("a cat", rng="dice")
