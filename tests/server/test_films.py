"""The steps of pictures that are kept, to be gone through again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sfumato.server import films
from sfumato.server.films import Films
from sfumato.server.watchers import JobEvent


def tell(films: Films, job: str, steps: int, attention: bool = True, end: str = "done") -> None:
    for step in range(1, steps + 1):
        for picture in (0, 1):
            seen = {"picture": picture, "step": step, "words": ["a"], "shares": [1.0]}
            if attention:
                films.tell(JobEvent("report", job, {"attention": seen}))
            films.tell(JobEvent("progress", job, {"picture": picture, "step": step}, bytes([step])))
    films.tell(JobEvent(end, job))


def test_steps_of_the_first_picture_are_kept_where_attention_was_asked_for(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        kept = Films(tmp_path / "films", executor)
        tell(kept, "seen", 3)
        tell(kept, "unseen", 3, attention=False)
        tell(kept, "again", 2, end="queued")
    assert kept.jobs() == ["seen"] and kept.frames("unseen") == kept.frames("again") == []
    frames = kept.frames("seen")
    assert [(one["step"], one["attention"]["step"]) for one in frames] == [(1, 1), (2, 2), (3, 3)]
    assert {one["preview"] for one in frames} == {f"data:image/jpeg;base64,{end}" for end in ("AQ==", "Ag==", "Aw==")}
    kept.forget("seen")
    assert kept.jobs() == []


def test_only_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films, "MOST", 2)
    with ThreadPoolExecutor(1) as executor:
        kept = Films(tmp_path, executor)
        for job in "abc":
            tell(kept, job, 1)
    assert len(kept.jobs()) == 2 and "c" in kept.jobs()
