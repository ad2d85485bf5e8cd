"""The database of jobs: SQLite, written so that every acknowledged job survives a crash."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from sfumato.errors import SfumatoError
from sfumato.server.jobs.gallery import Gallery
from sfumato.server.jobs.inputs import find_inputs
from sfumato.server.jobs.job import Job, JobRequest, SavedPicture, State

# A job during which its worker, or the whole server, died fails after so many starts. What cut one short is drawn alone
# afterwards, so that a worker's second death is the job's own doing; a server is mostly killed from outside.
MAX_STARTS = {"worker": 2, "server": 10}
TOO_OFTEN = "the {} died {} times while it drew this; try again, or ask for fewer or smaller pictures"
_SCHEMA = """
create table if not exists jobs (
    number integer primary key autoincrement, id text not null unique, user text not null, dialect text not null,
    kind text not null, request text not null, priority integer not null, state text not null,
    created real not null, started real, finished real, attempts integer not null default 0,
    error text, bad_input integer not null default 0, client text not null, report text not null default '{}',
    key text, key_body text
);
create unique index if not exists jobs_key on jobs (user, key) where key is not null;
create index if not exists jobs_state on jobs (state, number);
create table if not exists pictures (
    job text not null references jobs (id) on delete cascade, "index" integer not null, file text not null,
    seed text not null, infotext text not null, width integer not null, height integer not null, score real,
    primary key (job, "index")
);
create index if not exists pictures_file on pictures (file);
"""
_COLUMNS = (
    "number, id, user, dialect, request, priority, state, created, started, finished, attempts, error, bad_input, "
    "client, report"
)


class KeyConflict(SfumatoError):
    """An idempotency key that was used for a different request before."""


class Reader:
    """Reads jobs and their pictures, over a connection of its own, so that it need not wait for what is being written.

    Only one thread at a time may call its methods.
    """

    def __init__(self, path: Path):
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def get(self, job: str) -> Job:
        """Returns the job with an id. Raises KeyError if there is none."""
        found = self._jobs(f"select {_COLUMNS} from jobs where id = ?", (job,))
        if not found:
            raise KeyError(job)
        return found[0]

    def unfinished(self) -> list[Job]:
        """Returns queued and running jobs, in the order of their arrival."""
        return self._jobs(f"select {_COLUMNS} from jobs where state in ('queued', 'running') order by number")

    def latest(
        self, count: int = 50, before: int | None = None, user: str | None = None, states: Sequence[str] = ()
    ) -> list[Job]:
        """Returns jobs, newest first: of a user, in some states, and those that arrived before a number."""
        where, values = ["1"], list[Any]()
        for condition, value in (("number < ?", before), ("user = ?", user)):
            if value is not None:
                where.append(condition)
                values.append(value)
        if states:
            where.append(f"state in ({','.join('?' * len(states))})")
            values += states
        sql = f"select {_COLUMNS} from jobs where {' and '.join(where)} order by number desc limit ?"
        return self._jobs(sql, (*values, count))

    def _jobs(self, sql: str, values: Sequence[object] = ()) -> list[Job]:
        jobs = []
        for row in self._db.execute(sql, values).fetchall():
            number, id, user, dialect, request, priority, state, *times, attempts, error, bad, client, report = row
            created, started, finished = times
            jobs.append(
                Job(
                    id=id, number=number, user=user, dialect=dialect, request=JobRequest.of(json.loads(request)),
                    priority=priority, state=State(state), created=created, started=started, finished=finished,
                    attempts=attempts, error=error, bad_input=bool(bad), client=json.loads(client),
                    report=json.loads(report), pictures=self._pictures(id),
                )
            )  # fmt: skip
        return jobs

    def is_drawn(self, file: str, user: str) -> bool:
        """Returns whether a file is a picture of a job of a user."""
        found = self._db.execute(
            "select 1 from pictures p join jobs j on j.id = p.job where p.file = ? and j.user = ?", (file, user)
        )
        return found.fetchone() is not None

    def _pictures(self, job: str) -> tuple[SavedPicture, ...]:
        rows = self._db.execute(
            'select "index", file, seed, infotext, width, height, score from pictures where job = ? order by "index"',
            (job,),
        )
        return tuple(
            SavedPicture(index=row[0], file=row[1], seed=int(row[2]), infotext=row[3], width=row[4], height=row[5],
                         score=row[6])
            for row in rows
        )  # fmt: skip


class Store(Reader):
    """Jobs and their pictures. Only one process may open it, and only one thread at a time may call its methods."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path)
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = full")
        self._db.execute("pragma foreign_keys = on")
        self._db.executescript(_SCHEMA)
        self.gallery = Gallery(self._db)

    def add(
        self,
        request: JobRequest,
        *,
        user: str,
        dialect: str,
        priority: int = 0,
        client: Mapping[str, Any] | None = None,
        key: str | None = None,
        body: str | None = None,
    ) -> tuple[Job, bool]:
        """Adds a job; returns it, and whether it is new. With the `key` and `body` of an earlier job it is not.

        Raises KeyConflict for a key that was used with another body.
        """
        told = json.dumps(request.to_json())
        new = uuid.uuid4().hex
        with self._transaction():
            if key is not None:
                found = self._db.execute("select id, key_body from jobs where user = ? and key = ?", (user, key))
                if (row := found.fetchone()) is not None:
                    if row[1] != body:
                        raise KeyConflict("this Idempotency-Key came with another request before; send a new key")
                    return self.get(row[0]), False
            self._db.execute(
                "insert into jobs (id, user, dialect, kind, request, priority, state, created, client, key, key_body) "
                "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (new, user, dialect, request.kind, told, priority, State.QUEUED, time.time(),
                 json.dumps(dict(client or {})), key, body),
            )  # fmt: skip
        return self.get(new), True

    def inputs(self) -> set[str]:
        """Returns the names of all pictures that jobs use."""
        texts = self._db.execute("select request || client from jobs where request || client like '%input:%'")
        return {name for (text,) in texts for name in find_inputs(text)}

    def start(self, job: str) -> None:
        """Notes that a worker starts the job."""
        self._change(job, "state = 'running', started = coalesce(started, ?), attempts = attempts + 1", time.time())

    def picture(self, job: str, picture: SavedPicture) -> None:
        """Adds a finished picture of the job; one of the same index is replaced."""
        row = asdict(picture) | {"seed": str(picture.seed)}
        with self._transaction():
            self._db.execute(
                'insert or replace into pictures (job, "index", file, seed, infotext, width, height, score) '
                "values (?, ?, ?, ?, ?, ?, ?, ?)",
                (job, *(row[name] for name in ("index", "file", "seed", "infotext", "width", "height", "score"))),
            )

    def finish(
        self, job: str, state: State, error: str | None = None, bad_input: bool = False,
        report: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Notes that the job has ended."""
        self._change(
            job, "state = ?, finished = ?, error = ?, bad_input = ?, report = ?",
            state, time.time(), error, bad_input, json.dumps(dict(report or {})),
        )  # fmt: skip

    def queue_again(self, job: str, fresh: bool = False) -> None:
        """Queues the job again; with `fresh` as if it had never begun."""
        more = ", attempts = 0, started = null, finished = null, error = null" if fresh else ""
        self._change(job, "state = 'queued'" + more)

    def recover(self) -> tuple[list[Job], list[Job]]:
        """Takes up jobs after a crash; returns those to run again, and those that fail since they crashed too often."""
        again, given_up = [], []
        for job in self.unfinished():
            if job.state is State.RUNNING and job.attempts >= MAX_STARTS["server"]:
                self.finish(job.id, State.FAILED, TOO_OFTEN.format("server", job.attempts))
                given_up.append(self.get(job.id))
            else:
                if job.state is State.RUNNING:
                    self.queue_again(job.id)
                again.append(self.get(job.id))
        return again, given_up

    def delete(self, jobs: Iterable[str]) -> None:
        """Removes jobs and the rows of their pictures, but no files."""
        with self._transaction():
            for job in jobs:
                self._db.execute("delete from jobs where id = ?", (job,))

    def _change(self, job: str, what: str, *values: object) -> None:
        with self._transaction():
            self._db.execute(f"update jobs set {what} where id = ?", (*values, job))

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """Begins a transaction; commits it, or rolls it back after an exception."""

    def __init__(self, db: sqlite3.Connection):
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("begin immediate")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._db.execute("commit")
            return
        with suppress(sqlite3.Error):
            self._db.execute("rollback")
