"""What a read model is: rows made from events, which may be thrown away and made again (I9).

ReadModelError          the place of the read models can't be used
├── WrongFile           the file or schema can't be used, or holds another read model, or another version
├── TrackingAhead       the rows come from a log that is longer than the one at hand
├── OtherLog            the rows come from another log than the one at hand
└── ReadModelStopped    the model stands still for now; who waits for it is told why
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import msgspec

from domain.codec import Event
from projections.database import CantOpen, Database, DatabaseUnavailable, Row
from projections.parking import SCHEMA, Failed, Parking
from projections.sqlite import PAGE_BYTES, open_sqlite

_CATALOGUE: Final = """
CREATE TABLE IF NOT EXISTS readmodel (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    position BIGINT NOT NULL,
    last_stream TEXT,
    last_version BIGINT,
    last_event TEXT
);
"""
_STANDS: Final = "SELECT position, EXISTS (SELECT 1 FROM parked) FROM readmodel WHERE name = ?"
_TRACK: Final = "UPDATE readmodel SET position = ?, last_stream = ?, last_version = ?, last_event = ? WHERE name = ?"
_PASS: Final = "UPDATE readmodel SET position = ? WHERE name = ?"
_LAST: Final = "SELECT last_stream, last_version, last_event FROM readmodel WHERE name = ? AND last_event IS NOT NULL"


class ReadModelError(Exception):
    """A read model can't be used: what is wrong and what to do."""


class WrongFile(ReadModelError):
    pass


class TrackingAhead(ReadModelError):
    pass


class OtherLog(ReadModelError):
    pass


class ReadModelStopped(ReadModelError):
    pass


Place = Path | str
"""Where read models are kept: a folder for SQLite's files, or the URL of a PostgreSQL database, which has a schema for
each."""


def file_of(folder: Path, name: str, version: int, number: int) -> Path:
    return folder / (f"{name}-{version}.db" if number == 1 else f"{name}-{version}.{number}.db")


def schema_of(name: str, version: int, number: int) -> str:
    return f"{name}_{version}" if number == 1 else f"{name}_{version}_{number}"


class Last(msgspec.Struct, frozen=True):
    """An event that was read: it tells whether the rows are of the log at hand."""

    stream: str
    version: int
    event: str
    """Its id."""


class Table(msgspec.Struct, frozen=True):
    """A table as `row_hash` reads it."""

    name: str
    key: tuple[str, ...]
    """The columns that tell its rows apart; rows are hashed in their order."""


def hash_rows(db: Database, tables: Sequence[Table]) -> str:
    """SHA-256, in hex. MessagePack tells types and lengths apart, so different rows never give the same bytes."""
    digest = hashlib.sha256()
    for table in tables:
        names, rows = scan(db, table)
        hashed = [index for index, name in enumerate(names) if not name.endswith("position")]
        digest.update(msgspec.msgpack.encode([table.name, [names[index] for index in hashed]]))
        for row in rows:
            digest.update(msgspec.msgpack.encode([row[index] for index in hashed]))
    return digest.hexdigest()


