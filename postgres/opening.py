"""How one begins with a server: it is looked at, within a deadline."""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Timer
from typing import Any, Final, NoReturn

import psycopg

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

    def value(self, query: str, *parameters: object) -> Any:
        """The one value that the query gives."""
        row = self._connection.execute(query.encode(), parameters or None).fetchone()
        assert row is not None
        return row[0]

    @abstractmethod
    def refuse(self, reason: str) -> NoReturn: ...
