"""A connection to PostgreSQL that is used as libpq's pipeline: callbacks of the event loop, no thread, and no task for
a request. Requests are answered in their order, and whoever no longer waits for one takes nothing from the others.

Psycopg's own cursors cost 33 µs of CPU for an event of an append of 30, in a thread or on the loop; this, with arrays
in binary, costs 4.
"""

import asyncio
import select
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

import msgspec
import psycopg
from psycopg.errors import Diagnostic
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult

from domain.log import StoreUnavailable

CLOSED: Final = "the log was closed"

RECONNECT_PAUSE_S: Final = 0.1
"""After a failed try to connect, how long the same failure is the answer to whoever asks."""


Answer = asyncio.Future[list[PGresult]]


class Query(msgspec.Struct, frozen=True):
    name: bytes
    """Of a prepared statement."""
    parameters: Sequence[bytes] = ()
    """In PostgreSQL's binary formats."""


class Broken(Exception):
    """The connection was lost, or given up, before the request was answered whole."""

    def __init__(self, reason: str, results: Sequence[PGresult]) -> None:
        super().__init__(reason)
        self.results = results
        """What was answered, to the first queries of the request."""


class Session:
    """One connection, from `connect` to `end`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], heard: Callable[[int], None]) -> None:
        """`heard` is called with the id of the server process that sent a notification."""
        self.ended: str | None = None
        """Why, once it has."""
        self.listens = False
        """LISTEN was sent."""
        self._connection = connection
        self._pgconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._asked: deque[Answer] = deque()
        self._results: list[PGresult] = []
        """Of the first request that is not answered yet."""
        self.pid = self._pgconn.backend_pid
        """Of the server process."""
        self._farewell = ""
        """What the server said, unasked, when it ended the connection."""
        connection.add_notice_handler(self._note)
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._read)

    @classmethod
    async def connect(cls, conninfo: str, heard: Callable[[int], None]) -> "Session":
        """Raises psycopg.Error."""
        return cls(await psycopg.AsyncConnection.connect(conninfo, autocommit=True), heard)

    @property
    def server_version(self) -> int:
        """180004 for 18.4."""
        return self._pgconn.server_version

    def set_up(self, settings: bytes, statements: Mapping[bytes, bytes]) -> Answer:
        """A query that sets the session's settings, and the statements that may be asked by their names."""

        def send() -> None:
            self._pgconn.send_query_params(settings, None)
            for name, statement in statements.items():
                self._pgconn.send_prepare(name, statement)

        return self._ask(send)

    def ask(self, *queries: Query) -> Answer:
        """Their results, one for each query; after the first that fails, those of the others say that they were left
        out. Raises Broken."""

        def send() -> None:
            for query in queries:
                formats = [Format.BINARY] * len(query.parameters)
                self._pgconn.send_query_prepared(query.name, query.parameters, formats, Format.BINARY)

        return self._ask(send)

    def check(self) -> None:
        """Ends it where the server has closed it and the loop had no time to notice."""
        if self.ended is None and not self._asked:
            self._read()

    def end(self, reason: str) -> None:
        """Whoever waits gets Broken; what was sent may still be done by the server."""
        if self.ended is not None:
            return
        self.ended = reason
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._pgconn.finish()
        results, self._results = self._results, []
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(Broken(reason, results))
            results = []
        self._asked.clear()

    def _ask(self, send: Callable[[], None]) -> Answer:
        answer: Answer = self._loop.create_future()
        if self.ended is not None:
            answer.set_exception(Broken(self.ended, []))
            return answer
        self._asked.append(answer)
        try:
            send()
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.Error as error:
            self.end(str(error))
        return answer

    def _flush(self) -> None:
        if self._pgconn.flush():
            self._loop.add_writer(self._socket, self._write)

    def _write(self) -> None:
        try:
            if not self._pgconn.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self.end(str(error))

    def _read(self) -> None:
        lost = self._take_in()
        # libuv tells of a reset once, and watches no longer: what has come together with the last bytes is read now.
        while self._asked and not lost and self._readable.poll(0):
            lost = self._take_in()
        while (notification := self._pgconn.notifies()) is not None:
            self._heard(notification.be_pid)
        if lost or self._farewell or self._pgconn.status != ConnStatus.OK:
            self.end(self._farewell or lost or self._pgconn.get_error_message())

    def _take_in(self) -> str:
        """Reads what is there, and answers what is answered by it; why the connection is lost, or nothing."""
        try:
            self._pgconn.consume_input()
        except psycopg.Error as error:
            lost = str(error)
        else:
            lost = ""
        self._settle()  # What came before the end still counts.
        return lost

    def _note(self, notice: Diagnostic) -> None:
        # The end itself may come a moment later.
        if notice.severity_nonlocalized == "FATAL":
            self._farewell = notice.message_primary or "the server ended the connection"

    def _settle(self) -> None:
        while self._asked and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:  # It ends the answer to each query.
                if self._pgconn.status != ConnStatus.OK:
                    return
            elif result.status == ExecStatus.PIPELINE_SYNC:
                answer, results = self._asked.popleft(), self._results
                self._results = []
                if not answer.done():
                    answer.set_result(results)
            else:
                self._results.append(result)


class Link:
    """The session of one purpose: made when it is needed, and anew after it has ended."""

    def __init__(self, connect: Callable[[], Awaitable[Session]]) -> None:
        """`connect` raises StoreUnavailable."""
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._current: Session | None = None
        self._failure = ""
        self._failed_at = -RECONNECT_PAUSE_S
        self._closed = False

    async def session(self) -> Session:
        """Raises StoreUnavailable."""
        if (session := self._alive()) is not None:
            return session
        async with self._connecting:
            if (session := self._alive()) is not None:
                return session
            self._check_open()
            if monotonic() < self._failed_at + RECONNECT_PAUSE_S:
                raise StoreUnavailable(self._failure)
            try:
                self._current = await self._connect()
            except StoreUnavailable as failure:
                self._failure, self._failed_at = str(failure), monotonic()
                raise
            if self._closed:  # meanwhile
                self._current.end(CLOSED)
            self._check_open()
            return self._current

    @property
    def pid(self) -> int:
        """Of the server process; 0 without one."""
        return 0 if self._current is None or self._current.ended is not None else self._current.pid

    def close(self) -> None:
        self._closed = True
        if self._current is not None:
            self._current.end(CLOSED)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(CLOSED)

    def _alive(self) -> Session | None:
        if self._current is None:
            return None
        self._current.check()
        return self._current if self._current.ended is None else None