def scan(db: Database, table: Table) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns, and the rows in the order of the key."""
    return db.scan(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}")


class ReadModel(ABC):
    """Rows that are a function of the events alone: no clock, no randomness, no arrival order, no unsealed text.
    Streams are fed in the order of the log but for parked ones, which come later (`projections/parking.py`).

    A model keeps nothing in memory that a transaction which is rolled back would leave wrong. Only columns whose names
    end with `position` may hold positions of the store: they stay out of the hash, since another store gives others.
    When the rows that an event makes change, the model gets a new version, and so a new file.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    schema: ClassVar[str]
    """SQL statements, each ended by a semicolon."""
    tables: ClassVar[tuple[Table, ...]]
    page_bytes: ClassVar[int] = PAGE_BYTES
    """Of a new file of SQLite: 4 KiB where small rows change here and there, more where long rows are appended."""

    @classmethod
    def file_in(cls, folder: Path, number: int = 1) -> Path:
        """Where a build of this version of the model stands; the first one has the number 1."""
        return file_of(folder, cls.name, cls.version, number)

    @classmethod
    def schema_name(cls, number: int = 1) -> str:
        """Where a build of this version of the model stands in a PostgreSQL database."""
        return schema_of(cls.name, cls.version, number)

    @classmethod
    def open(cls, place: Place, number: int = 1) -> Self:
        """A build of the model in its own file or schema, made where it is missing. Raises ReadModelError."""
        db = cls.database(place, number)
        try:
            return cls(db)
        except DatabaseUnavailable as error:
            db.close()
            raise WrongFile(str(error)) from error
        except BaseException:
            db.close()
            raise

    @classmethod
    def database(cls, place: Place, number: int = 1, *, read_only: bool = False) -> Database:
        """`read_only`: beside the engine that writes it; it may be without tables yet. Raises ReadModelError."""
        try:
            if isinstance(place, Path):
                return open_sqlite(cls.file_in(place, number), read_only=read_only, page_bytes=cls.page_bytes)
            # Only for those who use it: the driver is 10 MB of memory.
            from projections.postgres import open_postgres

            return open_postgres(place, cls.schema_name(number), read_only=read_only)
        except CantOpen as error:
            raise WrongFile(str(error)) from error

    def __init__(self, db: Database) -> None:
        """Makes the tables where there are none. Raises WrongFile."""
        self.db = db
        self.parking = Parking(db)
        self.make_tables()

    def make_tables(self) -> None:
        """Where there are none, in one transaction. Raises WrongFile."""
        with self.db.transaction():
            self._create()

    @abstractmethod
    def apply(self, events: Sequence[Event]) -> None:
        """Writes the rows of a batch, within the runner's transaction. An exception undoes the whole batch."""

    def subject_of(self, row: Mapping[str, Any]) -> str | None:
        """The conversation or account of a row, by the names of its columns, where it is named by something else; None:
        it isn't."""
        return None

    @property
    def position(self) -> int:
        """The position up to which events are in the rows, as the database has it."""
        row = self.db.query_one("SELECT position FROM readmodel WHERE name = ?", (self.name,))
        assert row is not None
        position: int = row[0]
        return position

    @property
    def last(self) -> Last | None:
        """The last event up to the position that could be read; None where there is none yet."""
        row = self.db.query_one(_LAST, (self.name,))
        return Last(*row) if row is not None else None

    def advance(self, events: Sequence[Event]) -> None:
        """Applies a batch and moves the position to its last event, in one transaction. What is in already is left
        out: to feed a batch twice changes nothing. What belongs to a parked stream is held back."""
        with self.db.transaction():
            position, parked = self.db.query(_STANDS, (self.name,))[0]
            if events[0].position <= position:
                events = [event for event in events if event.position > position]
            if not events:
                return
            free = self.parking.hold_back(events) if parked else events
            if free:
                self.apply(free)
            last = events[-1]
            self.db.execute(_TRACK, (last.position, last.stream, last.version, last.entry.id, self.name))

    def park(self, failure: Failed) -> None:
        """Goes past the event that follows the position, and holds it back with all that rests on it. Raises
        ParkedFull."""
        with self.db.transaction():
            self.parking.park(failure)
            self.db.execute(_PASS, (failure.position, self.name))

    def catch_up(self, events: Sequence[Event]) -> None:
        """Applies the next events of a parked stream, in one transaction. What is in already is left out."""
        with self.db.transaction():
            parked = self.parking.get(events[0].stream)
            missing = [] if parked is None else [event for event in events if event.version >= parked.version]
            if missing:
                self.apply(missing)
                self.parking.move(missing[-1].stream, missing[-1].version + 1)

    def row_hash(self) -> str:
        """SHA-256 over all rows, each table in the order of its key: equal after a rebuild, on whichever store."""
        return hash_rows(self.db, self.tables)

    def close(self) -> None:
        self.db.close()

    def _create(self) -> None:
        # Whoever may make no tables is not asked to where they are there.
        if not all(self.db.has_table(name) for name in ("readmodel", "parked", "skipped")):
            self._execute(_CATALOGUE + SCHEMA)
        stands = self.db.query_one("SELECT name, version FROM readmodel")
        if stands is None:
            self._execute(self.schema)
            self.db.execute(
                "INSERT INTO readmodel (name, version, position) VALUES (?, ?, 0)", (self.name, self.version)
            )
        elif stands != (self.name, self.version):
            raise WrongFile(
                f"{self.db.place} holds version {stands[1]} of the read model {stands[0]!r} instead of version"
                f" {self.version} of {self.name!r}. To have it rebuilt from the log, {self.db.remedy}."
            )

    def _execute(self, statements: str) -> None:
        for statement in filter(str.strip, statements.split(";")):
            self.db.execute(statement)
