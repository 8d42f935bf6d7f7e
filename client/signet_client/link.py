"""One connection after another to the same server: opens it, watches that it gets on, says how it ended."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from signet_client import connection as ws
from signet_client import wire
from signet_client.connection import Close, Connection

CONNECT_TIMEOUT_S: Final = 10.0
WATCH_EVERY_S: Final = 15.0
"""How often it is asked whether the connection gets on."""


class Link:
    """The present connection, if there is one."""

    def __init__(
        self, url: str, on_frames: Callable[[list[wire.ServerFrame]], None], stuck: Callable[[], str | None]
    ) -> None:
        """`on_frames` must not raise; `stuck` says why the connection is to be given up, or None."""
        self._url = live_url(url)
        self._on_frames = on_frames
        self._stuck = stuck
        self._connection: Connection | None = None

    async def stay_connected(self) -> Close:
        """Connects, and returns when that has ended, one way or the other."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                connection = self._connection = await ws.connect(self._url, self._receive)
        except (OSError, TimeoutError) as error:
            return Close(ws.ABNORMAL, str(error) or "the connection attempt timed out")
        watch = asyncio.create_task(self._watch(connection))
        try:
            return await asyncio.shield(connection.closed)
        except asyncio.CancelledError:
            connection.close()
            await connection.closed
            raise
        finally:
            watch.cancel()
            self._connection = None

    async def _watch(self, connection: Connection) -> None:
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if (why := self._stuck()) is not None:
                connection.abort(why)

    def _receive(self, connection: Connection, frames: list[wire.ServerFrame]) -> None:
        # The challenge may come before the task that connects has gone on.
        self._connection = connection
        self._on_frames(frames)

    def send(self, frames: Iterable[wire.ClientFrame]) -> None:
        """What is sent while there is no connection goes nowhere."""
        if self._connection is not None:
            self._connection.send(frames)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def abort(self, text: str) -> None:
        if self._connection is not None:
            self._connection.abort(text)


def live_url(url: str) -> str:
    """Where a server's WebSocket is."""
    return "ws" + url.removeprefix("http").rstrip("/") + "/v1/live"
