"""Read models in PostgreSQL: each version of each in a schema of its own, which one engine writes at a time.

`synchronous_commit=off`: after a crash of the server the rows are whole, at an earlier position, or the tables are gone
that were just made, while the engine lives on. So whoever keeps in memory what it has read asks `undone`, and the
runner looks anew at the model after a connection was lost.

Within a transaction statements are sent without waiting for their answers, so a batch costs about two trips to the
server: one for the position, one for the rows and the commit.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from time import monotonic
from typing import Final
from weakref import WeakSet

from projections.database import CantOpen, DatabaseUnavailable, Params, Row, StatementFailed
from projections.postgres_address import Address, explain, parse
from projections.postgres_opening import STATEMENT_TIMEOUT_MS, check, connect, drop
from projections.postgres_session import Broken, Refused, Session, Silent
from projections.postgres_sql import translated

_TROUBLE: Final = ("08", "40", "53", "57", "58", "XX", "42501", "55P03", "25006")
"""What SQLSTATEs begin with where no value is to blame: connection, conflict with others, resources, the operator,
the system; and rights, a lock, a standby."""

_GONE: Final = ("42P01", "3F000")
"""A table or the schema was dropped: whoever connects anew makes them again."""

_BUSY: Final = ("55P03", "57014")
"""Somebody else has held a lock for too long, or the server was too slow."""
BUSY_PAUSE_S: Final = 2.0
"""So long nobody asks again: each one who does holds up the loop."""

_NO_SUCH_TEXT: Final = "22021"
"""The SQLSTATE of a text that PostgreSQL can't hold, with a NUL in it."""

_PAGE: Final = 1_000
"""How many rows a scan reads at once."""

_numbers = count(1)
_all: Final["WeakSet[PostgresDatabase]"] = WeakSet()
"""Of this process, at whichever server."""


def open_postgres(url: str, schema: str, *, read_only: bool = False) -> "PostgresDatabase":
    """The schema in the database that the URL names, made where it is missing, but not where it is only to be read.
    Blocks until the server has answered. Raises CantOpen."""
    address = parse(url)
    return PostgresDatabase(address, schema, connect(address, schema, read_only=read_only))


def check_postgres(url: str, schemas: Sequence[str]) -> None:
    """Whether an engine could write these schemas, or make them: the checks of `open_postgres`, and nothing is changed.
    Raises CantOpen."""
    check(parse(url), schemas)


def drop_postgres(url: str, schema: str) -> None:
    """Deletes the schema, which nobody may have open. Blocks until it is done. Raises CantOpen."""
    drop(parse(url), schema)


