"""The live path's socket: moves bytes between the transport and the protocol, and owns all timeouts.

The class stands behind uvicorn's `ws` option: uvicorn reads the request, makes an instance, calls `connection_made`,
hands over the request's bytes, and sets it as the transport's protocol. It stands outside ASGI, so what uvicorn does
for others is done here: pings, closing, a deadline for the hello, slow readers, and `shutdown`.
"""

import asyncio
import logging
import random
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

from uvicorn.server import ServerState
from websockets.frames import CloseCode

from gateways.acks import Acks
from gateways.connection import COMMANDS_MAX, Connection
from gateways.gate import Gate
from gateways.protocol import END, OPENED, PING, FrameProtocol, encode
from gateways.services import Services
from gateways.turnstile import Voice
from gateways.wheel import Wheel
from signet_client import wire
from signet_client.codes import DISCONNECTS, Disconnect

_log = logging.getLogger("signet.live")

OUTBOX_BYTES_MAX: Final = 65_536
"""How much may gather in one turn of the loop before it is written."""

FRAMES_MAX: Final = 32
SLICE_BYTES: Final = 32_768
"""How many frames, and about how many bytes, of a connection are taken in one turn of the loop; where more have come,
it is held."""

FRAMES_FEW: Final = 8
SLICE_BYTES_FEW: Final = 8_192
"""Likewise in a short turn."""

SEND_BUFFER_BYTES: Final = 65_536
"""Of the kernel, which doubles it. By itself it would take megabytes in before a device that reads nothing shows."""

_REVOKED: Final = DISCONNECTS["revoked"].number
_CODES: Final = {each.number: each.code for each in DISCONNECTS.values()}
_RESYNC: Final = encode(wire.Resync())


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """In seconds."""

    hello: float = 10
    """From the handshake to the hello."""
    ping: tuple[float, float] = (20, 25)
    """Between two pings, at random within these bounds. Who has sent nothing at all in between is gone."""
    slow: float = 30
    """How long a device may read nothing while something waits for it."""
    answers: float = 3
    """How long a stop waits until the commands that were taken in are answered."""
    close: float = 5
    """From our close to the end of the connection; then it is cut."""
    tick: float = 1
    """How precise all of this is."""


class _Shared:
    """What all connections of one server share."""

    __slots__ = ("acks", "courtesy", "dirty", "gate", "held", "services", "timeouts", "wheel")

    def __init__(self, services: Services, timeouts: Timeouts) -> None:
        self.services = services
        self.timeouts = timeouts
        self.acks = Acks(services.writer)
        self.gate = Gate(services.settings, services.server_name)
        self.wheel = Wheel(tick_s=timeouts.tick)
        self.held = services.turnstiles.held
        self.courtesy = services.turnstiles.courtesy
        self.dirty: list[LiveProtocol] = []
        """Those that have something to write at the end of this turn of the loop."""

    def flush_soon(self, link: "LiveProtocol") -> None:
        if not self.dirty:
            asyncio.get_running_loop().call_soon(self._flush)
        self.dirty.append(link)

    def _flush(self) -> None:
        dirty, self.dirty = self.dirty, []
        for link in dirty:
            try:
                link.flush()
            except Exception:
                _log.exception("a write failed")


