"""The frame protocol, free of I/O: bytes in, the client's frames out; the server's frames in, bytes out.

`websockets`' sans-I/O `ServerProtocol` does the handshake, the framing and the closing. What it leaves to its user is
done here: fragments are put together, UTF-8 is checked, binary is refused, and the JSON is decoded. Whatever is wrong
closes the connection; frames that came before it are still handed out.

The stream is cut into frames here, and the plain ones, whole text messages, are unmasked at once: `ServerProtocol`'s
general way took a third of what a message costs at this edge. Every other frame, and whatever may be wrong, is still
its own.
"""

import struct
from collections.abc import Callable
from enum import Enum
from typing import Final

import msgspec
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # where no compiler was at hand; slower, and the same
    from websockets.utils import apply_mask

from signet_client import wire
from signet_client.codes import DISCONNECTS, Disconnect

PATH: Final = "/v1/live"

END: Final = b""
"""In what is to be sent: after this, nothing more comes; half-close the connection."""

PING: Final = b"\x89\x00"
"""An empty ping of WebSocket's own, framed."""

_decode: Final[Callable[[str], wire.ClientFrame]] = msgspec.json.Decoder(wire.ClientFrame).decode
_encode: Final = msgspec.json.Encoder().encode
_TEXT: Final = 0x81
"""First byte of an unfragmented text frame."""
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
    payload = _encode(frame)
    length = len(payload)
    if length < 126:
        return _short_head(_TEXT, length) + payload
    if length < 65_536:
        return _medium_head(_TEXT, 126, length) + payload
    return _long_head(_TEXT, 127, length) + payload


class FrameProtocol:
    """One connection. After every call of a method there may be something `to_send`."""

    __slots__ = ("_fragments", "_frame_bytes_max", "_rest", "_ws")

    def __init__(self, *, frame_bytes_max: int) -> None:
        """`frame_bytes_max` bounds a whole message, fragments together. No compression: sealed texts don't shrink."""
        self._ws = ServerProtocol(subprotocols=[wire.SUBPROTOCOL], max_size=frame_bytes_max)  # type: ignore[list-item]
        self._fragments: list[bytes] | None = None
        """The fragments so far of a message that has not ended."""
        self._frame_bytes_max = frame_bytes_max
        self._rest: bytes | None = None
        """The beginning of a frame that is not whole yet. None: `ServerProtocol` gets every byte, since it may stand
        within a frame, or still in the handshake."""

    def receive(self, data: bytes) -> list[wire.ClientFrame | Opened]:
        """What the bytes complete, in order."""
        received: list[wire.ClientFrame | Opened] = []
        try:
            if self._rest is not None:
                self._receive_frames(self._rest + data, received)
            else:
                self._receive_any(data, received)
                if received[:1] == [OPENED] and data.endswith(b"\r\n\r\n"):
                    self._rest = b""
        except _Violation as violation:
            self._fail(violation.number, violation.reason)
        return received

    def _receive_frames(self, data: bytes, received: list[wire.ClientFrame | Opened]) -> None:
        start, end = 0, len(data)
        while (extent := _extent(data, start)) is not None:
            body, stop = extent
            if stop - body > self._frame_bytes_max:
                # It is refused by its head; from here on everything is discarded.
                self._receive_any(data[start:], received)
                start = end
                break
            if stop > end:
                break
            if data[start] == _TEXT and self._is_plain(data[start + 1]):
                received.append(_decoded(apply_mask(data[body:stop], data[body - 4 : body])))
            else:
                self._receive_any(data[start:stop], received)
            start = stop
        self._rest = data[start:]

    def _is_plain(self, second_byte: int) -> bool:
        """Masked, not within a fragmented message, not behind a close."""
        return second_byte >= _MASKED and self._fragments is None and self._ws.state is State.OPEN

    def _receive_any(self, data: bytes, received: list[wire.ClientFrame | Opened]) -> None:
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if isinstance(event, Frame):
                payload = self._message(event)
                if payload is not None:
                    received.append(_decoded(payload))
            elif isinstance(event, Request) and self._open(event):
                received.append(OPENED)

    def close(self, disconnect: Disconnect) -> None:
        """Says why, and ends the sending; whatever still comes is discarded."""
        self._fail(disconnect.number, disconnect.text)

    def to_send(self) -> list[bytes]:
        """Bytes for the socket, in order; END comes last."""
        return self._ws.data_to_send()

    def _open(self, request: Request) -> bool:
        """The place for whatever else must be right before a device may speak."""
        if request.path.partition("?")[0] == PATH:
            response = self._ws.accept(request)
        else:
            response = self._ws.reject(404, f"The live protocol is spoken at {PATH}.\n")
        self._ws.send_response(response)
        return response.status_code == 101

    def _message(self, frame: Frame) -> bytes | None:
        """The payload of the text message that this frame ends, if it ends one."""
        if frame.opcode is Opcode.TEXT:
            if frame.fin:
                return frame.data  # type: ignore[return-value]  # memoryviews are but for outgoing frames
            self._fragments = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT and self._fragments is not None:
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                whole, self._fragments = b"".join(self._fragments), None
                return whole
        elif frame.opcode is Opcode.BINARY:
            raise _Violation(CloseCode.UNSUPPORTED_DATA, "frames are JSON text")
        # ServerProtocol answers pings and echoes a close itself; a pong is just a sign of life.
        return None

    def _fail(self, number: int, reason: str) -> None:
        if self._ws.state is State.OPEN:
            # A close frame takes 123 bytes of reason.
            self._ws.fail(number, reason.encode()[:123].decode(errors="ignore"))


def _extent(data: bytes, start: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `start` begins and ends (RFC 6455, 5.2); None where its head is not whole."""
    if len(data) < start + 2:
        return None
    length, body = data[start + 1] & 0x7F, start + 2
    if length == 126:
        length, body = int.from_bytes(data[body : body + 2], "big"), body + 2
    elif length == 127:
        length, body = int.from_bytes(data[body : body + 8], "big"), body + 8
    if data[start + 1] >= _MASKED:
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
        return _decode(str(payload, "utf-8"))
    except UnicodeDecodeError as error:
        raise _Violation(CloseCode.INVALID_DATA, "this is no UTF-8") from error
    except msgspec.MsgspecError as error:
        bad_frame = DISCONNECTS["bad_frame"]
        raise _Violation(bad_frame.number, f"{bad_frame.text} {error}") from error
