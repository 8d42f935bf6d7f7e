"""The frame protocol, free of I/O: bytes in, the client's frames out; the server's frames in, bytes out.

`websockets`' sans-I/O `ServerProtocol` does the handshake, the framing and the closing. What it leaves to its user is
done here: fragments are put together, UTF-8 is checked, binary is refused, and the JSON is decoded. Whatever is wrong
closes the connection; frames that came before it are still handed out.

The stream is cut into frames here, and the plain ones, whole text messages, are unmasked at once: `ServerProtocol`'s
general way took a third of what a message costs at this edge. Every other frame, and whatever may be wrong, is still
its own.

A peer may fill a packet with tens of thousands of tiny frames, so they are bounded thrice: how many are taken at once,
how many of those that are no plain ones may come in a while, and how many fragments a message may have.
"""

import struct
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

import msgspec
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # where no compiler was at hand; slower, and the same
    from websockets.utils import apply_mask

from gateways.gate import Gate
from gateways.refusal import Refusal
from signet_client import wire
from signet_client.codes import DISCONNECTS, Disconnect

PATH: Final = "/v1/live"

END: Final = b""
"""In what is to be sent: after this, nothing more comes; half-close the connection."""

PING: Final = b"\x89\x00"
"""An empty ping of WebSocket's own, framed."""

FRAGMENTS_MAX: Final = 256
"""How many frames a message may be made of."""

EXTRAS_BEFORE_LOGIN_MAX: Final = 32
"""How many extras, frames that are no plain ones (pings, pongs, fragments), a stranger may send."""

EXTRAS_MAX: Final = 4_096
"""How many extras a device that is logged in may send between two pings of ours."""

_decode: Final[Callable[[str], wire.ClientFrame]] = msgspec.json.Decoder(wire.ClientFrame).decode
_encode_into: Final = msgspec.json.Encoder().encode_into
_payload: Final = bytearray()
"""Of whatever frame is being encoded: it grows once, where a new one for each had to grow each time. For the loop's
thread only."""
_TEXT: Final = 0x81
"""First byte of an unfragmented text frame."""
_END_OF_HEAD: Final = b"\r\n\r\n"
_MASKED: Final = 0x80
"""In the second byte of a frame."""
_short_head: Final = struct.Struct("!BB").pack
_medium_head: Final = struct.Struct("!BBH").pack
_long_head: Final = struct.Struct("!BBQ").pack


class Opened(Enum):
    """The handshake is done: the server may speak."""

    OPENED = 1


OPENED: Final = Opened.OPENED


def encode(frame: wire.ServerFrame) -> bytes:
    """The frame as it goes over the socket: the very same bytes for every device, since a server masks nothing."""
    _encode_into(frame, _payload)
    length = len(_payload)
    if length < 126:
        return _short_head(_TEXT, length) + _payload
    if length < 65_536:
        return _medium_head(_TEXT, 126, length) + _payload
    return _long_head(_TEXT, 127, length) + _payload


