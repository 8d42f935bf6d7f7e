"""Read models in SQLite: each version of each in a file of its own.

`synchronous=NORMAL`: after a power cut the file is whole, at an earlier position. Each file has one connection.

Checkpoints wait for the disk (10 to 60 ms were measured under load, against 1 ms for a batch), so SQLite must not make
them within a commit: `checkpoint` is called in another thread, and does its work on a connection of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from projections.database import CantOpen, Params, Row

PAGE_BYTES: Final = 4_096

WAL_BYTES_MAX: Final = 2_048 * PAGE_BYTES
"""How much the write-ahead log grows by before a checkpoint: a page that changes often is moved once."""

CACHE_KIB: Final = 8_192
"""How much of a file is kept in memory at most. With SQLite's own 2 MiB the pages where rows are added fall out."""

LOCK_WAIT_MS: Final = 50
"""How long a statement waits for a lock of somebody else's. Short, since it waits in the loop's thread."""

_WRITING: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_NOMUTEX
"""No mutex: a connection is used by one thread."""


def open_sqlite(path: Path, *, read_only: bool = False, page_bytes: int = PAGE_BYTES) -> "SqliteDatabase":
    """The file, made where it is missing. Raises CantOpen."""
    try:
        return SqliteDatabase(path, read_only=read_only, page_bytes=page_bytes)
    except (apsw.Error, OSError) as error:
        raise CantOpen(
            f"the read model {path} can't be used: {error}. If it is damaged, delete it: it is rebuilt from the log."
        ) from error


class SqliteDatabase:
    """One file. Statements are kept prepared: pass constant SQL with `?` for values."""

    def __init__(self, path: Path | str, *, read_only: bool = False, page_bytes: int = PAGE_BYTES) -> None:
        """`path`: the file, made where it is missing; ":memory:" for one that nobody keeps. `read_only`: beside whoever
        writes it, which must exist. `page_bytes`: of the file where it is made."""
        self.place = str(path)
        self.remedy = f"delete {path}"
        self.undone = 0
        self.lost = False
        self.on_lost: Callable[[], None] = lambda: None
        if read_only:
            self._connection = apsw.Connection(self.place, flags=apsw.SQLITE_OPEN_READONLY)
            self._connection.set_busy_timeout(LOCK_WAIT_MS)  # The one who makes the file may be at it.
        else:
            if isinstance(path, Path):
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = apsw.Connection(self.place, flags=_WRITING)
            self._connection.set_busy_timeout(LOCK_WAIT_MS)
            self._connection.execute(f"PRAGMA page_size={page_bytes}")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.set_wal_hook(self._note_wal)  # in place of SQLite's own, which makes checkpoints
        self._connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        self._wal_pages = 0
        self._wal_pages_max = WAL_BYTES_MAX // page_bytes
        self._checkpoint_at = self._wal_pages_max

    def execute(self, sql: str, params: Params = ()) -> None:
        self._connection.execute(sql, params)

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        self._connection.executemany(sql, rows)

    def query(self, sql: str, params: Params = ()) -> list[Row]:
        return self._connection.execute(sql, params).fetchall()

    def query_one(self, sql: str, params: Params = ()) -> Row | None:
        return next(iter(self._connection.execute(sql, params)), None)

    def query_each(self, sql: str, rows: Iterable[Params]) -> list[list[Row]]:
        return [self.query(sql, params) for params in rows]

    def scan(self, sql: str) -> tuple[list[str], Iterator[Row]]:
        names: list[str] = []

        def note(cursor: apsw.Cursor, _sql: str, _params: Any) -> bool:
            names.extend(column[0] for column in cursor.get_description())
            return True

        cursor = self._connection.cursor()
        cursor.exec_trace = note  # The names of a result without rows can only be asked for before the first step.
        cursor.execute(sql)
        return names, cursor

    def has_table(self, name: str) -> bool:
        return bool(self.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._roll_back()  # one that could not be undone when it failed
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self.undone += 1
            with suppress(apsw.Error):
                self._roll_back()
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            self.query("SELECT 1 FROM sqlite_master LIMIT 1")  # The moment is that of the first read.
            yield
        finally:
            with suppress(apsw.Error):
                self._roll_back()

    async def reconnect(self) -> None:
        raise AssertionError("a file is never lost")

    def stop_writing(self) -> None:
        pass  # Nothing is locked between two transactions.

    def checkpoint_is_due(self) -> bool:
        return self._wal_pages > self._checkpoint_at

    def checkpoint(self) -> None:
        """Moves the write-ahead log into the file; it is then written again from its beginning, since a file that need
        not grow costs less. A reader in another process may keep a part of it from being moved: then it is for next
        time."""
        with closing(apsw.Connection(self.place)) as connection:
            [[busy, pages, _moved]] = connection.execute("PRAGMA wal_checkpoint(RESTART)")
        self._wal_pages = pages if busy else 0
        self._checkpoint_at = self._wal_pages + self._wal_pages_max

    def _roll_back(self) -> None:
        # SQLite may have rolled back by itself, on a full disk for instance.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        """Called by SQLite after each commit."""
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def close(self) -> None:
        self._connection.close()
