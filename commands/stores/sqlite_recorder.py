"""The recorder of the `eventsourcing` library in a SQLite file: its table and its statement to insert, with an exact
check of the expected version, rows as the port wants them, and transactions that leave nothing open behind a failure.
It blocks; `commands.stores.sqlite` is the event log over it.

`apsw` brings a newer SQLite than Python's module and binds rows faster: a quarter less CPU for an event. The two must
not open one file in the same process: what one of them closes drops the locks of the other.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Final, Literal

import apsw
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from domain.log import NO_STREAM, START, Append, Appended, Conflict, Outcome, RecordedEvent

_PRAGMAS: Final = (
    "PRAGMA synchronous=FULL",  # An fsync for each commit: some builds of SQLite come with less.
    "PRAGMA fullfsync=ON",  # macOS: a plain fsync stops at the disk's own cache.
)

# Without SQLite's mutex: no connection is ever used by two threads at once.
_FLAGS: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_NOMUTEX

CREATE_LOCK_S: Final = 5.0

_COLUMNS: Final = "rowid, originator_id, originator_version, topic, state"
_VERSION: Final = "SELECT max(originator_version) FROM stored_events WHERE originator_id=?"
_STREAM: Final = (
    f"SELECT {_COLUMNS} FROM stored_events WHERE originator_id=? AND originator_version>? "
    "ORDER BY originator_version LIMIT ?"
)
_ALL: Final = f"SELECT {_COLUMNS} FROM stored_events WHERE rowid>? ORDER BY rowid LIMIT ?"
_LAST: Final = f"SELECT {_COLUMNS} FROM stored_events ORDER BY rowid DESC LIMIT ?"
_HEAD: Final = "SELECT max(rowid) FROM stored_events"

ROWS: Final = 16
"""How many rows one statement inserts, where there are as many: to begin and end a statement costs a quarter of a
row."""

_Row = tuple[str, int, str, bytes]


class CommitFailed(Exception):
    """COMMIT itself failed; its cause is the apsw.Error. The transaction is rolled back, but where the fsync failed
    its frames stand in the write-ahead log already, and come back if the machine stops before they are overwritten."""


class Recorder(SQLiteApplicationRecorder):
    """Every method raises apsw.Error. It keeps one connection to write and one to read, so that a commit may run in
    another thread beside reads; the library's pool stays empty: that one gives its connections room for a single
    prepared statement, and keeps its lock on writers for ever when it can't open."""

    def __init__(self, uri: str) -> None:
        """`uri` is SQLite's own, `file:/path?mode=…`."""
        super().__init__(SQLiteDatastore(uri, originator_id_type="text"))
        self._uri = uri
        self._connection: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None
        self.wal_pages = 0
        """How many the write-ahead log has; 0 when it is to be written from its beginning."""

    def create_table(self) -> None:
        """Also makes the file one with a write-ahead log, for good. Waits up to 5 s for another process's lock."""
        with closing(_connect(self._uri, lock_timeout_s=CREATE_LOCK_S)) as connection:
            if connection.pragma("journal_mode", "wal") != "wal":
                raise apsw.CantOpenError("a write-ahead log is not possible on this file system")
            for statement in self.create_table_statements:
                connection.execute(statement)

    def insert(self, batch: Sequence[Append]) -> list[Outcome]:
        """All in one transaction, but for the streams that are not where they were expected to be. `commit` is to come
        next; after an error nothing is stored."""
        connection = self._open()
        cursor = connection.cursor()
        # The write lock comes before the first read, so that what was read still holds at the commit.
        cursor.execute("BEGIN IMMEDIATE")
        try:
            conflicts = [_conflict(cursor, append) for append in batch]
            fitting = [append for append, conflict in zip(batch, conflicts, strict=True) if conflict is None]
            self._insert_rows(cursor, [row for append in fitting for row in _rows(append)])
            appended = _appended(fitting, last=connection.last_insert_rowid())
            return [conflict or next(appended) for conflict in conflicts]
        except BaseException:
            self._abandon(connection)
            raise

    def commit(self) -> None:
        """What was inserted; returns after the fsync. May be called in another thread, while there are only reads.
        Raises CommitFailed."""
        connection = self._open()
        try:
            connection.execute("COMMIT")
        except apsw.Error as error:
            self._abandon(connection)
            raise CommitFailed from error

    def _insert_rows(self, cursor: apsw.Cursor, rows: list[_Row]) -> None:
        # The library's own insert makes an object of each row first, for a quarter of the time of it all.
        whole = len(rows) - len(rows) % ROWS
        runs = [[*chain.from_iterable(rows[at : at + ROWS])] for at in range(0, whole, ROWS)]
        cursor.executemany(self.insert_events_statement + ",(?,?,?,?)" * (ROWS - 1), runs)
        cursor.executemany(self.insert_events_statement, rows[whole:])

    def _abandon(self, connection: apsw.Connection) -> None:
        if not connection.in_transaction:
            return  # SQLite has rolled back by itself, on a full disk for instance.
        try:
            connection.execute("ROLLBACK")
        except apsw.Error:
            # Ends the transaction in whatever state it is; the next call opens another connection.
            connection.close()
            self._connection = None

    def read_stream(self, stream: str, after: int, limit: int) -> list[RecordedEvent]:
        return _events(self._open_reader().execute(_STREAM, (stream, after, limit)))

    def read_all(self, after: int, limit: int) -> list[RecordedEvent]:
        return _events(self._open_reader().execute(_ALL, (after, limit)))

    def read_last(self, limit: int) -> list[RecordedEvent]:
        return _events(self._open_reader().execute(_LAST, (limit,)))[::-1]

    def head(self) -> int:
        [[position]] = self._open_reader().execute(_HEAD)
        return START if position is None else int(position)

    def checkpoint(self, mode: Literal["PASSIVE", "RESTART", "TRUNCATE"], *, lock_timeout_s: float) -> None:
        """Moves the write-ahead log into the file, RESTART and TRUNCATE with the write lock. Has a connection of its
        own, so that it may run in another thread."""
        with closing(_connect(self._uri, lock_timeout_s=lock_timeout_s)) as connection:
            connection.execute("PRAGMA fullfsync=ON")
            [[busy, _pages, _moved]] = connection.execute(f"PRAGMA wal_checkpoint({mode})")
        if mode != "PASSIVE" and not busy:
            self.wal_pages = 0

    def close(self) -> None:
        """What is called later raises apsw.ConnectionClosedError."""
        for connection in (self._reader, self._connection):
            if connection is not None:
                connection.close()

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            # No timeout: waiting for another process is asyncio's business.
            self._connection = _connect(self._uri, lock_timeout_s=0)
            for pragma in _PRAGMAS:
                self._connection.execute(pragma)
            self._connection.set_wal_hook(self._note_wal)  # in place of SQLite's own, which makes checkpoints
        return self._connection

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def _open_reader(self) -> apsw.Connection:
        if self._reader is None:
            self._reader = _connect(self._uri, lock_timeout_s=0)
        return self._reader


