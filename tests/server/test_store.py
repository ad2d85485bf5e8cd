"""The database of jobs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from sfumato.server.jobs.job import JobRequest, SavedPicture, State
from sfumato.server.jobs.store import KeyConflict, Reader, Store

REQUEST = JobRequest(prompt="a cat", options={"steps": 2})
PICTURE = SavedPicture(index=0, file="a/b.png", seed=2**64 - 1, infotext="a cat", width=64, height=32, score=0.5)


def test_what_is_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with Store(tmp_path / "jobs") as store:
        job, new = store.add(REQUEST, user="ann", dialect="api", priority=2, client={"id": 1})
        store.start(job.id)
        store.picture(job.id, PICTURE)
        store.picture(job.id, PICTURE)
    with Store(tmp_path / "jobs") as store:
        again = store.get(job.id)
    assert new and again.request == REQUEST and again.client == {"id": 1} and again.priority == 2
    assert again.state is State.RUNNING and again.attempts == 1 and again.pictures == (PICTURE,)


def test_jobs_run_again_after_a_crash_but_not_for_ever(tmp_path: Path) -> None:
    with Store(tmp_path / "jobs") as store:
        first, second, third = (store.add(REQUEST, user="", dialect="api")[0].id for _ in range(3))
        store.start(first)
        store.finish(third, State.DONE, report={"matches": []})
        again, given_up = store.recover()
        assert [one.id for one in again] == [first, second] and not given_up
        assert {one.state for one in again} == {State.QUEUED}
        for _ in range(8):
            store.start(first)
            assert not store.recover()[1]
        store.start(first)
        again, given_up = store.recover()
        assert [one.id for one in given_up] == [first] and "10 times" in str(given_up[0].error)
        assert store.get(third).report == {"matches": []}
        store.queue_again(first, fresh=True)
        assert store.get(first).attempts == 0 and store.get(first).error is None


def test_keys_belong_to_users(tmp_path: Path) -> None:
    with Store(tmp_path / "jobs") as store:
        mine = store.add(REQUEST, user="ann", dialect="api", key="k", body="1")[0]
        assert store.add(REQUEST, user="ann", dialect="api", key="k", body="1") == (mine, False)
        assert store.add(REQUEST, user="bob", dialect="api", key="k", body="2")[1]
        with pytest.raises(KeyConflict):
            store.add(REQUEST, user="ann", dialect="api", key="k", body="2")


def test_latest(tmp_path: Path) -> None:
    with Store(tmp_path / "jobs") as store:
        numbers = [store.add(REQUEST, user=user, dialect="api")[0].number for user in "aba"]
        assert [one.number for one in store.latest()] == numbers[::-1]
        assert [one.number for one in store.latest(user="a", before=numbers[2])] == [numbers[0]]
        store.finish(store.latest(1)[0].id, State.FAILED, "why")
        assert [one.error for one in store.latest(states=["failed"])] == ["why"]
        store.delete(one.id for one in store.latest(user="b"))
        assert len(store.latest()) == 2


def test_what_is_written_can_be_read_elsewhere_at_once(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    with Store(path) as store, closing(Reader(path)) as reader:
        job, _ = store.add(REQUEST, user="ada", dialect="api")
        assert reader.get(job.id) == job and reader.latest(user="ada") == [job]
        store.start(job.id)
        with store._transaction():  # a reader does not wait for it
            store._db.execute("update jobs set state = 'done'")
            assert reader.get(job.id).state is State.RUNNING
        assert reader.get(job.id).state is State.DONE
