"""A light WebSocket client for load: as little of its own as can be, so that the engine is what is measured.

It masks with the key 0, which leaves the payload as it is (RFC 6455, 5.3 asks for an unpredictable key where browsers
and proxies are about; neither is here).
"""

import asyncio
import base64
import os
import struct
from collections.abc import Callable, Iterator
from typing import Final, cast
from urllib.parse import urlsplit

import msgspec

from signet_client import payloads, wire
from signet_client.identity import Identity

_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(wire.ServerFrame).decode
_TEXT: Final = 0x81
_PING: Final = 0x89
_PONG: Final = 0x8A
_CLOSE: Final = 0x88


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """An account with its one device."""

    account: str
    device: str
    identity: Identity


class Peer(asyncio.Protocol):
    """One connection. `on_frame` gets every frame after `live`."""

    def __init__(self, person: Person, on_frame: Callable[[wire.ServerFrame], None], host: str) -> None:
        self.person = person
        self._on_frame = on_frame
        self._host = host
        self._buffer = bytearray()
        self._upgraded = False
        self._outbox: list[bytes] = []
        self._transport: asyncio.Transport
        self.live: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def send(self, frame: wire.ClientFrame) -> None:
        """One write a loop tick, however many frames."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append(_frame(_TEXT, _ENCODE(frame)))

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            (
                f"GET /v1/live HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\n\r\n"
            ).encode()
        )

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self._fail(ConnectionError(f"no WebSocket: {head.decode(errors='replace')}"))
                return
            self._upgraded = True
            self._buffer = bytearray(rest)
        for opcode, payload in self._frames():
            self._take(opcode, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        if not self.live.done():
            self.live.set_exception(ConnectionError("the connection was lost during the log-in"))

    def _flush(self) -> None:
        self._transport.write(b"".join(self._outbox))
        self._outbox.clear()

    def _fail(self, error: Exception) -> None:
        self.live.set_exception(error)
        self._transport.abort()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        buffer, start = bytes(self._buffer), 0
        while len(buffer) - start >= 2:
            length, body = buffer[start + 1], start + 2
            if length == 126 and len(buffer) >= body + 2:
                (length,), body = struct.unpack_from(">H", buffer, body), body + 2
            elif length == 127 and len(buffer) >= body + 8:
                (length,), body = struct.unpack_from(">Q", buffer, body), body + 8
            elif length > 125:
                break
            if len(buffer) < body + length:
                break
            yield buffer[start], buffer[body : body + length]
            start = body + length
        self._buffer = bytearray(buffer[start:])

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _TEXT:
            frame = _DECODE(payload)
            if self.live.done():
                self._on_frame(frame)
            elif isinstance(frame, wire.Challenge):
                self._log_in(frame)
            elif isinstance(frame, wire.Live):
                self.live.set_result(None)
        elif opcode == _PING:
            self._transport.write(_frame(_PONG, payload))
        elif opcode == _CLOSE:
            self._transport.close()

    def _log_in(self, challenge: wire.Challenge) -> None:
        account, device = self.person.account, self.person.device
        payload = payloads.hello_payload(nonce=challenge.nonce, server=challenge.server, account=account, device=device)
        self.send(wire.Hello(account=account, device=device, signature=self.person.identity.sign(payload)))


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return struct.pack(">BBI", opcode, 0x80 | length, 0) + payload
    if length < 65_536:
        return struct.pack(">BBHI", opcode, 0xFE, length, 0) + payload
    return struct.pack(">BBQI", opcode, 0xFF, length, 0) + payload


async def connect(url: str, person: Person, on_frame: Callable[[wire.ServerFrame], None]) -> Peer:
    """Connects and logs in; returns when pushes come live. Raises OSError, TimeoutError."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(lambda: Peer(person, on_frame, parts.netloc), parts.hostname, parts.port)
    await asyncio.wait_for(peer.live, 30)
    return peer
