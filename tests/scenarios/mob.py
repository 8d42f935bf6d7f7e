"""Hostile clients, in a process of their own, with the lowest priority: what they cost the engine is what counts.

    python -m tests.scenarios.mob URL

Over and over it registers new people and says `{"ready": …}`; for a line that it reads it attacks, and prints a
`Report`.
"""

import asyncio
import json
import os
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import uvloop

from ops.bench.load import register
from ops.bench.peer import Peer, Person, connect
from signet_client import payloads, wire

STALLERS: Final = 200
FLOODERS: Final = 20
BODY_CHARS: Final = 4_000
"""Of the flood's messages: 50 of them are more than a staller's buffers hold."""
FLOOD_FRAMES: Final = 10
"""Each flooder sends so many every 10 ms."""
FLOOD_S: Final = 5.0
HANDSHAKES: Final = 3_000
RUDE: Final = 4
FRAMES: Final = 750
"""From each of the rude ones."""
REQUESTS: Final = 4_000
AT_ONCE: Final = 100
ANSWER_MAX_S: Final = 60
BUFFERED_MAX: Final = 262_144


class Report(msgspec.Struct, kw_only=True):
    """What came back, by its code: `close 4501`, `refused bad_header`, `http 404`; `nothing` where none came."""

    flood_sent: int
    flood: dict[str, int]
    malformed_sent: int
    malformed: dict[str, int]
    stalled: int


def masked(first: int, payload: bytes, *, length: int | None = None) -> bytes:
    """A frame with the mask 0; `length` claims another one than the payload has."""
    size = len(payload) if length is None else length
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


PING: Final = b'{"t":"ping"}'
BAD_FRAMES: Final = (
    masked(0x81, b"no json"),
    masked(0x81, b'{"t":"nonsense"}'),
    masked(0x81, b'{"t":"send"}'),
    masked(0x81, PING),  # before the hello
    masked(0x81, b'{"t":"\xff"}'),
    masked(0x82, PING),
    masked(0x83, b""),
    masked(0xF1, PING),
    masked(0x80, PING),
    masked(0x89, bytes(126)),
    masked(0x81, b"", length=1 << 40),
    masked(0x81, b"", length=1 << 63),
    b"\x81" + bytes([len(PING)]) + PING,  # not masked
    masked(0x01, bytes(60_000)) + masked(0x00, bytes(60_000)) * 6,
)
BAD_REQUESTS: Final = (
    ("POST", "/v1/accounts", b"no json", ""),
    ("POST", "/v1/accounts", b'{"id": 5}', ""),
    ("POST", "/v1/accounts", b"[" * 5_000, ""),
    ("POST", "/v1/token", b'{"nonce": "\xff"}', ""),
    ("GET", "/v1/nowhere", b"", ""),
    ("PATCH", "/v1/accounts", b"", ""),
    ("GET", "/v1/conversations", b"", ""),
    ("GET", "/v1/conversations", b"", "Authorization: Bearer nobody\r\n"),
    ("POST", "/v1/conversations", b"{}", "Authorization: nonsense\r\n"),
    ("POST", "/v1/accounts", bytes(400_000), ""),
)


