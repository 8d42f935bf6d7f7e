"""One live connection: moves bytes between a socket and websockets' sans-I/O protocol, gives frames and takes frames.

Frames are handed on in one call for all that came at once, in the callback of the event loop in which they came: no
task, queue or future for a frame.
"""

import asyncio
import functools
import logging
import random
import ssl
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, cast, get_args

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import BytesLike, Subprotocol
from websockets.uri import parse_uri

from signet_client import wire

PING_EVERY_S: Final = 20.0
"""With up to a quarter of jitter, so that many clients don't ping at once."""
PONG_TIMEOUT_S: Final = 10.0
"""How long after a ping nothing at all may come before the connection counts as dead."""
CLOSE_TIMEOUT_S: Final = 3.0
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
"""A page of history is one frame."""

_LOG: Final = logging.getLogger("signet_client")
_QUIET: Final = logging.getLogger("signet_client.websocket")
_QUIET.setLevel(logging.WARNING)

_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(wire.ServerFrame).decode

ABNORMAL: Final = 1006
GOING_AWAY: Final = 1001
BAD_FRAME: Final = 1002


class Close(NamedTuple):
    """How a connection ended."""

    number: int
    """The server's close code; 1006 where the connection broke, or this side ended it."""
    text: str


class _Tagged(msgspec.Struct):
    t: str


_DECODE_TAG: Final = msgspec.json.Decoder(_Tagged).decode
_TAGS: Final = frozenset(cast(str, frame.__struct_config__.tag) for frame in get_args(wire.ServerFrame))


class Connection(asyncio.Protocol):
    """`opened` is done when the WebSocket stands, `closed` when it has ended; neither ever holds an exception."""

    def __init__(self, url: str, on_frames: "OnFrames") -> None:
        """`on_frames` must not raise; it may be called before `connect` has returned."""
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[Close] = loop.create_future()
        self._on_frames = on_frames
        self._protocol = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol(wire.SUBPROTOCOL)], max_size=FRAME_BYTES_MAX, logger=_QUIET
        )
        self._transport: asyncio.Transport | None = None
        self._fragments = bytearray()
        self._heard = True
        self._timer: asyncio.TimerHandle | None = None
        self._why: Close | None = None
        """Why this side gave the connection up; the rules of close codes are for what the server says."""

    # What the application calls

    def send(self, frames: Iterable[wire.ClientFrame]) -> None:
        """Writes frames, in one piece. What is sent on a connection that is ending goes nowhere."""
        if self._protocol.state is not State.OPEN:
            return
        for frame in frames:
            self._protocol.send_text(_ENCODE(frame))
        self._flush()

    def close(self, number: int = GOING_AWAY, text: str = "") -> None:
        """Begins the closing handshake; `closed` says when it is over, after a few seconds at most."""
        if self._protocol.state is State.OPEN:
            self._why = self._why or Close(ABNORMAL, text)
            self._protocol.send_close(number, text)
            self._flush()
            self._end_soon()
        else:
            self.abort(text)

    def abort(self, text: str) -> None:
        """Drops the connection at once."""
        self._why = self._why or Close(ABNORMAL, text)
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._protocol.receive_data(data)
        frames: list[wire.ServerFrame] = []
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._shake_hands()
            elif isinstance(event, Frame):
                self._take(event, frames)
        self._flush()
        if frames:
            self._on_frames(self, frames)
        if self._protocol.close_expected():
            self._end_soon()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.receive_eof()
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(self._ending(exc))

    # Inside

    def _ending(self, exc: Exception | None) -> Close:
        received = self._protocol.close_rcvd
        if received is not None and (self._why is None or self._protocol.close_rcvd_then_sent):
            return Close(received.code, received.reason)
        if self._why is not None:
            return self._why
        cause = self._protocol.handshake_exc or exc
        return Close(ABNORMAL, str(cause or "the connection broke"))

    def _shake_hands(self) -> None:
        if self._protocol.handshake_exc is None and not self.opened.done():
            self.opened.set_result(None)
            self._schedule_ping()

    def _take(self, frame: Frame, frames: list[wire.ServerFrame]) -> None:
        if frame.opcode not in (Opcode.TEXT, Opcode.CONT):
            return
        if frame.fin and not self._fragments:
            self._decode(frame.data, frames)
            return
        self._fragments += frame.data
        if frame.fin:
            whole, self._fragments = bytes(self._fragments), bytearray()
            self._decode(whole, frames)

    def _decode(self, text: BytesLike, frames: list[wire.ServerFrame]) -> None:
        try:
            frames.append(_DECODE(text))
        except msgspec.DecodeError as error:
            # A newer server may have frames of which this client knows nothing; what it does know must be right.
            if not _is_unknown(text):
                _LOG.warning("a frame is not of the protocol: %s", error)
                self.close(BAD_FRAME, "a frame was not of the protocol")

    def _flush(self) -> None:
        writes = self._protocol.data_to_send()
        if not writes or self._transport is None:
            return
        ends = not writes[-1]
        self._transport.write(b"".join(writes))
        if ends and self._transport.can_write_eof():
            self._transport.write_eof()

    # Signs of life

    def _schedule_ping(self) -> None:
        delay = PING_EVERY_S * random.uniform(0.75, 1.0)
        self._timer = asyncio.get_running_loop().call_later(delay, self._ping)

    def _ping(self) -> None:
        self._heard = False
        # Of WebSocket's own: a frame `ping` is for those who have been welcomed.
        self._protocol.send_ping(b"")
        self._flush()
        self._timer = asyncio.get_running_loop().call_later(PONG_TIMEOUT_S, self._check_heard)

    def _check_heard(self) -> None:
        if self._heard:
            self._schedule_ping()
        else:
            self.abort("the server has gone silent")

    def _end_soon(self) -> None:
        # The server closes the TCP connection; this is for one that doesn't.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort, "the close got no answer")


OnFrames = Callable[[Connection, list[wire.ServerFrame]], None]


async def connect(url: str, on_frames: OnFrames) -> Connection:
    """Begins a connection to a `ws:` or `wss:` URL; await its `opened` or `closed`. Raises OSError."""
    uri = parse_uri(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(
        lambda: Connection(url, on_frames), uri.host, uri.port, ssl=tls_context() if uri.secure else None
    )
    return connection


@functools.cache
def tls_context() -> ssl.SSLContext:
    """One for all clients of a process: to load the certificates takes tens of milliseconds."""
    return ssl.create_default_context()


def _is_unknown(text: BytesLike) -> bool:
    try:
        return _DECODE_TAG(text).t not in _TAGS
    except msgspec.DecodeError:
        return False
