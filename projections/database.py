"""The database of one read model: SQL and transactions. In SQLite it is a file, in PostgreSQL a schema.

Statements are written once, for both: constant SQL with `?` for values, in the types TEXT, BLOB, INTEGER and BIGINT,
which hold str, bytes and int. Texts are compared by their bytes. `projections/postgres_sql.py` says in which words
PostgreSQL gets them. None of the two has what the other lacks: `INSERT … ON CONFLICT`, no `max` of two values, and
`CAST(? AS BIGINT)` where a value is a column of a union.

Everything here can be rebuilt from the log, so a commit need not wait for the disk: after a power cut the rows are
those of an earlier position.

A database is used by the loop's thread alone. A transaction is never left open across an `await`, so a query sees whole
batches.

A database may be out of order for a while (full disk, lock, lost connection). `is_file_trouble` tells this apart from
what the values of a statement are to blame for: the one is tried again later, the other fails each time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import apsw

Params = Sequence[str | bytes | int | None]
Row = tuple[Any, ...]


class DatabaseUnavailable(Exception):
    """PostgreSQL can't be read or written now, whatever the statement: it may be all right later."""


class StatementFailed(Exception):
    """PostgreSQL can't do this, with these values."""


class CantOpen(Exception):
    """What is wrong, and what to do."""


DATABASE_ERRORS: Final = (apsw.Error, DatabaseUnavailable, StatementFailed, OSError)
"""What methods raise where it fails."""

_FILE_TROUBLE: Final = (
    apsw.FullError, apsw.IOError, apsw.BusyError, apsw.LockedError, apsw.ProtocolError, apsw.ReadOnlyError,
    apsw.CantOpenError, apsw.PermissionsError, apsw.CorruptError, apsw.NotADBError, apsw.NoMemError,
    apsw.InterruptError, apsw.AbortError, apsw.InternalError, DatabaseUnavailable, OSError, MemoryError,
)  # fmt: skip


def is_file_trouble(error: Exception) -> bool:
    """Whether the database can't be read or written, whatever the statement: it may be all right later."""
    return isinstance(error, _FILE_TROUBLE)


class Database(Protocol):
    place: str
    """For people: where the rows are."""
    remedy: str
    """How they are thrown away, so that they are rebuilt from the log."""
    undone: int
    """How many times what was written was undone, or may have been: a transaction failed, or the connection was lost
    (then also commits, the last ones, may be gone)."""
    lost: bool
    """There is no connection: everything raises DatabaseUnavailable, until `reconnect` has succeeded. A file is never
    lost."""
    on_lost: Callable[[], None]
    """Is called when the connection is lost."""

    def execute(self, sql: str, params: Params = ()) -> None:
        """Within a transaction it may be done, and fail, as late as the next query or the commit."""

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """One after the other, in few trips to the database. Fails like `execute`."""

    def query(self, sql: str, params: Params = ()) -> list[Row]: ...

    def query_one(self, sql: str, params: Params = ()) -> Row | None:
        """The first row, if there is any."""

    def query_each(self, sql: str, rows: Iterable[Params]) -> list[list[Row]]:
        """The answer to each, in few trips to the database."""

    def scan(self, sql: str) -> tuple[list[str], Iterator[Row]]:
        """The names of the columns, and the rows, read as they are asked for: for tables that don't fit into memory."""

    def has_table(self, name: str) -> bool: ...

    def transaction(self) -> AbstractContextManager[None]:
        """Everything in it or nothing. Transactions don't nest."""

    async def reconnect(self) -> None:
        """After it was lost. The rows may be those of an earlier position. Raises DatabaseUnavailable."""

    def snapshot(self) -> AbstractContextManager[None]:
        """All that is read within it is of one moment, whatever others write meanwhile. Nothing is written in it."""

    def stop_writing(self) -> None:
        """From now on it is only read here, and may be opened by another writer. Raises DatabaseUnavailable."""

    def checkpoint_is_due(self) -> bool: ...

    def checkpoint(self) -> None:
        """Where one is due: may be called in any thread, while nobody writes; whoever reads is not disturbed."""

    def close(self) -> None: ...
