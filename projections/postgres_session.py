"""A connection to PostgreSQL that is used as libpq's pipeline, in the caller's thread: statements are sent one after
the other, and their answers are waited for together.

Values go in binary, as their statement's description wants them: psycopg's cursors cost several times as much CPU for
a row.
"""

import select
from collections import deque
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Any, Final

import msgspec
import psycopg
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGresult

from projections.database import Params, Row
from projections.postgres_sql import translated

SILENCE_MAX_S: Final = 1.5
"""How long the server may say nothing to whoever waits; then the connection is given up. More than a statement may
take."""


def _bytea(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"bytes are wanted, not {type(value).__name__}")
    return value


_ENCODERS: Final[dict[int, Callable[[Any], bytes]]] = {
    17: _bytea, 20: Struct(">q").pack, 23: Struct(">i").pack, 25: str.encode,
}  # fmt: skip
"""By the OID of the type: bytea, bigint, integer, text."""


class Broken(Exception):
    """The connection is lost, or was given up."""


class Silent(Broken):
    """The server no longer answers."""


class Refused(Exception):
    """A statement failed; those that were sent after it, up to the wait for their answers, were left out."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class _Statement(msgspec.Struct, frozen=True):
    name: bytes
    encoders: list[Callable[[Any], bytes]]
    formats: list[Format]

    def encoded(self, params: Params) -> list[bytes | None]:
        if len(params) != len(self.encoders):
            raise ValueError(f"{len(params)} values were given, and the statement has {len(self.encoders)}")
        return [
            None if value is None else encode(value) for encode, value in zip(self.encoders, params, strict=True)
        ]  # fmt: skip


class Session:
    """One connection, from here to `close`. Everything raises Broken, after which it is of no use any more, and what
    waits for answers raises Refused."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """`connection` is set up, in autocommit mode, and this session's from now on."""
        self._connection = connection
        self._pgconn = connection.pgconn
        self._statements: dict[str, _Statement] = {}
        self._loader = Transformer(connection)
        self._pending = 0
        """So many statements were sent since the last wait."""
        self._readable, self._both = select.poll(), select.poll()
        self._readable.register(self._pgconn.socket, select.POLLIN)
        self._both.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()

    def send(self, sql: str, params: Params = ()) -> None:
        """Without values a statement is not kept prepared."""
        if params:
            self.send_each(sql, (params,))
            return
        self._pending += 1
        try:
            self._pgconn.send_query_params(translated(sql), None, result_format=Format.BINARY)
        except psycopg.Error as error:
            raise Broken(str(error)) from error

    def send_each(self, sql: str, rows: Iterable[Params]) -> int:
        """How many they are."""
        statement = self._statements.get(sql) or self._prepare(sql)
        send, name, formats = self._pgconn.send_query_prepared, statement.name, statement.formats
        encoded = [statement.encoded(params) for params in rows]  # What can't be encoded leaves nothing half sent.
        self._pending += len(encoded)
        try:
            for values in encoded:
                send(name, values, formats, Format.BINARY)
        except psycopg.Error as error:
            raise Broken(str(error)) from error
        return len(encoded)

    def settle(self, *, keep: int = 0, patiently: bool = False) -> list[PGresult]:
        """Waits for all answers, `patiently` however long that may take; the last `keep` of them. Raises Refused for
        the first that failed."""
        if not self._pending:
            return []
        try:
            self._pgconn.pipeline_sync()
            self._flush(patiently)
            return self._collect(keep, patiently)
        except Refused:
            raise
        except psycopg.Error as error:
            raise Broken(str(error)) from error
        except BaseException:
            # Somebody pressed Ctrl-C, say: what is still to come would be taken for the answers to later statements.
            self.close()
            raise

    def rows(self, result: PGresult) -> list[Row]:
        self._loader.set_pgresult(result)
        return self._loader.load_rows(0, result.ntuples, tuple)

    def close(self) -> None:
        self._connection.close()

    def _prepare(self, sql: str) -> _Statement:
        self.settle()
        name = b"s%d" % len(self._statements)
        try:
            self._pgconn.send_prepare(name, translated(sql))
            self._pgconn.send_describe_prepared(name)
        except psycopg.Error as error:
            raise Broken(str(error)) from error
        self._pending += 2
        [described] = self.settle(keep=1)
        types = [described.param_type(number) for number in range(described.nparams)]
        statement = _Statement(name, [_ENCODERS[each] for each in types], [Format.BINARY] * len(types))
        self._statements[sql] = statement
        return statement

    def _flush(self, patiently: bool) -> None:
        while self._pgconn.flush():
            # It may itself wait until somebody takes its answers.
            self._wait(self._both, patiently)
            self._pgconn.consume_input()

    def _collect(self, keep: int, patiently: bool) -> list[PGresult]:
        kept: deque[PGresult] = deque(maxlen=keep)
        refused: Refused | None = None
        pgconn = self._pgconn
        while True:
            while pgconn.is_busy():
                self._wait(self._readable, patiently)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:  # It ends the answer to each statement.
                if pgconn.status != ConnStatus.OK:
                    raise Broken(str(refused or pgconn.get_error_message()))
                continue
            status = result.status
            if status == ExecStatus.PIPELINE_SYNC:
                break
            if status == ExecStatus.FATAL_ERROR and refused is None:
                refused = _refused(result)
            kept.append(result)
        self._pending = 0
        if refused is not None:
            raise refused
        return list(kept)

    def _wait(self, for_what: select.poll, patiently: bool) -> None:
        if not for_what.poll(None if patiently else SILENCE_MAX_S * 1_000):
            raise Silent(f"no answer within {SILENCE_MAX_S:g} s")


def _refused(result: PGresult) -> Refused:
    state = result.error_field(DiagnosticField.SQLSTATE) or b""
    return Refused(result.get_error_message(), state.decode())
