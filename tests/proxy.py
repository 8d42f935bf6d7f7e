"""A proxy between a client and an engine that delays, drops and cuts, at any byte or between any two frames.

The fault is for one live connection; every other one passes as it is. A cut never shows as a FIN: peers get a
reset, or hear nothing more while their sockets stay open.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Final, cast

import msgspec

LIVE: Final = b"GET /v1/live"
_HANDSHAKE_END: Final = b"\r\n\r\n"
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
"""At the close nothing is waited for, and the peer gets a reset in place of a FIN."""


class Side(Enum):
    """Whose bytes."""

    CLIENT = auto()
    SERVER = auto()

    @property
    def other(self) -> "Side":
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


class How(Enum):
    RESET = auto()
    """Both sides are reset."""
    HALF = auto()
    """The side whose bytes are counted is reset; the other one hears nothing more."""
    SILENCE = auto()
    """Neither side hears anything more."""
    DROP = auto()
    """The bytes of the side that is counted go nowhere; those of the other one still arrive."""
    DELAY = auto()
    """The bytes of the side that is counted come later."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Exactly one of `frames` and `bytes` is given."""

    side: Side
    how: How
    frames: int | None = None
    """After so many WebSocket frames of this side; 0: right after its half of the handshake."""
    bytes: int | None = None
    """After so many bytes of this side, the handshake included."""
    delay_s: float = 0.0


class Meter:
    """Counts the bytes and frames of one side of a live connection."""

    def __init__(self) -> None:
        self.bytes = 0
        self.frames = -1
        """-1 before the end of the handshake."""
        self._head = bytearray()
        """What is known of the handshake, or of the head of a frame."""
        self._payload = 0
        """How much of a frame's payload is to come."""

    def boundaries(self, data: bytes) -> Iterator[int]:
        """The offsets in `data` right after which a frame, or the handshake, has ended; `frames` counts along."""
        offset = 0
        while offset < len(data):
            # A payload in one step: byte by byte the proxy would cost more than the client behind it.
            start, offset = offset, offset + (min(self._payload, len(data) - offset) or 1)
            self.bytes += offset - start
            if self._ends_with(data[start:offset]):
                self.frames += 1
                yield offset

    def _ends_with(self, part: bytes) -> bool:
        if self._payload:
            self._payload -= len(part)
            return not self._payload
        self._head += part
        if self.frames < 0:
            ended = self._head.endswith(_HANDSHAKE_END)
        elif (length := _payload_length(self._head)) is None:
            return False
        else:
            self._payload, ended = length, not length
        if ended or self._payload:
            self._head.clear()
        return ended


def _payload_length(head: bytearray) -> int | None:
    """None where the head is not whole (RFC 6455, 5.2)."""
    if len(head) < 2:
        return None
    short = head[1] & 0x7F
    extra = {126: 2, 127: 8}.get(short, 0)
    if len(head) < 2 + extra + (4 if head[1] & 0x80 else 0):
        return None
    return int.from_bytes(head[2 : 2 + extra], "big") if extra else short


