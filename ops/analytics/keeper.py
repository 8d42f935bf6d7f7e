"""The process that has the embedded ClickHouse (chDB) open: `python -m ops.analytics.keeper FOLDER`.

chDB lets one process open a folder, so this one does it for all who ask, each by a connection and with a thread of its
own. It begins when somebody asks, and ends when nobody is connected any more: nothing is left to be stopped.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, assert_never

import msgspec

from ops import control
from ops.alone import Taken, alone
from ops.analytics import frames
from ops.analytics.clickhouse import DATABASE, ClickHouse, ask_embedded
from ops.analytics.place import STORE
from ops.analytics.warehouse import WarehouseError
from ops.errors import OpsError

_LOCK: Final = "keeper.lock"
ASK_MAX_S: Final = 60.0
ASK_BYTES_MAX: Final = 6 * 2**30
"""Of this process, while raw SQL is asked."""
_WATCH_EVERY_S: Final = 0.2
FIRST_MAX_S: Final = 30.0
"""How long it waits for whoever started it."""


class Keeper:
    def __init__(self, folder: Path) -> None:
        self._store = folder / STORE
        self._turn = threading.Condition()
        self._connected = 0
        self._anybody_came = False
        self._ended = False
        self._loading = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        """Until nobody is connected any more, or nobody came."""
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        with self._turn:
            self._turn.wait_for(lambda: self._anybody_came, FIRST_MAX_S)
            self._turn.wait_for(lambda: not self._connected)
            self._ended = True
        # Also for the thread that waits in `accept`, which would else let one more in.
        listener.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # it is shut down
            while True:
                connected, _ = listener.accept()
                with self._turn:
                    if self._ended:
                        # Whoever comes now is not answered, and asks the next keeper.
                        connected.close()
                        return
                    self._connected += 1
                    self._anybody_came = True
                    self._turn.notify_all()
                threading.Thread(target=self._talk, args=(Connection(connected.detach()),), daemon=True).start()

    def _talk(self, connection: Connection) -> None:
        try:
            with connection, suppress(EOFError, OSError, msgspec.DecodeError):
                hello = frames.receive_request(connection)
                if isinstance(hello, frames.Hello):
                    with self._in_role(hello.role):
                        self._answer_all(connection)
        finally:
            with self._turn:
                self._connected -= 1
                self._turn.notify_all()

    @contextmanager
    def _in_role(self, role: frames.Role) -> Iterator[None]:
        if role == "loader":
            # The thread of one who is gone ends when it has done all that was asked of it.
            with self._loading:
                yield
        else:
            yield

    def _answer_all(self, connection: Connection) -> None:
        clickhouse = ClickHouse.embedded(self._store)
        clickhouse.use(DATABASE)
        frames.send(connection, frames.Done())
        try:
            while True:
                frames.send(connection, self._answer(clickhouse, frames.receive_request(connection)))
        finally:
            clickhouse.close()

    def _answer(self, clickhouse: ClickHouse, request: frames.Request) -> frames.Reply:
        try:
            match request:
                case frames.Command(sql=sql):
                    clickhouse.command(sql)
                    return frames.Done()
                case frames.Insert(table=table, columns=columns, rows=rows):
                    clickhouse.insert(table, columns, rows)
                    return frames.Done()
                case frames.ReadUpto(position=position):
                    clickhouse.read_upto(position)
                    return frames.Done()
                case frames.Select(sql=sql, parameters=parameters):
                    return frames.Done(clickhouse.select_raw(sql, parameters))
                case frames.Ask(sql=sql):
                    with watched():
                        return frames.Done(msgspec.json.encode(ask_embedded(self._store, sql, clickhouse.upto)))
                case frames.Hello():
                    return frames.Failed("it was said already who asks")
                case _:
                    assert_never(request)
        except WarehouseError as error:
            return frames.Failed(str(error), error.code)
        except OpsError as error:
            return frames.Failed(str(error))


@contextmanager
def watched() -> Iterator[None]:
    """Ends this process where what is within takes too long or too much: ClickHouse looks at the time between blocks of
    rows, and at the memory of each part alone. Whoever else asks starts another keeper."""
    done, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not done.wait(_WATCH_EVERY_S):
            if time.monotonic() - began > ASK_MAX_S or _resident_bytes() > ASK_BYTES_MAX:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _resident_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # macOS has no such file
        return 0


def main(folder: Path) -> None:
    """Returns at once where there is a keeper already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (
        suppress(Taken),
        alone(folder / _LOCK, "there is a keeper already"),
        # Before anybody connects: that it can't be opened is told on stderr.
        closing(ClickHouse.embedded(folder / STORE)) as clickhouse,
        control.bind(folder / frames.SOCKET) as listener,
    ):
        clickhouse.make(DATABASE)
        listener.listen()
        Keeper(folder).serve(listener)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
