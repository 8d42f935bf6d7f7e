"""A proxy before a server of any protocol, that stops what passes after so many bytes, counted from a given moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import cast

from tests.proxy import reset


class Way(Enum):
    UP = auto()
    """To the server."""
    DOWN = auto()


class Wires:
    """All connections through it; they pass everything until `stop`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server
        self._wires: set[_Wire] = set()
        self._left: dict[Way, int] = {}
        """Of the ways that are to be stopped, how many bytes may pass yet."""
        self._resets = False
        self.stopped = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["Wires"]:
        wires, loop = cls(port), asyncio.get_running_loop()
        wires._server = await loop.create_server(lambda: _End(_Wire(wires), Way.UP), "127.0.0.1", 0)
        try:
            yield wires
        finally:
            wires._server.close()
            wires.cut()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def stop(self, way: Way, *, after: int, resets: bool) -> None:
        """What comes on this way after so many more bytes is held back. `resets`: and both ends are reset then."""
        self._left = {way: after}
        self._resets = resets
        self.stopped.clear()

    def release(self) -> None:
        """What was held back goes on, even if who sent it has gone, and whatever comes later passes."""
        self._left = {}
        for wire in tuple(self._wires):
            wire.release()

    def cut(self) -> None:
        """Every connection is reset."""
        for wire in tuple(self._wires):
            wire.reset()

    def passing(self, way: Way, data: bytes) -> bytes:
        """What of it may pass."""
        if way not in self._left:
            return data
        passing = data[: self._left[way]]
        self._left[way] -= len(passing)
        return passing

    def note_stop(self) -> None:
        self.stopped.set()
        if self._resets:
            self._left = {}
            self.cut()


class _Wire:
    def __init__(self, wires: Wires) -> None:
        self.wires = wires
        wires._wires.add(self)
        self._ends: dict[Way, asyncio.Transport] = {}
        """By the way that begins there."""
        self._held: dict[Way, bytes] = {Way.UP: b"", Way.DOWN: b""}
        self._connecting: asyncio.Task[None] | None = None

    def join(self, way: Way, transport: asyncio.Transport) -> None:
        self._ends[way] = transport
        if way is Way.UP:
            transport.pause_reading()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _End(self, Way.DOWN), "127.0.0.1", self.wires._port
            )
        except OSError:
            self.reset()
        else:
            self._ends[Way.UP].resume_reading()

    def receive(self, way: Way, data: bytes) -> None:
        passing = b"" if self._held[way] else self.wires.passing(way, data)
        self._write(way, passing)
        if passing != data:
            self._held[way] += data[len(passing) :]
            self.wires.note_stop()

    def release(self) -> None:
        for way, data in self._held.items():
            self._write(way, data)
            self._held[way] = b""
        self._close_if_left()

    def reset(self) -> None:
        for end in self._ends.values():
            reset(end)

    def lost(self) -> None:
        self._close_if_left()
        if all(end.is_closing() for end in self._ends.values()):
            self.wires._wires.discard(self)

    def _close_if_left(self) -> None:
        """Whoever is left alone hears of it, after all that was held back for it."""
        if not any(self._held.values()) and any(end.is_closing() for end in self._ends.values()):
            for end in self._ends.values():
                end.close()

    def _write(self, way: Way, data: bytes) -> None:
        other = self._ends.get(Way.DOWN if way is Way.UP else Way.UP)
        if data and other is not None and not other.is_closing():
            other.write(data)


class _End(asyncio.Protocol):
    def __init__(self, wire: _Wire, way: Way) -> None:
        self._wire = wire
        self._way = way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire.join(self._way, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._wire.receive(self._way, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.lost()
