"""Where the read models of a test are kept: in SQLite, or in a real PostgreSQL.

A module that is marked `usefixtures("each_store")` runs on both; `new_model` and `fold` follow.
"""

from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import psycopg
import pytest

from projections import postgres as postgres_module
from projections.database import Database
from projections.postgres import PostgresDatabase, open_postgres
from projections.readmodel import Place, ReadModel
from projections.sqlite import SqliteDatabase
from tests import postgres

M = TypeVar("M", bound=ReadModel)

OPEN_MAX: Final = 6
"""Who asks for so many models of one kind at once has done with the first of them."""

KINDS_MAX: Final = 4


class Sqlite:
    def model(self, kind: type[M]) -> M:
        """An empty one that nobody keeps."""
        return kind(SqliteDatabase(":memory:"))

    def database(self) -> Database:
        """An empty one, without tables."""
        return SqliteDatabase(":memory:")

    def place(self, folder: Path) -> Place:
        """An empty one, to open models in."""
        return folder

    def close(self) -> None:
        pass


class Postgres:
    def __init__(self) -> None:
        self._server = postgres.shared(18)
        self._url = self._server.url(self._server.new_database())
        self._open: dict[object, deque[PostgresDatabase]] = {}
        self._names = count(1)

    def model(self, kind: type[M]) -> M:
        """To make tables takes 30 ms, so those that were used are emptied."""
        used = self._open.get(kind, deque())
        if len(used) < OPEN_MAX:
            return kind(self._new(kind))
        db = used.popleft()
        with db.transaction():
            for table in ("parked", "skipped", *(each.name for each in kind.tables)):
                db.execute(f"DELETE FROM {table}")
            db.execute("UPDATE readmodel SET position = 0, last_stream = NULL, last_version = NULL, last_event = NULL")
        used.append(db)
        return kind(db)

    def database(self) -> Database:
        return self._new("by themselves")

    def place(self, folder: Path) -> Place:
        return self._server.url(self._server.new_database())

    def close(self) -> None:
        for kind in list(self._open):
            self._close(kind)

    def _new(self, kind: object) -> PostgresDatabase:
        used = self._open[kind] = self._open.pop(kind, deque())  # The kind that grew last comes last.
        if len(self._open) > KINDS_MAX:
            self._close(next(iter(self._open)))
        used.append(open_postgres(self._url, f"model_{next(self._names)}"))
        return used[-1]

    def _close(self, kind: object) -> None:
        for database in self._open.pop(kind):
            database.close()


Store = Sqlite | Postgres

STORES: Final[dict[str, type[Store]]] = {"sqlite": Sqlite, "postgres": Postgres}
_current: Store = Sqlite()


def new_model(kind: type[M]) -> M:
    """An empty one that nobody keeps."""
    return _current.model(kind)


def throw_away(place: Place, model: ReadModel | type[ReadModel]) -> None:
    """As an operator does who wants the closed model to be made again."""
    if isinstance(place, Path):
        model.file_in(place).unlink()
    else:
        with psycopg.connect(place) as connection:
            connection.execute(f"DROP SCHEMA {model.schema_name()} CASCADE".encode())


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
def each_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    global _current
    before, _current = _current, STORES[request.param]()
    yield _current
    _current.close()
    _current = before


@pytest.fixture
def place(each_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Where models can be opened, and opened again. What a test leaves open is closed."""
    opened: list[PostgresDatabase] = []

    def opening(*args: Any, **options: Any) -> PostgresDatabase:
        opened.append(open_postgres(*args, **options))
        return opened[-1]

    monkeypatch.setattr(postgres_module, "open_postgres", opening)
    yield each_store.place(tmp_path)
    for database in opened:
        database.close()
