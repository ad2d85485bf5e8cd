import numpy as np

from sfumato.seeding import shuffled, stream


def test_streams_repeat_and_differ_by_every_argument():
    draws = {
        args: tuple(stream(*args).integers(2**62, size=4))
        for args in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    }
    assert len(set(draws.values())) == 4
    assert draws[0, "a", 1] == tuple(stream(0, "a", 1).integers(2**62, size=4))


def test_long_draws_of_neighbouring_steps_do_not_overlap():
    first, second = (stream(0, "a", step).integers(2**62, size=20_000) for step in (0, 1))
    assert not np.intersect1d(first, second).size


def test_every_epoch_has_every_entry_once_however_it_is_cut():
    whole = shuffled(3, "x", 0, 35, 10)
    pieces = np.concatenate([shuffled(3, "x", start, 7, 10) for start in range(0, 35, 7)])
    assert (whole == pieces).all()
    for epoch in range(3):
        assert sorted(whole[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert (whole[:10] != whole[10:20]).any()