def _connect(uri: str, *, lock_timeout_s: float) -> apsw.Connection:
    connection = apsw.Connection(uri, flags=_FLAGS)
    connection.set_busy_timeout(int(lock_timeout_s * 1_000))
    return connection


def _conflict(cursor: apsw.Cursor, append: Append) -> Conflict | None:
    # The primary key alone would not notice an expected version that is too high.
    [[version]] = cursor.execute(_VERSION, (append.stream,))
    current = NO_STREAM if version is None else version
    return None if current == append.expected else Conflict(expected=append.expected, current=current)


def _rows(append: Append) -> Iterator[_Row]:
    for version, event in enumerate(append.events, append.expected + 1):
        yield append.stream, version, event.topic, event.data


def _appended(appends: Sequence[Append], *, last: int) -> Iterator[Appended]:
    """`last`: the rowid of the last row. Nothing is ever deleted, so each row got the rowid after the last one."""
    position = last - sum(len(append.events) for append in appends)
    for append in appends:
        count = len(append.events)
        yield Appended(version=append.expected + count, positions=[*range(position + 1, position + count + 1)])
        position += count


def _events(cursor: apsw.Cursor) -> list[RecordedEvent]:
    return [
        RecordedEvent(position=position, stream=stream, version=version, topic=topic, data=data)
        for position, stream, version, topic, data in cursor
    ]