class Proxy:
    """Listens on a port of its own."""

    def __init__(self, port: int, fault: Fault | None) -> None:
        self._port = port
        self._fault = fault
        self._server: asyncio.Server
        self._lines: set[_Line] = set()
        self.fired = asyncio.Event()
        self.lives: list[dict[Side, Meter]] = []
        """Of each live connection, what has passed."""

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int, fault: Fault | None = None) -> AsyncIterator["Proxy"]:
        proxy, loop = cls(port, fault), asyncio.get_running_loop()
        proxy._server = await loop.create_server(lambda: _End(_Line(proxy), Side.CLIENT), "127.0.0.1", 0)
        try:
            yield proxy
        finally:
            proxy._server.close()
            proxy.cut()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Every connection is reset, whatever is under way."""
        for line in tuple(self._lines):
            line.reset(*Side)

    def take_fault(self) -> Fault | None:
        fault, self._fault = self._fault, None
        return fault

    def give_back(self, fault: Fault) -> None:
        self._fault = fault


class _Line:
    """One connection through the proxy: its two ends."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        proxy._lines.add(self)
        self._ends: dict[Side, asyncio.Transport] = {}
        self._meters: dict[Side, Meter] | None = None
        """None: it is not live, or nothing of it has come yet."""
        self._fault: Fault | None = None
        self._deaf: set[Side] = set()
        """Those who hear nothing more."""
        self._later: dict[Side, list[bytes]] = {}
        """By the side whose bytes are delayed."""
        self._connecting: asyncio.Task[None] | None = None

    def join(self, side: Side, transport: asyncio.Transport) -> None:
        self._ends[side] = transport
        if side is Side.CLIENT:
            transport.pause_reading()
            self._connecting = asyncio.get_running_loop().create_task(self._connect())
        elif self._ends[Side.CLIENT].is_closing():
            transport.close()

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _End(self, Side.SERVER), "127.0.0.1", self.proxy._port
            )
        except OSError:
            self.reset(Side.CLIENT)
        else:
            if not self._ends[Side.CLIENT].is_closing():
                self._ends[Side.CLIENT].resume_reading()

    def receive(self, side: Side, data: bytes) -> None:
        if self._meters is None and side is Side.CLIENT and data.startswith(LIVE):
            self._meters = {each: Meter() for each in Side}
            self.proxy.lives.append(self._meters)
            self._fault = self.proxy.take_fault()
        if self._meters is None:
            self._pass(side, data)
            return
        at = self._find_fault(side, self._meters[side], data)
        if at is None:
            self._pass(side, data)
            return
        self._pass(side, data[:at])
        self._do(cast(Fault, self._fault))
        self._pass(side, data[at:])

    def _find_fault(self, side: Side, meter: Meter, data: bytes) -> int | None:
        """The offset at which it comes."""
        before, found = meter.bytes, None
        fault = self._fault if self._fault is not None and self._fault.side is side else None
        for offset in meter.boundaries(data):
            if fault is not None and meter.frames == fault.frames:
                found = offset
        if fault is not None and fault.bytes is not None and before <= fault.bytes < meter.bytes:
            found = fault.bytes - before
        return found

    def _pass(self, side: Side, data: bytes) -> None:
        if side in self._later:
            self._later[side].append(data)
        elif data and side.other not in self._deaf:
            self._ends[side.other].write(data)

    def _do(self, fault: Fault) -> None:
        self._fault = None
        self.proxy.fired.set()
        match fault.how:
            case How.RESET:
                self.reset(*Side)
            case How.HALF:
                self._deaf.update(Side)
                self.reset(fault.side)
            case How.SILENCE:
                self._deaf.update(Side)
            case How.DROP:
                self._deaf.add(fault.side.other)
            case How.DELAY:
                self._later[fault.side] = []
                asyncio.get_running_loop().call_later(fault.delay_s, self._let_go, fault.side)

    def _let_go(self, side: Side) -> None:
        data = b"".join(self._later.pop(side))
        self._pass(side, data)

    def reset(self, *sides: Side) -> None:
        for side in sides:
            if side in self._ends:
                reset(self._ends[side])

    def lost(self, side: Side) -> None:
        """One end is closed; the other one closes too, unless it is not to hear of it. A fault that has not come is for
        the next live connection."""
        if self._fault is not None:
            self.proxy.give_back(self._fault)
            self._fault = None
        if side.other not in self._deaf and side.other in self._ends:
            self._ends[side.other].close()
        if all(end.is_closing() for end in self._ends.values()):
            self.proxy._lines.discard(self)


class _End(asyncio.Protocol):
    def __init__(self, line: _Line, side: Side) -> None:
        self._line = line
        self._side = side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._line.join(self._side, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._line.receive(self._side, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.lost(self._side)


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection so that its peer gets a reset, and no FIN."""
    if transport.is_closing():
        return
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()