class Mob:
    def __init__(self, url: str) -> None:
        self._url = url
        self._rng = random.Random(0)
        self._rude: list[Person]
        self._flooders: list[Person]
        self._stallers: list[Person]
        self._stalled: list[Peer] = []
        self._group = ""
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 0

    async def gather(self) -> None:
        """Everybody registers; all are in one group."""
        apis = []
        everybody = []
        for number in range(RUDE + FLOODERS + STALLERS):
            person, api = await register(self._url, number)
            everybody.append(person)
            apis.append(api)
        others = [person.account for person in everybody[1:]]
        self._group = (await apis[0].start("group", others, title="The mob", protection="none")).conversation
        self._rude, rest = everybody[:RUDE], everybody[RUDE:]
        self._flooders, self._stallers = rest[:FLOODERS], rest[FLOODERS:]
        for api in apis:
            await api.close()

    async def attack(self) -> Report:
        await self._stall()
        flood: Counter[str] = Counter()
        malformed: Counter[str] = Counter()
        sent = asyncio.gather(*(self._flood(person, flood) for person in self._flooders))
        await asyncio.gather(
            self._handshakes(malformed),
            self._requests(malformed),
            *(self._frames(person, malformed) for person in self._rude),
        )
        return Report(
            flood_sent=sum(await sent),
            flood=dict(flood),
            malformed_sent=HANDSHAKES + RUDE * FRAMES + REQUESTS,
            malformed=dict(+malformed),
            stalled=len(self._stalled),
        )

    def disperse(self) -> None:
        for peer in self._stalled:
            peer.close()

    # Who reads nothing

    async def _stall(self) -> None:
        for person in self._stallers:
            peer = await self._connect(person)
            peer._transport.pause_reading()
            self._stalled.append(peer)

    async def _connect(self, person: Person) -> Peer:
        """With a small buffer, so that little piles up in the kernel."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (self._host, self._port))
        _, peer = await loop.create_connection(
            lambda: Peer(person, lambda _: None, f"{self._host}:{self._port}"), sock=sock
        )
        await asyncio.wait_for(peer.live, ANSWER_MAX_S)
        return peer

    # Who sends without a pause

    async def _flood(self, person: Person, codes: Counter[str]) -> int:
        peer = await connect(self._url, person, lambda frame: self._note(frame, codes))
        loop, sent = asyncio.get_running_loop(), 0
        ends = loop.time() + FLOOD_S
        while loop.time() < ends and not peer.lost.done():
            if peer._transport.get_write_buffer_size() < BUFFERED_MAX:
                for _ in range(FLOOD_FRAMES):
                    peer.send(self._message(person))
                sent += FLOOD_FRAMES
            await asyncio.sleep(0.01)
        peer.close()
        return sent

    def _message(self, person: Person) -> wire.Send:
        body = f'{{"kind":"text","text":"{"x" * BODY_CHARS}","salt":"AAAAAAAAAAAAAAAAAAAAAA"}}'
        header = payloads.Header(
            id=str(uuid4()),
            conversation=self._group,
            sender=person.account,
            device=person.device,
            after=0,
            digest=payloads.digest_of(body),
        )
        return wire.Send(header=payloads.encode_header(header), body=body)

    def _note(self, frame: wire.ServerFrame, codes: Counter[str]) -> None:
        if isinstance(frame, wire.Accepted):
            codes["accepted"] += 1
        elif isinstance(frame, wire.Refused):
            codes[f"refused {frame.code}"] += 1

    # What is malformed or oversized

    async def _handshakes(self, codes: Counter[str]) -> None:
        """A connection each, which its first frame ends."""
        frames = [self._rng.choice(BAD_FRAMES) for _ in range(HANDSHAKES)]
        await self._many(codes, [lambda frame=frame: self._say_once(frame) for frame in frames])  # type: ignore[misc]

    async def _say_once(self, frame: bytes) -> str:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(_UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(frame)
            async for opcode, payload in frames_of(reader):
                if opcode == 0x8:
                    return f"close {int.from_bytes(payload[:2], 'big')}"
        finally:
            writer.transport.abort()
        return "nothing"

    async def _requests(self, codes: Counter[str]) -> None:
        asked = [self._rng.choice(BAD_REQUESTS) for _ in range(REQUESTS)]
        await self._many(codes, [lambda each=each: self._ask(*each) for each in asked])  # type: ignore[misc]

    async def _ask(self, method: str, path: str, body: bytes, headers: str) -> str:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(
                f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n{headers}"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                + body
            )
            line = await reader.readline()
            return f"http {line.split()[1].decode()}"
        finally:
            writer.transport.abort()

    async def _many(self, codes: Counter[str], attempts: list[Callable[[], Awaitable[str]]]) -> None:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(attempt: Callable[[], Awaitable[str]]) -> None:
            async with turn, asyncio.timeout(ANSWER_MAX_S):
                try:
                    codes[await attempt()] += 1
                except (OSError, asyncio.IncompleteReadError, IndexError):
                    codes["nothing"] += 1

        await asyncio.gather(*(one(attempt) for attempt in attempts))

    async def _frames(self, person: Person, codes: Counter[str]) -> None:
        """Of a device that is logged in: each is refused, and the connection stays."""
        answered = asyncio.Event()
        got: Counter[str] = Counter()

        def note(frame: wire.ServerFrame) -> None:
            if isinstance(frame, wire.Refused):
                got[f"refused {frame.code}"] += 1
                if got.total() == FRAMES:
                    answered.set()

        peer = await connect(self._url, person, note)
        for count in range(FRAMES):
            peer.send(self._bad_frame(count, person))
            if not count % 50:
                await asyncio.sleep(0.01)
        peer.lost.add_done_callback(lambda _: answered.set())
        await asyncio.wait_for(answered.wait(), ANSWER_MAX_S)
        codes.update(got)
        codes["nothing"] += FRAMES - got.total()
        peer.close()

    def _bad_frame(self, count: int, person: Person) -> wire.ClientFrame:
        good = self._message(person)
        match count % 5:
            case 0:
                return wire.Send(header="no json", body="")
            case 1:
                return wire.Send(header=good.header, body="another body")
            case 2:
                return wire.Fetch(id="x", c=str(uuid4()), after=0)
            case 3:
                return wire.Fetch(id="x", c="nowhere", after=-5)
            case _:
                body = "x" * 70_000
                return wire.Send(header=good.header, body=body)


_UPGRADE: Final = (
    "GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Protocol: {wire.SUBPROTOCOL}\r\n\r\n"
).encode()


async def frames_of(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Opcode and payload of each."""
    while True:
        first, second = await reader.readexactly(2)
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
        yield first & 0x0F, await reader.readexactly(length)


async def main(url: str) -> None:
    loop, wanted = asyncio.get_running_loop(), True
    while wanted:
        mob = Mob(url)
        await mob.gather()
        print(json.dumps({"ready": True}), flush=True)
        wanted = bool(await loop.run_in_executor(None, sys.stdin.readline))
        if wanted:
            print(msgspec.json.encode(await mob.attack()).decode(), flush=True)
            mob.disperse()


if __name__ == "__main__":
    os.nice(10)
    uvloop.run(main(sys.argv[1]))
