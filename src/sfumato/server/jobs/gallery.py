"""The gallery: all finished pictures of a user, found by what is known of them, and what the user did with each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = """
create table if not exists marks (
    job text not null, "index" integer not null, favourite integer not null default 0, folder text not null default '',
    deleted real, vector blob, primary key (job, "index"),
    foreign key (job, "index") references pictures (job, "index") on delete cascade
);
create index if not exists marks_deleted on marks (deleted) where deleted is not null;
"""
_JOINED = 'pictures p join jobs j on j.id = p.job left join marks m on m.job = p.job and m."index" = p."index"'
_PROMPT, _MODEL = "json_extract(j.request, '$.prompt')", "json_extract(j.request, '$.model')"
_COLUMNS = (
    'p.job, p."index", p.file, p.seed, p.infotext, p.width, p.height, j.kind, j.created, '
    f"{_PROMPT}, {_MODEL}, coalesce(m.favourite, 0), coalesce(m.folder, '')"
)
_ORDER = 'order by j.number desc, p."index"'
Place = tuple[str, int]
"""A picture: its job and its index there."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture as the gallery has it; `seed` is text, since not every reader of JSON keeps 64 bits."""

    job: str
    index: int
    file: str
    seed: str
    infotext: str
    width: int
    height: int
    kind: str
    created: float
    prompt: str
    model: str
    favourite: bool
    folder: str

    @property
    def place(self) -> Place:
        return self.job, self.index


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which pictures are meant. `words` must all be in a picture's settings; times are seconds since 1970."""

    words: str = ""
    model: str | None = None
    seed: str | None = None
    after: float | None = None
    before: float | None = None
    favourite: bool = False
    folder: str | None = None

    def conditions(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """What must hold, in SQL, with its values."""
        for word in self.words.split():
            like = "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
            yield f"(p.infotext like ? escape '\\' or {_PROMPT} like ? escape '\\')", (like, like)
        for sql, value in (
            (f"{_MODEL} = ?", self.model),
            ("p.seed = ?", self.seed),
            ("j.created >= ?", self.after),
            ("j.created < ?", self.before),
            ("coalesce(m.folder, '') = ?", self.folder),
        ):
            if value is not None:
                yield sql, (value,)
        if self.favourite:
            yield "m.favourite = 1", ()


class Gallery:
    """The pictures in the database of jobs; its methods are called from the thread of the store."""

    def __init__(self, db: sqlite3.Connection):
        self._db = db
        db.executescript(SCHEMA)

    def count(self, user: str, search: Search) -> int:
        """How many pictures of a user are found."""
        where, values = _where(user, search)
        return self._db.execute(f"select count(*) from {_JOINED} where {where}", values).fetchone()[0]

    def pictures(self, user: str, search: Search, offset: int = 0, count: int = 100) -> list[Shown]:
        """The pictures of a user that are found, newest first."""
        where, values = _where(user, search)
        return self._shown(f"where {where} {_ORDER} limit ? offset ?", (*values, count, offset))

    def get(self, user: str, places: Iterable[Place]) -> list[Shown]:
        """Those of some pictures that are the user's, in the order given; deleted ones too until they are purged."""
        found = []
        for place in places:
            found += self._shown('where j.user = ? and p.job = ? and p."index" = ?', (user, *place))
        return found

    def facets(self, user: str) -> tuple[list[str], list[str]]:
        """The models that drew pictures of a user, and the names of the user's folders."""
        where, values = _where(user, Search())
        columns = (_MODEL, "m.folder")
        models, folders = (
            [row[0] for row in self._db.execute(f"select distinct {one} from {_JOINED} where {where}", values)]
            for one in columns
        )
        return sorted(filter(None, models)), sorted(filter(None, folders))

    def latest_with(self, user: str) -> tuple[dict[str, Place], dict[str, Place]]:
        """The last picture of a user that each model drew, and each LoRA that the options named."""
        where, values = _where(user, Search())
        found: list[dict[str, Place]] = []
        for name, more in ((_MODEL, ""), ("l.value", ", json_each(j.request, '$.options.lora') l")):
            rows = self._db.execute(
                f'select {name}, p.job, p."index", max(j.number) as last from {_JOINED}{more} where {where} '
                f"group by {name} order by last", values,
            )  # fmt: skip
            found.append({str(row[0]): (row[1], row[2]) for row in rows})
        models, loras = found
        return models, {lora.rpartition(":")[0] or lora: place for lora, place in loras.items()}

    def mark(self, user: str, places: Iterable[Place], changed: Mapping[str, Any]) -> int:
        """Sets `favourite`, `folder` or `deleted` (a time, None to undo) of pictures; how many of them there are."""
        rows = [one.place for one in self.get(user, places)]
        for name, value in changed.items():
            assert name in ("favourite", "folder", "deleted")
            self._db.executemany(
                f'insert into marks (job, "index", {name}) values (?, ?, ?) '
                f'on conflict (job, "index") do update set {name} = excluded.{name}',
                [(*row, value) for row in rows],
            )
        return len(rows)

    def purge(self, older: float) -> list[str]:
        """Forgets pictures that were deleted before a time; their files, for whoever removes them."""
        rows = self._db.execute(
            'select p.job, p."index", p.file from pictures p join marks m on m.job = p.job and m."index" = p."index" '
            "where m.deleted < ?", (older,),
        ).fetchall()  # fmt: skip
        self._db.executemany('delete from pictures where job = ? and "index" = ?', [row[:2] for row in rows])
        return [row[2] for row in rows]

    def without_vector(self, user: str, count: int) -> list[Shown]:
        """Pictures whose likeness is not known yet, newest first."""
        where, values = _where(user, Search())
        return self._shown(f"where {where} and m.vector is null {_ORDER} limit ?", (*values, count))

    def keep_vectors(self, vectors: Mapping[Place, bytes]) -> None:
        """Keeps what pictures look like; `vectors` are float32."""
        self._db.executemany(
            'insert into marks (job, "index", vector) values (?, ?, ?) '
            'on conflict (job, "index") do update set vector = excluded.vector',
            [(*place, vector) for place, vector in vectors.items()],
        )

    def vectors(self, user: str) -> list[tuple[Place, bytes]]:
        """What the pictures of a user look like, as far as it is known."""
        where, values = _where(user, Search())
        rows = self._db.execute(
            f'select p.job, p."index", m.vector from {_JOINED} where {where} and m.vector is not null', values
        )
        return [((job, index), vector) for job, index, vector in rows]

    def _shown(self, rest: str, values: Sequence[Any]) -> list[Shown]:
        found = []
        for row in self._db.execute(f"select {_COLUMNS} from {_JOINED} {rest}", tuple(values)):
            job, index, file, seed, infotext, width, height, kind, created, prompt, model, favourite, folder = row
            found.append(
                Shown(job=job, index=index, file=file, seed=seed, infotext=infotext, width=width, height=height,
                      kind=kind, created=created, prompt=prompt or "", model=model or "", favourite=bool(favourite),
                      folder=folder)
            )  # fmt: skip
        return found


def _where(user: str, search: Search) -> tuple[str, tuple[Any, ...]]:
    said = [("j.user = ? and j.kind != 'hint'", (user,)), ("m.deleted is null", ()), *search.conditions()]
    return " and ".join(sql for sql, _ in said), tuple(value for _, values in said for value in values)