class LiveProtocol(asyncio.Protocol):
    """One connection's socket. What the frames mean, and what goes back, is the affair of its `Connection`."""

    __slots__ = (
        "_alive", "_closing", "_connection", "_drained", "_frames", "_held", "_missed", "_outbox", "_outbox_bytes",
        "_server_state", "_shared", "_stopping", "_transport", "_voice", "address", "patient", "slow", "wheel_slot",
    )  # fmt: skip

    def __init__(self, shared: _Shared, server_state: ServerState) -> None:
        self._shared = shared
        self._server_state = server_state
        self._frames = FrameProtocol(frame_bytes_max=shared.services.settings.frame_bytes_max, gate=shared.gate)
        self._connection: Connection | None = None
        """None before the handshake is done."""
        self._transport: asyncio.Transport
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._alive = True
        """Something has come since the last visit."""
        self._closing = False
        self._held = False
        """Reading is paused, since more has come than is taken in one turn, or than may be unanswered."""
        self._stopping = False
        self._missed = False
        self._drained: asyncio.Future[None] | None = None
        self._voice = Voice()
        self.address = ""
        """The client's, behind a trusted proxy too."""
        self.slow = False
        self.patient = False
        self.wheel_slot = -1

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # uvicorn asks for `shutdown` alone

    def data_received(self, data: bytes) -> None:
        if not self._closing:
            self._alive = True
            self._take(data, waited=False)

    def pause_writing(self) -> None:
        """The device reads too slowly: pushes to it are dropped, and nothing is read from it, so that answers don't
        pile up either."""
        self.slow = True
        counts = self._shared.services.counts
        counts.slow += 1
        counts.slow_readers += 1
        self._transport.pause_reading()
        if not self._closing and not self._stopping:
            self._shared.wheel.put(self, self._shared.timeouts.slow)

    def resume_writing(self) -> None:
        self.slow = False
        self._shared.services.counts.slow -= 1
        self._alive = True
        if self._held:
            self._shared.held.wait(self._take_more)
        else:
            self._transport.resume_reading()
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None
        if self._closing or self._stopping:
            return
        self._shared.wheel.put(self, self._until_ping())
        if self._missed:
            self._missed = False
            self._shared.services.counts.resyncs += 1
            self.write(_RESYNC)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._shared.services.counts.slow -= self.slow
        self._outbox.clear()
        self._server_state.connections.discard(self)
        self._shared.wheel.drop(self)
        # No cycles are left behind: where many come and go, the garbage collector would stop everybody for long.
        self._frames.let_go()
        if self._connection is not None:
            self._shared.services.limits.disconnect(self.address)
            self._connection.end()
            self._connection = None

    # What uvicorn calls

    def shutdown(self) -> None:
        """Nothing more is taken in; what was is answered first."""
        if self._connection is None or self._connection.finish() or self._closing:
            self.close(DISCONNECTS["restarting"])
            return
        self._stopping = self._held = True
        self._transport.pause_reading()
        self._shared.wheel.put(self, self._shared.timeouts.answers)

    # What the connection calls

    def write(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._outbox:
            self._shared.flush_soon(self)
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if self._outbox_bytes > OUTBOX_BYTES_MAX:
            # Now, or a batch of large messages would be all in before the socket can say that it is full.
            self.flush()

    def miss(self) -> None:
        self._missed = True

    def go_on(self) -> None:
        if self._stopping:
            self.close(DISCONNECTS["restarting"])
        elif self._held:
            self._shared.held.wait(self._take_more)

    def trust(self) -> None:
        self._frames.expect_extras()

    async def drained(self) -> None:
        self.flush()
        await asyncio.sleep(0)
        while self.slow:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def close(self, disconnect: Disconnect) -> None:
        if not self._closing:
            self._frames.close(disconnect)
            self._emit()
            if disconnect.number == _REVOKED:
                # It gets no time to read what still waits for it.
                self._shared.wheel.put(self, self._shared.timeouts.tick)

    # What is due

    def due(self) -> float | None:
        """Called by the wheel."""
        if self._closing:
            self._transport.abort()
            return None
        if self._stopping:
            self.close(DISCONNECTS["restarting"])
            return None
        if self.slow:
            # Before the next question: nothing was read from it meanwhile, so it may well be alive.
            self.close(DISCONNECTS["slow_reader"])
            return None
        if not self._alive and not self._held:
            self._transport.abort()
            return None
        if self._connection is None or self._connection.silent:
            self.close(DISCONNECTS["no_hello"])
            return None
        self._alive = False
        self._frames.expect_extras()
        self.write(PING)
        return self._until_ping()

    def _until_ping(self) -> float:
        return random.uniform(*self._shared.timeouts.ping)

    # Reading

    def _take(self, data: bytes, *, waited: bool) -> None:
        """A turn of the loop belongs to all connections: each gets so many frames of it; in a short one, who says much
        gets some only after it has `waited` for its own."""
        window = COMMANDS_MAX if self._connection is None else self._connection.window
        most, slice_bytes = FRAMES_MAX, SLICE_BYTES
        short = self._shared.courtesy.due
        self.patient = short and self._voice.says_much
        if short:
            most, slice_bytes = FRAMES_FEW, SLICE_BYTES_FEW
            if self.patient and not waited:
                most = 0
        frames = self._frames.receive(data, min(most, window), slice_bytes)
        for frame in frames:
            if frame is OPENED:
                self._emit()
                self._open()
            elif self._connection is not None and not self._closing:
                self._connection.receive(frame)
        self._emit()
        # How long turns are is not for strangers to say.
        known = self._connection is not None and self._connection.account
        if frames and known and self._voice.says_little(len(frames)):
            self._shared.courtesy.heard()
        if self._frames.behind and not self._closing:
            self._hold()

    def _hold(self) -> None:
        self._held = True
        self._transport.pause_reading()
        if self._connection is None or self._connection.window > 0:
            self.go_on()
        # Else the connection says so when an answer has left.

    def _take_more(self) -> None:
        if not self._held or self.slow or self._stopping or self._closing:
            return
        self._held = False
        self._take(b"", waited=True)
        if not self._held and not self.slow:
            self._transport.resume_reading()

    # Writing

    def flush(self) -> None:
        """One write for whatever has come together."""
        if self._outbox:
            data = b"".join(self._outbox)
            self._outbox.clear()
            self._outbox_bytes = 0
            self._transport.write(data)

    def _open(self) -> None:
        self.address = self._shared.gate.client(self.address, self._frames.forwarded)
        self._frames.forwarded = ()
        if not self._shared.services.limits.connect(self.address):
            self.close(DISCONNECTS["rate_limited"])
            return
        self._connection = Connection(self._shared.services, self._shared.acks, self)
        self._shared.wheel.put(self, self._shared.timeouts.hello)
        self._connection.start()

    def _emit(self) -> None:
        """Hands on what the protocol has to say by itself: the handshake, pongs, a close."""
        for data in self._frames.to_send():
            if data == END:
                self._end()
            else:
                self.write(data)

    def _end(self) -> None:
        """Nothing more is sent. What still comes is read and discarded until the other side closes: a socket that is
        closed over unread bytes is reset, and the reset may overtake our close frame."""
        if self._closing:
            return
        self.flush()
        self._closing = True
        if (number := self._frames.closed_by_us) is not None:
            self._shared.services.counts.disconnects[_code_of(number)] += 1
        if self._connection is None:
            self._transport.close()
            return
        self._connection.end()
        if self._transport.can_write_eof():
            with suppress(OSError):  # the other side has broken it off, and the loop doesn't know yet
                self._transport.write_eof()
        self._transport.resume_reading()
        self._shared.wheel.put(self, self._shared.timeouts.close)


def _code_of(number: int) -> str:
    """Ours, or the name that WebSocket has for it."""
    return _CODES.get(number) or CloseCode(number).name.lower()


def live_protocol(services: Services, timeouts: Timeouts | None = None) -> type[asyncio.Protocol]:
    """The class for uvicorn's `ws` option."""
    shared = _Shared(services, timeouts or Timeouts())

    class Live(LiveProtocol):
        __slots__ = ()

        def __init__(self, config: Any, server_state: ServerState, app_state: Any, _loop: Any = None) -> None:
            super().__init__(shared, server_state)

    return Live
