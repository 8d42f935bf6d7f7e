"""Asks the keeper, and starts it where there is none."""

import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Final

from ops.analytics import frames
from ops.analytics.warehouse import Answer, Parameters, WarehouseError, WarehouseUnavailable, decode_answer
from ops.control import address_of

START_MAX_S: Final = 60.0
"""A store that was killed in the midst of much may take a while to open."""
_LOOK_EVERY_S: Final = 0.02
_LOG: Final = "keeper.log"


class Kept:
    """A connection to the embedded ClickHouse of a folder."""

    def __init__(self, folder: Path, role: frames.Role) -> None:
        """Starts the keeper where it has to; a loader waits for the one before it. Raises WarehouseUnavailable."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = _connect(folder, role)
        except OSError as error:
            raise WarehouseUnavailable(f"{folder} can't be used: {error}. Ask as the user that loads.") from error

    def command(self, sql: str) -> None:
        self._ask(frames.Command(sql))

    def insert(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        self._ask(frames.Insert(table, columns, rows))

    def settle(self) -> None:
        """Nothing to do: the keeper lets a loader in when the one before it is through."""

    def read_upto(self, position: int) -> None:
        self._ask(frames.ReadUpto(position))

    def select(self, sql: str, parameters: Parameters | None = None) -> Answer:
        return decode_answer(self._ask(frames.Select(sql, dict(parameters or {}))))

    def ask(self, sql: str) -> Answer:
        """Raw SQL, of an analyst. Raises OpsError where it may not be asked."""
        return decode_answer(self._ask(frames.Ask(sql)))

    def close(self) -> None:
        self._connection.close()

    def _ask(self, request: frames.Request) -> bytes:
        try:
            return _exchange(self._connection, request)
        except (EOFError, OSError) as error:
            raise WarehouseUnavailable(
                "the process of the embedded ClickHouse has ended meanwhile; call the same again"
            ) from error


def _connect(folder: Path, role: frames.Role) -> Connection:
    given_up = time.monotonic() + START_MAX_S
    keeper: subprocess.Popen[bytes] | None = None
    while time.monotonic() < given_up:
        connection = _try_to_connect(folder, role, given_up)
        if connection is not None:
            return connection
        # One that ended well found another one at work, which may be ending: then it is tried again.
        if keeper is None or keeper.poll() == 0:
            keeper = _start(folder)
        elif keeper.poll() is not None:
            break
        time.sleep(_LOOK_EVERY_S)  # Nothing tells when a socket begins to be listened to.
    said = (folder / _LOG).read_text(errors="replace").strip().rpartition("\n")[2]
    raise WarehouseUnavailable(
        f"the embedded ClickHouse in {folder} does not open: {said or 'nothing was said'}. Is there room on the "
        "disk? Where nothing else helps, make it anew from the log: signet analytics load --anew"
    )


def _try_to_connect(folder: Path, role: frames.Role, given_up: float) -> Connection | None:
    sock = socket(AF_UNIX)
    try:
        with address_of(folder / frames.SOCKET) as address:
            sock.connect(address)
    except OSError:
        sock.close()
        return None
    connection = Connection(sock.detach())
    try:
        frames.send(connection, frames.Hello(role))
        if not connection.poll(max(0, given_up - time.monotonic())):
            connection.close()
            raise WarehouseUnavailable(
                f"the process of the embedded ClickHouse in {folder} does not answer: `ps` shows it as "
                "ops.analytics.keeper; end it, and call the same again"
            )
        frames.receive_reply(connection)
    except (EOFError, OSError):
        connection.close()
        return None
    return connection


def _exchange(connection: Connection, request: frames.Request) -> bytes:
    frames.send(connection, request)
    reply = frames.receive_reply(connection)
    if isinstance(reply, frames.Failed):
        raise WarehouseError(reply.text, reply.code)
    return reply.answer


def _start(folder: Path) -> subprocess.Popen[bytes]:
    with (folder / _LOG).open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "ops.analytics.keeper", str(folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,  # Ctrl-C is for who asks: others may be asking, too
        )  # fmt: skip
    # It may outlive this connection; somebody must take note of its end.
    threading.Thread(target=keeper.wait, daemon=True).start()
    return keeper
