"""The entropy coder and the file, without any network."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sfumato.codec.arithmetic import Bit, Decoder, Encoder
from sfumato.codec.file import Compressed
from sfumato.codec.symbols import pack, unpack
from sfumato.errors import SfumatoError

PICTURE = Compressed(0xDEADBEEF, 640, 480, 0.5, "ein rotes Herz ♥", b"\x01\x02")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=400))
def test_bits_come_back(bits: list[tuple[int, bool]]) -> None:
    encoder, models = Encoder(), [Bit(), Bit(), Bit()]
    for place, bit in bits:
        encoder.code(models[place], bit)
    decoder, models = Decoder(encoder.finish()), [Bit(), Bit(), Bit()]
    assert [bool(decoder.code(models[place])) for place, _ in bits] == [bit for _, bit in bits]


def test_the_code_comes_near_the_entropy() -> None:
    for chance in (0.01, 0.1, 0.5):
        bits = np.random.default_rng(0).random(20_000) < chance
        encoder, model = Encoder(), Bit()
        for bit in bits:
            encoder.code(model, int(bit))
        entropy = -(chance * np.log2(chance) + (1 - chance) * np.log2(1 - chance))
        assert 8 * len(encoder.finish()) / len(bits) == pytest.approx(entropy, rel=0.06, abs=0.01)


@settings(max_examples=40)
@given(
    arrays.arrays(
        np.int64,
        st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
        elements=st.one_of(st.integers(-3, 3), st.integers(-(2**30), 2**30)),
    )
)
def test_numbers_come_back(symbols: np.ndarray) -> None:
    assert np.array_equal(unpack(pack(symbols), symbols.shape), symbols)


def test_likely_numbers_cost_less() -> None:
    noise = np.random.default_rng(0).normal(size=(4, 16, 16))
    sizes = [len(pack((scale * noise).round().astype(int))) for scale in (0, 0.3, 1, 4)]
    assert sizes == sorted(sizes) and sizes[0] < 10
    counts = np.unique(noise.round(), return_counts=True)[1] / noise.size
    assert sizes[2] < 1.1 * noise.size * -(counts * np.log2(counts)).sum() / 8


def test_any_bytes_are_some_numbers() -> None:
    for data in (b"", b"\xff" * 50, bytes(range(256))):
        assert unpack(data, (2, 5, 3)).shape == (2, 5, 3)


def test_the_file_comes_back() -> None:
    assert Compressed.from_bytes(PICTURE.to_bytes()) == PICTURE


def test_every_damage_is_found() -> None:
    data = PICTURE.to_bytes()
    for place in range(len(data)):
        with pytest.raises(SfumatoError, match="compressed picture"):
            Compressed.from_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(SfumatoError, match="compressed picture"):
            Compressed.from_bytes(data[:place])


def test_a_long_prompt_is_refused() -> None:
    with pytest.raises(SfumatoError, match="256 bytes; a compressed picture holds up to 255"):
        Compressed(1, 8, 8, 1.0, "x" * 256, b"").to_bytes()
