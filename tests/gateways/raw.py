"""Connections without a WebSocket library that would answer, mask and frame."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from signet_client import wire
from tests.gateways.engine import Person
from tests.gateways.live import WAIT_S, LiveServer, hello

REQUEST = (
    b"GET /v1/live HTTP/1.1\r\nHost: signet.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: signet.v1.json\r\n\r\n"
)


async def nobody_is_left(server: LiveServer) -> None:
    async with asyncio.timeout(WAIT_S):
        while server.server.server_state.connections:  # noqa: ASYNC110  # uvicorn's set tells nobody
            await asyncio.sleep(0.01)


def small_socket(port: int) -> socket.socket:
    """One whose peer's writes soon find it full."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    return sock


@asynccontextmanager
async def raw_connection(
    server: LiveServer, sock: socket.socket | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection without a WebSocket library that would answer, mask and frame. Its buffer is small, so that nothing
    is read that no test asks for."""
    sock = sock or socket.create_connection(("127.0.0.1", server.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=8_192)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def log_in(person: Person, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(REQUEST)
    await reader.readuntil(b"\r\n\r\n")
    challenge = msgspec.json.decode(await next_frame(reader), type=wire.Challenge)
    writer.write(masked(msgspec.json.encode(hello(person, challenge))))
    while json.loads(await next_frame(reader))["t"] != "live":
        pass


async def trickle(writer: asyncio.StreamWriter, data: bytes) -> None:
    for byte in data:
        writer.write(bytes((byte,)))
        await writer.drain()


def close_code(close: bytes) -> int:
    return int.from_bytes(close[:2], "big")


def masked(payload: bytes, opcode: int = 1) -> bytes:
    """A client's frame, with a mask of zeros."""
    length = len(payload)
    if length < 126:
        size = bytes((0x80 | length,))
    else:
        size = b"\xfe" + length.to_bytes(2, "big") if length < 65_536 else b"\xff" + length.to_bytes(8, "big")
    return bytes((0x80 | opcode,)) + size + bytes(4) + payload


async def next_frame(reader: asyncio.StreamReader) -> bytes:
    """The payload of the server's next frame."""
    async with asyncio.timeout(WAIT_S):
        head = await reader.readexactly(2)
        length = head[1]
        if length >= 126:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        return await reader.readexactly(length)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  # what it looks at tells nobody
            await asyncio.sleep(0.001)
