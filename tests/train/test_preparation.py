"""What runs make before their first step is kept, and made again only where it lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.train.preparation import prepared


class Rows:
    """Makes rows that hold their own numbers; the user stops it in the chunk that begins at `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.made: list[range] = []
        self.stop = stop

    def __call__(self, numbers: range) -> dict[str, torch.Tensor]:
        if numbers.start == self.stop:
            raise KeyboardInterrupt
        self.made.append(numbers)
        return {"number": torch.tensor(numbers), "square": torch.tensor(numbers)[:, None] ** 2}


def test_rows_are_made_once(tmp_path: Path) -> None:
    rows = Rows()
    first, again = (prepared(tmp_path, 10, rows, 4, "rows") for _ in range(2))
    assert rows.made == [range(0, 4), range(4, 8), range(8, 10)]
    for found in (first, again):
        assert found["number"].tolist() == list(range(10)) and found["square"].shape == (10, 1)


def test_a_stopped_preparation_goes_on_after_its_last_whole_chunk(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, 10, Rows(stop=8), 4, "rows")
    rows = Rows()
    assert prepared(tmp_path, 10, rows, 4, "rows")["number"].tolist() == list(range(10))
    assert rows.made == [range(8, 10)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00000.safetensors",
        "00001.safetensors",
        "00002-2.safetensors",
    ]


def test_more_rows_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    prepared(tmp_path, 6, Rows(), 4, "rows")
    rows = Rows()
    assert prepared(tmp_path, 9, rows, 4, "rows")["number"].tolist() == list(range(9))
    assert rows.made == [range(4, 8), range(8, 9)]


def test_progress_is_shown_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, 3, Rows(), 4, "encode pictures")
    out, err = capsys.readouterr()
    assert out == "" and err == "encode pictures 3/3\n"
    prepared(tmp_path, 3, Rows(), 4, "encode pictures")
    assert capsys.readouterr().err == "", "nothing had to be made"
