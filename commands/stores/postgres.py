"""The event log in a PostgreSQL database, for one server and for many machines.

Each append is one transaction under an exclusive lock of the table, which lets reads pass: positions become visible in
their order, so a reader never meets one late. All of it goes to the server at once, COMMIT included: the lock is never
held while a client thinks, and it is one trip there and back. The price: an append whose connection breaks is `Unknown`
from its first byte on, and not only from COMMIT on.

It runs on the event loop: in a thread, or by psycopg's cursors, the same append costs 33 µs of CPU an event, here 4.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from time import perf_counter
from typing import Final

import psycopg
from psycopg.pq.abc import PGresult

from commands.measures import SECONDS, Histogram
from commands.stores import postgres_recorder as sql
from commands.stores.postgres_errors import explain, explain_result, sqlstate
from commands.stores.postgres_opening import prepare
from commands.stores.postgres_session import Broken, Link, Query, Session
from commands.stores.postgres_url import Address, parse
from commands.stores.tail import Signal, tail
from domain.log import (
    NO_STREAM,
    START,
    Append,
    LogWentBack,
    Outcome,
    RecordedEvent,
    StoreUnavailable,
    Unavailable,
    Unknown,
)

POLL_S: Final = 0.25
"""How often a subscription looks for what no notification has told of."""

PAGE_MAX: Final = 256
"""The most events that a subscription reads at once."""

READ_TRIES: Final = 2
"""The server may have closed a connection since it was used; the second one is new."""


def open_postgres(url: str, *, read_only: bool = False) -> "PostgresLog":
    """Opens `postgresql://user:password@host:port/database`, and makes the table where there is none, but not where it
    is only to be read; blocks until the server has answered. `commands.stores.postgres_url` tells the options. Raises
    StoreError."""
    address = parse(url, read_only=read_only)
    recorder = sql.Recorder(address.schema)
    prepare(address, recorder)
    return PostgresLog(address, recorder)


def check_postgres(url: str) -> None:
    """Whether an engine could open it: makes the checks of `open_postgres`, and changes nothing. Raises StoreError,
    NoLog where the engine would make the table."""
    address = parse(url)
    prepare(address, sql.Recorder(address.schema), make=False)


class PostgresLog:
    """Two connections, one to append and one to read, made when they are needed and anew when they are lost."""

    def __init__(self, address: Address, recorder: sql.Recorder) -> None:
        """Only `open_postgres` makes one."""
        self._address = address
        self._deadline_s = address.deadline_ms / 1_000
        self._stored = Signal()
        self._turn = asyncio.Lock()
        """One append at a time: what fails in a transaction must not meet the next one."""
        self._writing = Link(lambda: self._connect(recorder.write_statements, read_only=False))
        self._reading = Link(lambda: self._connect(recorder.read_statements, read_only=True))
        self.commits = Histogram(SECONDS)
        """How long each took: the wait for the lock, the insertion, the commit, and the way there and back."""

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        if not batch:
            return []
        if self._address.read_only:
            reason = explain(self._address.place, "it was opened to be read only")
            return [Unavailable(reason=reason)] * len(batch)
        async with self._turn:
            try:
                session = await self._writing.session()
            except StoreUnavailable as error:
                return [Unavailable(reason=str(error))] * len(batch)
            outcomes = await self._append(session, batch)
        self._stored.give()
        return outcomes

    async def _append(self, session: Session, batch: Sequence[Append]) -> list[Outcome]:
        began = perf_counter()
        lost = ""
        try:
            results = await self._answer(session, sql.BEGIN, sql.LOCK, sql.insertion(batch), sql.COMMIT)
        except Broken as broken:
            results, lost = [*broken.results], str(broken)
        refused = next((number for number, result in enumerate(results) if sql.failed(result)), None)
        if refused is None and len(results) == 4:
            self.commits.observe(perf_counter() - began)
            return sql.inserted(batch, results[2])
        session.end("an append failed")  # It ends the transaction, in whatever state that is.
        if refused is None or sqlstate(results[refused]) is None:
            return [Unknown(reason=explain(self._address.place, lost))] * len(batch)
        reason = explain_result(self._address.place, results[refused])
        # A server that dies at COMMIT may have committed before.
        died_at_commit = lost and refused == 3
        return [Unknown(reason=reason) if died_at_commit else Unavailable(reason=reason)] * len(batch)

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        return sql.events(await self._read(sql.of_stream(stream, after, limit)))

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        return sql.events(await self._read(sql.of_all(after, limit)))

    async def read_last(self, limit: int) -> list[RecordedEvent]:
        return sql.events(await self._read(sql.of_last(limit)))[::-1]

    async def head(self) -> int:
        return sql.position(await self._read(sql.HEAD))

    def subscribe(self, *, after: int = START) -> AsyncGenerator[list[RecordedEvent], None]:
        return tail(self._read_next, self._stored, after=after, poll_s=POLL_S)

    async def close(self) -> None:
        self._writing.close()
        self._reading.close()
        self._stored.give()  # Subscriptions meet the closed connection, and end.

    async def _read_next(self, after: int) -> list[RecordedEvent]:
        session = await self._reading.session()
        if not session.listens:
            # Its answer comes before that of the read. A standby refuses it, and is asked by the clock alone.
            session.ask(sql.LISTEN).add_done_callback(_forget)
            session.listens = True
            # It may be another server by now: a standby that was behind, or a backup.
            if (end := await self.head()) < after:
                raise LogWentBack(
                    f"the event log at {self._address.place} ends at {end}, and was read up to {after} already: it is"
                    " another log, or an older backup of it. Restore the newer one; or, where this one is to be kept,"
                    " throw the read models away (docs/stores.md): they are made again from it."
                )
        return await self.read_all(after=after, limit=PAGE_MAX)

    def _hear(self, pid: int) -> None:
        """Of an append; its own ones are known from their outcomes."""
        if pid != self._writing.pid:
            self._stored.give()

    async def _read(self, query: Query) -> PGresult:
        lost = ""
        for _ in range(READ_TRIES):
            session = await self._reading.session()
            try:
                [result] = await self._answer(session, query)
            except Broken as broken:
                lost = str(broken)
                continue
            if sql.failed(result):
                raise StoreUnavailable(explain_result(self._address.place, result))
            return result
        raise StoreUnavailable(explain(self._address.place, lost))

    async def _answer(self, session: Session, *queries: Query) -> list[PGresult]:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await session.ask(*queries)
        except TimeoutError:
            reason = f"no answer within {self._deadline_s:g} s"
            session.end(reason)
            raise Broken(reason, []) from None

    async def _connect(self, statements: Mapping[bytes, bytes], *, read_only: bool) -> Session:
        place = self._address.place
        try:
            async with asyncio.timeout(self._address.connect_deadline_s):
                session = await Session.connect(self._address.conninfo, self._hear)
                try:
                    settings = sql.settings(self._address, session.server_version, read_only=read_only)
                    results = await session.set_up(settings, statements)
                except BaseException:
                    session.end("it could not be set up")
                    raise
        except TimeoutError:
            raise StoreUnavailable(explain(place, "timeout expired")) from None
        except (Broken, psycopg.Error) as error:
            raise StoreUnavailable(explain(place, str(error))) from error
        for result in results:
            if sql.failed(result):
                session.end("it could not be set up")
                raise StoreUnavailable(explain_result(place, result))
        return session


def _forget(answer: "asyncio.Future[list[PGresult]]") -> None:
    if not answer.cancelled():
        answer.exception()
