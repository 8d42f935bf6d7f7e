"""How one begins with a server: it is looked at, within a deadline."""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Timer
from typing import Any, Final, NoReturn

import psycopg
from psycopg.sql import Identifier

SERVER_MIN: Final = 15

OPENING_MAX_S: Final = 10.0
"""From the login on. A server may fall silent then, and libpq itself would wait for ever."""

Connection = psycopg.Connection[tuple[Any, ...]]


@contextmanager
def in_time(connection: Connection) -> Iterator[None]:
    """Breaks the connection after `OPENING_MAX_S`, so that whoever waits for an answer gets psycopg's error."""
    cut = Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:

        def shut() -> None:
            cut.set()
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        timer = Timer(OPENING_MAX_S, shut)
        timer.start()
        try:
            yield
        except psycopg.Error as error:
            if cut.is_set():
                raise psycopg.OperationalError("timeout expired: after the login the server said no more") from error
            raise
        finally:
            timer.cancel()
            timer.join()


class Opening(ABC):
    """What is asked of a server before anything is kept there."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def check_server(self) -> None:
        """Its version and encoding."""
        info = self._connection.info
        if info.server_version < SERVER_MIN * 10_000:
            self.refuse(f"it is PostgreSQL {info.server_version // 10_000}: version {SERVER_MIN} or newer is needed")
        encoding = info.parameter_status("server_encoding")
        if encoding != "UTF8":
            self.refuse(f"its encoding is {encoding}: make the database with ENCODING 'UTF8'")

    def check_takes_writes(self) -> None:
        if self.value("SELECT pg_is_in_recovery()"):
            self.refuse("it is a standby: name the primary in the URL")
        if self.value("SHOW default_transaction_read_only") == "on":
            # Somebody wants it so, for a migration, say: it is not overridden.
            self.refuse(
                "it is only to be read: ALTER DATABASE (or ROLE) … SET default_transaction_read_only = off, "
                "or name another database in the URL"
            )

    def lacks_schema(self, schema: str) -> bool:
        # Not by to_regnamespace: it may tell what was so before a lock was waited for.
        return bool(self.value("SELECT count(*) = 0 FROM pg_namespace WHERE nspname = %s", schema))

    def check_may_make_tables(self, schema: str) -> None:
        """In the schema, and the schema itself where it is missing."""
        if self.lacks_schema(schema):
            if not self.value("SELECT has_database_privilege(current_database(), 'CREATE')"):
                self.refuse("this user may make no schema: GRANT CREATE ON DATABASE … to it, or name another user")
        elif not self.value("SELECT has_schema_privilege(%s, 'CREATE')", schema):
            name = Identifier(schema).as_string()
            self.refuse(f"this user may make no table: GRANT CREATE ON SCHEMA {name} TO it, or name another user")

    def value(self, query: str, *parameters: object) -> Any:
        """The one value that the query gives."""
        row = self._connection.execute(query.encode(), parameters or None).fetchone()
        assert row is not None
        return row[0]

    @abstractmethod
    def refuse(self, reason: str) -> NoReturn: ...