class FrameProtocol:
    """One connection. After every call of a method there may be something `to_send`."""

    __slots__ = (
        "_ended", "_extras", "_fragments", "_frame_bytes_max", "_gate", "_opened", "_rest", "_wanted", "_ws", "behind",
        "forwarded",
    )  # fmt: skip

    def __init__(self, *, frame_bytes_max: int, gate: Gate) -> None:
        """`frame_bytes_max` bounds a whole message, fragments together. No compression: sealed texts don't shrink."""
        self._gate = gate
        self._ws = ServerProtocol(subprotocols=[wire.SUBPROTOCOL], max_size=frame_bytes_max)  # type: ignore[list-item]
        self._fragments: list[bytes] | None = None
        """The fragments so far of a message that has not ended."""
        self._frame_bytes_max = frame_bytes_max
        self._extras = EXTRAS_BEFORE_LOGIN_MAX
        """How many may still come."""
        self._opened = False
        """The handshake is done."""
        self._ended = False
        """Whatever still comes is discarded."""
        self._rest = bytearray()
        """What has come and is not taken yet: the beginning of a frame, or all that lies behind the bound of a call."""
        self._wanted = 0
        """Below this length `_rest` holds no whole frame."""
        self.behind = False
        """Whole frames have come that are not taken yet."""
        self.forwarded: Sequence[str] = ()
        """What the request's `X-Forwarded-For` says, for whoever believes it."""

    def receive(self, data: bytes, most: int, slice_bytes: int) -> list[wire.ClientFrame | Opened]:
        """What the bytes complete, in order, of up to `most` frames, and no more of them once `slice_bytes` are taken.
        Where more are whole, the connection is `behind`, and a call without bytes goes on."""
        received: list[wire.ClientFrame | Opened] = []
        self.behind = False
        if self._rest:
            # Whoever sends a long frame byte by byte must not have it copied as often.
            self._rest += data
            if len(self._rest) < self._wanted:
                return received
            data, self._rest = bytes(self._rest), bytearray()
        if not self._ended:
            try:
                if self._opened:
                    self._receive_frames(data, most, slice_bytes, received)
                else:
                    self._receive_request(data, most, slice_bytes, received)
            except _Violation as violation:
                self._fail(violation.number, violation.reason)
        return received

    def expect_extras(self) -> None:
        """The device is known, or was pinged: so many extras may come from here on."""
        self._extras = EXTRAS_MAX

    def _receive_request(
        self, data: bytes, most: int, slice_bytes: int, received: list[wire.ClientFrame | Opened]
    ) -> None:
        head, end, rest = data.partition(_END_OF_HEAD)
        if not end:
            self._rest += data
            return
        self._ws.receive_data(head + end)
        for event in self._ws.events_received():
            self._opened = isinstance(event, Request) and self._open(event)
        self._ended = not self._opened
        if self._opened:
            received.append(OPENED)
            self._receive_frames(rest, most, slice_bytes, received)

    def _receive_frames(
        self, data: bytes, most: int, slice_bytes: int, received: list[wire.ClientFrame | Opened]
    ) -> None:
        start, end = 0, len(data)
        self._wanted = 0
        while start < end and (extent := _extent(data, start)) is not None:
            body, stop = extent
            if stop - body > self._frame_bytes_max:
                # It is refused by its head.
                self._receive_extra(data[start:], received)
                return
            if stop > end:
                self._wanted = stop - start
                break
            if most <= 0 or start >= slice_bytes:
                self.behind = True
                break
            most -= 1
            if data[start] == _TEXT and data[start + 1] >= _MASKED and self._fragments is None:
                received.append(_decoded(apply_mask(data[body:stop], data[body - 4 : body])))
            else:
                self._receive_extra(data[start:stop], received)
                if self._ended:
                    return
            start = stop
        if start < end:
            self._rest += data[start:]

    def _receive_extra(self, data: bytes, received: list[wire.ClientFrame | Opened]) -> None:
        if self._extras == 0:
            raise _bad_frame("There were too many pings, pongs or fragments.")
        self._extras -= 1
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            assert isinstance(event, Frame), event
            payload = self._message(event)
            if payload is not None:
                received.append(_decoded(payload))
        self._ended = self._ws.state is not State.OPEN

    def close(self, disconnect: Disconnect) -> None:
        """Says why, and ends the sending; whatever still comes is discarded."""
        self._fail(disconnect.number, disconnect.text)

    @property
    def closed_by_us(self) -> int | None:
        """The number of the close frame with which this side began the closing; None where it didn't."""
        sent = self._ws.close_sent
        return None if sent is None or self._ws.close_rcvd_then_sent else sent.code

    def to_send(self) -> list[bytes]:
        """Bytes for the socket, in order; END comes last."""
        return self._ws.data_to_send()

    def let_go(self) -> None:
        """Nothing more is received or sent."""
        self._ended = True
        # Both refer to their owner, which refers to them: a generator, and the trace of an error.
        self._ws.parser.close()
        self._ws.parser_exc = None

    def _open(self, request: Request) -> bool:
        try:
            self._check(request)
        except Refusal as refusal:
            response = self._rejection(refusal)
        else:
            self.forwarded = request.headers.get_all("X-Forwarded-For")
            response = self._ws.accept(request)
        self._ws.send_response(response)
        return response.status_code == 101

    def _check(self, request: Request) -> None:
        """Raises Refusal. The place for whatever else must be right before a device may speak."""
        if request.path.partition("?")[0] != PATH:
            raise Refusal("no_such_route", f"the live protocol is spoken at {PATH}")
        hosts = request.headers.get_all("Host")
        self._gate.check_host(hosts)
        self._gate.check_origin(request.headers.get_all("Origin"), hosts)

    def _rejection(self, refusal: Refusal) -> Response:
        response = self._ws.reject(refusal.reply.status, refusal.problem)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    def _message(self, frame: Frame) -> bytes | None:
        """The payload of the text message that this frame ends, if it ends one."""
        if frame.opcode is Opcode.TEXT:
            if frame.fin:
                return frame.data  # type: ignore[return-value]  # memoryviews are but for outgoing frames
            self._fragments = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT and self._fragments is not None:
            if len(self._fragments) == FRAGMENTS_MAX:
                raise _Violation(CloseCode.MESSAGE_TOO_BIG, f"a message has at most {FRAGMENTS_MAX} fragments")
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), None
                return whole
        elif frame.opcode is Opcode.BINARY:
            raise _Violation(CloseCode.UNSUPPORTED_DATA, "frames are JSON text")
        # ServerProtocol answers pings and echoes a close itself; a pong is just a sign of life.
        return None

    def _fail(self, number: int, reason: str) -> None:
        self._ended = True
        if self._ws.state is State.OPEN:
            # A close frame takes 123 bytes of reason.
            self._ws.fail(number, reason.encode()[:123].decode(errors="ignore"))


def _extent(data: bytes, start: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `start` begins and ends (RFC 6455, 5.2); None where its head is not whole."""
    if len(data) < start + 2:
        return None
    second, body = data[start + 1], start + 2
    length = second & 0x7F
    if length == 126:
        if len(data) < body + 2:
            return None
        length, body = data[body] << 8 | data[body + 1], body + 2
    elif length == 127:
        length, body = int.from_bytes(data[body : body + 8], "big"), body + 8
    if second >= _MASKED:
        body += 4
    return (body, body + length) if len(data) >= body else None


class _Violation(Exception):
    """What came is not of the protocol."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number
        self.reason = reason


def _decoded(payload: bytes) -> wire.ClientFrame:
    try:
        # As text first: what is skipped in it must be UTF-8 too.
        return _decode(payload.decode())
    except UnicodeDecodeError as error:
        raise _Violation(CloseCode.INVALID_DATA, "this is no UTF-8") from error
    except (msgspec.MsgspecError, RecursionError) as error:  # the latter: arrays in arrays in arrays, a thousand deep
        raise _bad_frame(str(error)) from error


def _bad_frame(detail: str) -> _Violation:
    bad_frame = DISCONNECTS["bad_frame"]
    return _Violation(bad_frame.number, f"{bad_frame.text} {detail}")
