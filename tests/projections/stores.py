"""Where the read models of a test are kept: in SQLite, or in a real PostgreSQL.

A module that is marked `usefixtures("each_store")` runs on both; `new_model` and `fold` follow.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Final, TypeVar

import pytest

from projections.database import Database
from projections.postgres import PostgresDatabase, open_postgres
from projections.readmodel import Place, ReadModel
from projections.sqlite import SqliteDatabase
from tests import postgres

M = TypeVar("M", bound=ReadModel)

OPEN_MAX: Final = 6
"""Who asks for so many models of one kind at once has done with the first of them."""


class Sqlite:
    def model(self, kind: type[M]) -> M:
        """An empty one that nobody keeps."""
        return kind(SqliteDatabase(":memory:"))

    def place(self, folder: Path) -> Place:
        """An empty one, to open models in."""
        return folder

    def close(self) -> None:
        pass


class Postgres:
    def __init__(self) -> None:
        self._server = postgres.shared(18)
        self._url = self._server.url(self._server.new_database())
        self._open: dict[str, deque[PostgresDatabase]] = {}
        self._names = count(1)

    def model(self, kind: type[M]) -> M:
        """To make tables takes 30 ms, so those that were used are emptied."""
        used = self._open.setdefault(kind.schema, deque())
        if len(used) < OPEN_MAX:
            db = open_postgres(self._url, f"model_{next(self._names)}")
        else:
            db = used.popleft()
            with db.transaction():
                for table in ("parked", "skipped", *(each.name for each in kind.tables)):
                    db.execute(f"DELETE FROM {table}")
                db.execute("UPDATE readmodel SET position = 0")
        used.append(db)
        return kind(db)

    def place(self, folder: Path) -> Place:
        return self._server.url(self._server.new_database())

    def close(self) -> None:
        for database in chain.from_iterable(self._open.values()):
            database.close()


STORES: Final[dict[str, type[Sqlite] | type[Postgres]]] = {"sqlite": Sqlite, "postgres": Postgres}
_current: Sqlite | Postgres = Sqlite()


def new_model(kind: type[M]) -> M:
    """An empty one that nobody keeps."""
    return _current.model(kind)


def plan(db: Database, sql: str) -> list[str]:
    """How the database goes about it, step by step."""
    if isinstance(db, SqliteDatabase):
        return [row[3] for row in db.query(f"EXPLAIN QUERY PLAN {sql}", [1] * sql.count("?"))]
    db.execute("SET enable_seqscan = off")  # Small tables are read whole where that is cheaper.
    return [row[0] for row in db.query("EXPLAIN " + sql.replace("?", "'1'"))]


def scans(db: Database, sql: str) -> list[str]:
    """The steps that read a whole table."""
    if isinstance(db, SqliteDatabase):
        return [step for step in plan(db, sql) if step.startswith("SCAN") and step != "SCAN named"]
    return [step for step in plan(db, sql) if "Seq Scan on" in step]


@pytest.fixture(scope="module", params=STORES)
def each_store(request: pytest.FixtureRequest) -> Iterator[Sqlite | Postgres]:
    global _current
    before, _current = _current, STORES[request.param]()
    yield _current
    _current.close()
    _current = before


@pytest.fixture
def place(each_store: Sqlite | Postgres, tmp_path: Path) -> Place:
    """Where models can be opened, and opened again."""
    return each_store.place(tmp_path)