class PostgresDatabase:
    """One schema. Statements with values are kept prepared."""

    def __init__(self, address: Address, schema: str, session: Session) -> None:
        """Only `open_postgres` makes one."""
        self._address = address
        self._schema = schema
        self._session: Session | None = session
        self._why = ""
        """There is no session."""
        self._in_transaction = False
        self._busy = ""
        """Why it was busy, up to `_busy_until`."""
        self._busy_until = 0.0
        self._closed = False
        self.place = f"the schema {schema} at {address.place}"
        self.remedy = f"DROP SCHEMA {schema} CASCADE at {address.place}"
        self.undone = 0
        self.lost = False
        self.on_lost: Callable[[], None] = lambda: None
        _all.add(self)

    def execute(self, sql: str, params: Params = ()) -> None:
        with self._using() as session:
            session.send(sql, params)
            if not self._in_transaction:
                session.settle()

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        with self._using() as session:
            session.send_each(sql, rows)
            if not self._in_transaction:
                session.settle()

    def query(self, sql: str, params: Params = ()) -> list[Row]:
        try:
            with self._using() as session:
                session.send(sql, params)
                [result] = session.settle(keep=1)
                return session.rows(result)
        except StatementFailed as failed:
            if isinstance(failed.__cause__, Refused) and failed.__cause__.sqlstate == _NO_SUCH_TEXT:
                return []  # Somebody asks for what no row can hold.
            raise

    def query_one(self, sql: str, params: Params = ()) -> Row | None:
        return next(iter(self.query(sql, params)), None)

    def query_each(self, sql: str, rows: Iterable[Params]) -> list[list[Row]]:
        with self._using() as session:
            number = session.send_each(sql, rows)
            return [session.rows(result) for result in session.settle(keep=number)]

    def scan(self, sql: str) -> tuple[list[str], Iterator[Row]]:
        cursor = f"scan_{next(_numbers)}"
        with self._using() as session:
            # The server keeps the rows until the cursor is closed; that may take longer than other statements.
            session.send("SET statement_timeout = 0")
            session.send(f"DECLARE {cursor} CURSOR WITH HOLD FOR {translated(sql).decode()}")
            session.send(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
            session.send(f"FETCH {_PAGE} FROM {cursor}")
            [first] = session.settle(keep=1, patiently=True)
            names = [(first.fname(column) or b"").decode() for column in range(first.nfields)]
            return names, self._pages(cursor, session.rows(first))

    def has_table(self, name: str) -> bool:
        return bool(self.query("SELECT 1 WHERE to_regclass(quote_ident(?)) IS NOT NULL", (name,)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        assert not self._in_transaction, "transactions don't nest"
        with self._using() as session:
            session.send("BEGIN")
        self._in_transaction = True
        try:
            yield
            self._commit()
        except BaseException:
            self.undone += 1
            self._roll_back()
            raise
        finally:
            self._in_transaction = False

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        with self._using() as session:
            session.send("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            session.settle()
        self._in_transaction = True
        try:
            yield
        finally:
            self._roll_back()
            self._in_transaction = False

    async def reconnect(self) -> None:
        if not self.lost:
            return
        # In a thread, since it may take seconds; what it gives is taken in the loop's.
        connecting = asyncio.create_task(asyncio.to_thread(self._connect))
        try:
            session = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_close)
            raise
        if self._closed:
            session.close()
            raise DatabaseUnavailable(explain(self._address.place, self._why))
        self._session = session
        self.lost = False

    def stop_writing(self) -> None:
        self.query("SELECT pg_advisory_unlock_all()")

    def checkpoint_is_due(self) -> bool:
        return False

    def checkpoint(self) -> None:
        raise AssertionError("the server makes them")

    def close(self) -> None:
        self._closed = True
        self._drop("it was closed")

    def _connect(self) -> Session:
        try:
            session = connect(self._address, self._schema, read_only=False)
        except CantOpen as error:
            raise DatabaseUnavailable(str(error)) from error
        if self._closed:  # meanwhile
            session.close()
            raise DatabaseUnavailable(explain(self._address.place, self._why))
        return session

    def _commit(self) -> None:
        with self._using() as session:
            session.send("COMMIT")
            [result] = session.settle(keep=1)
            if result.command_status == b"ROLLBACK":
                raise StatementFailed("a statement of this transaction has failed")

    def _roll_back(self) -> None:
        with suppress(DatabaseUnavailable, StatementFailed), self._using() as session:
            with suppress(Refused):
                session.settle()
            session.send("ROLLBACK")
            session.settle()

    def _pages(self, cursor: str, rows: list[Row]) -> Iterator[Row]:
        while rows:
            yield from rows
            rows = self.query(f"FETCH {_PAGE} FROM {cursor}") if len(rows) == _PAGE else []
        self.execute(f"CLOSE {cursor}")

    @contextmanager
    def _using(self) -> Iterator[Session]:
        if self._session is None:
            raise DatabaseUnavailable(explain(self._address.place, self._why))
        if self._busy and not self._in_transaction:
            if monotonic() < self._busy_until:
                raise DatabaseUnavailable(self._busy)
            self._busy = ""
        try:
            yield self._session
        except Broken as broken:
            for each in self._neighbours() if isinstance(broken, Silent) else [self]:
                each._lose(str(broken))
            raise DatabaseUnavailable(explain(self._address.place, str(broken))) from broken
        except Refused as refused:
            reason = explain(self._address.place, str(refused), refused.sqlstate)
            if refused.sqlstate in _GONE:
                self._lose(str(refused))
                raise DatabaseUnavailable(reason) from refused
            if refused.sqlstate in _BUSY:
                self._busy, self._busy_until = reason, monotonic() + BUSY_PAUSE_S
            if refused.sqlstate.startswith(_TROUBLE):
                raise DatabaseUnavailable(reason) from refused
            raise StatementFailed(f"{refused} (SQLSTATE {refused.sqlstate})") from refused

    def _neighbours(self) -> "list[PostgresDatabase]":
        """All at the same server, this one included. Whoever waits keeps the loop from everybody else, so a server that
        says nothing is waited for once."""
        return [each for each in _all if each._address == self._address]

    def _lose(self, why: str) -> None:
        if self._session is not None:
            self._drop(why)
            self.undone += 1
            self.lost = True
            self.on_lost()

    def _drop(self, why: str) -> None:
        self._why = why
        if self._session is not None:
            self._session.close()
            self._session = None


def _close(connecting: "asyncio.Task[Session]") -> None:
    """What nobody has waited for."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
