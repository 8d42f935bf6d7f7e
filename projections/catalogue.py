"""Which build of each read model serves.

A *build* is one filling of one version of a read model: a file, or a schema in PostgreSQL. A rebuild makes another one
beside that which serves, and takes its place by one row of the catalogue, which stands where the read models stand. A
build that no row names is unfinished, and goes on where it stopped.

The one that served before may be kept, to go back to.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from projections.database import CantOpen, Database
from projections.models import MODELS
from projections.readmodel import Place, ReadModel, WrongFile, file_of, schema_of
from projections.sqlite import open_sqlite

FILE: Final = "catalogue.db"
SCHEMA_NAME: Final = "readmodel_catalogue"

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS serving (
    name TEXT PRIMARY KEY, version INTEGER NOT NULL, number INTEGER NOT NULL,
    earlier_version INTEGER, earlier_number INTEGER, held INTEGER NOT NULL
)
"""
_GET: Final = "SELECT version, number, earlier_version, earlier_number, held FROM serving WHERE name = ?"
_PUT: Final = """
INSERT INTO serving VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET
    version = excluded.version, number = excluded.number, earlier_version = excluded.earlier_version,
    earlier_number = excluded.earlier_number, held = excluded.held
"""


class Build(msgspec.Struct, frozen=True):
    version: int
    number: int = 1
    """Of the builds of this version, from 1 on."""

    def __str__(self) -> str:
        return f"version {self.version}, build {self.number}"


class Serving(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the catalogue."""

    name: str
    build: Build
    earlier: Build | None = None
    """The one that served before, where it was kept."""
    held: bool = False
    """Somebody went back to this one: no newer version takes its place by itself."""


class Catalogue:
    """The rows. Every call opens the catalogue anew, since it is seldom asked, and by several processes. Raises
    ReadModelError."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def get(self, name: str) -> Serving | None:
        """None: nobody has put one there yet."""
        with self._database(read_only=True) as db:
            row = db.query_one(_GET, (name,)) if db is not None and db.has_table("serving") else None
        if row is None:
            return None
        version, number, earlier_version, earlier_number, held = row
        earlier = None if earlier_version is None else Build(earlier_version, earlier_number)
        return Serving(name=name, build=Build(version, number), earlier=earlier, held=bool(held))

    def put(self, serving: Serving) -> None:
        """On disk when it returns, where it is a file; where it raises, nothing has changed."""
        build, earlier = serving.build, serving.earlier
        before = (None, None) if earlier is None else (earlier.version, earlier.number)
        with self._database(read_only=False) as db:
            assert db is not None
            if isinstance(self._place, Path):
                db.execute("PRAGMA synchronous=FULL")  # A checkpoint after the commit could fail, and undo nothing.
            with db.transaction():
                if not db.has_table("serving"):
                    db.execute(_SCHEMA)
                db.execute(_PUT, (serving.name, build.version, build.number, *before, int(serving.held)))

    @contextmanager
    def _database(self, *, read_only: bool) -> Iterator[Database | None]:
        try:
            db = self._open(read_only=read_only)
        except CantOpen as error:
            raise WrongFile(str(error)) from error
        try:
            yield db
        finally:
            if db is not None:
                db.close()

    def _open(self, *, read_only: bool) -> Database | None:
        if not isinstance(self._place, Path):
            from projections.postgres import open_postgres  # see ReadModel.database

            return open_postgres(self._place, SCHEMA_NAME, read_only=read_only)
        file = self._place / FILE
        return None if read_only and not file.exists() else open_sqlite(file, read_only=read_only)


def kind_of(name: str, build: Build) -> type[ReadModel] | None:
    """None: this release doesn't know that version."""
    return next((kind for kind in MODELS[name] if kind.version == build.version), None)


def exists(place: Place, kind: type[ReadModel], number: int) -> bool:
    """Whether the build was begun. Raises ReadModelError."""
    if isinstance(place, Path):
        return kind.file_in(place, number).exists()
    db = kind.database(place, number, read_only=True)
    try:
        return db.has_table("readmodel")
    finally:
        db.close()


def drop(place: Place, name: str, build: Build) -> None:
    """Deletes a build, also one of a version that this release doesn't know. Nobody may have it open. Raises
    ReadModelError."""
    if isinstance(place, Path):
        file = file_of(place, name, build.version, build.number)
        # The database first: SQLite throws away a write-ahead log that it finds beside a new file.
        for path in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
            path.unlink(missing_ok=True)
        return
    from projections.postgres import drop_postgres

    try:
        drop_postgres(place, schema_of(name, build.version, build.number))
    except CantOpen as error:
        raise WrongFile(str(error)) from error


def find_serving(place: Place, name: str) -> Serving:
    """What the catalogue says, as far as this release can serve it; else what it says of the one before; else the
    newest version that was begun, or the newest of all. Raises ReadModelError."""
    row = Catalogue(place).get(name)
    if row is not None and kind_of(name, row.build) is not None:
        return row
    if row is not None and row.earlier is not None and kind_of(name, row.earlier) is not None:
        return Serving(name=name, build=row.earlier, earlier=row.build)
    begun = _newest_begun(place, name, MODELS[name])
    return Serving(name=name, build=begun, earlier=None if row is None else row.build)


def _newest_begun(place: Place, name: str, kinds: Sequence[type[ReadModel]]) -> Build:
    for kind in reversed(kinds):
        if exists(place, kind, 1):
            return Build(kind.version)
    return Build(kinds[-1].version)


def serving_kind(serving: Serving) -> type[ReadModel]:
    """Of one that `find_serving` has given."""
    kind = kind_of(serving.name, serving.build)
    assert kind is not None
    return kind


def open_serving(place: Place, name: str) -> ReadModel:
    """The read model that serves, to be written by the caller. Raises ReadModelError."""
    serving = find_serving(place, name)
    return serving_kind(serving).open(place, serving.build.number)


def open_reading(place: Place, name: str) -> tuple[type[ReadModel], Database]:
    """The database of the one that serves, beside the engine that writes it; it may be without tables yet. Raises
    ReadModelError."""
    serving = find_serving(place, name)
    kind = serving_kind(serving)
    return kind, kind.database(place, serving.build.number, read_only=True)
