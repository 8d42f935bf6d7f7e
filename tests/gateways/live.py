"""A real engine with pushes, and devices that speak the live protocol to it: in memory, or over sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar, cast

import msgspec
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from commands.stores.memory import Medium, MemoryLog
from gateways.acks import Acks
from gateways.connection import Connection
from gateways.http import make_app
from gateways.httpsocket import HttpTimeouts, http_protocol
from gateways.websocket import Timeouts, live_protocol
from signet_client import payloads, wire
from signet_client.codes import Disconnect
from tests.gateways.engine import SERVER, Engine, Person, open_engine

F = TypeVar("F")

WAIT_S: Final = 20

_decode: Final = msgspec.json.Decoder(wire.ServerFrame).decode


@asynccontextmanager
async def live_engine(medium: Medium | None = None, **settings: Any) -> AsyncIterator[Engine]:
    """An engine on a log in memory, with a hub."""
    log = MemoryLog(medium or Medium())
    async with open_engine(log, hands_over=True, **settings) as engine:
        yield engine


def hello(person: Person, challenge: wire.Challenge, cursors: dict[str, int] | None = None) -> wire.Hello:
    payload = payloads.hello_payload(nonce=challenge.nonce, server=SERVER, account=person.account, device=person.device)
    return wire.Hello(
        account=person.account, device=person.device, signature=person.sign(payload), cursors=cursors or {}
    )


def send(person: Person, conversation: str, text: str, *, read: int | None = None, **header: Any) -> wire.Send:
    made = person.message(conversation, text, **header)
    return wire.Send(header=made["header"], body=made["body"], read=read)


def id_of(frame: wire.Send) -> str:
    return cast(str, json.loads(frame.header)["id"])


def text_of(frame: Any) -> str | None:
    return json.loads(frame.body)["text"] if isinstance(frame, wire.Message) and frame.body else None


class Inbox:
    """Frames that have come and were not looked at yet."""

    def __init__(self) -> None:
        self.frames: list[wire.ServerFrame] = []
        self._came = asyncio.Event()

    def add(self, frame: wire.ServerFrame) -> None:
        self.frames.append(frame)
        self._came.set()

    async def next(self, kind: type[F]) -> F:
        """The next frame of this kind; those of other kinds stay."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for index, frame in enumerate(self.frames):
                    if isinstance(frame, kind):
                        del self.frames[index]
                        return frame
                self._came.clear()
                await self._came.wait()

    def take(self) -> list[wire.ServerFrame]:
        taken, self.frames = self.frames, []
        return taken


class MemoryDevice(Inbox):
    """A device at the other end of a connection without a socket; it is the connection's `Link`."""

    def __init__(self, engine: Engine, person: Person, acks: Acks | None = None) -> None:
        super().__init__()
        self.person = person
        self.connection = Connection(engine.services, acks or Acks(engine.services.writer), self)
        self.closed: asyncio.Future[Disconnect] = asyncio.get_running_loop().create_future()
        self.address = "127.0.0.1"
        self.slow = False
        self.patient = False
        self.missed = 0
        self.went_on = 0
        """How often the connection had room again."""
        self.trusted = False
        self.open_gate = asyncio.Event()
        """While it is not set, nothing drains."""
        self.open_gate.set()
        self.at_gate = asyncio.Event()

    def write(self, data: bytes) -> None:
        if not self.closed.done():
            self.add(_decode(_payload(data)))

    def miss(self) -> None:
        self.missed += 1

    def go_on(self) -> None:
        self.went_on += 1

    def trust(self) -> None:
        self.trusted = True

    async def drained(self) -> None:
        await asyncio.sleep(0)
        if not self.open_gate.is_set():
            self.at_gate.set()
            await self.open_gate.wait()

    def close(self, disconnect: Disconnect) -> None:
        if not self.closed.done():
            self.closed.set_result(disconnect)
            self.connection.end()

    async def log_in(self, cursors: dict[str, int] | None = None) -> wire.Welcome:
        self.connection.start()
        self.say(hello(self.person, await self.next(wire.Challenge), cursors))
        return await self.next(wire.Welcome)

    async def live(self, cursors: dict[str, int] | None = None) -> "MemoryDevice":
        await self.log_in(cursors)
        await self.next(wire.KeyCounts)
        await self.next(wire.Live)
        return self

    def say(self, frame: wire.ClientFrame) -> None:
        self.connection.receive(frame)

    async def sent(self, conversation: str, text: str, **more: Any) -> wire.Accepted:
        self.say(send(self.person, conversation, text, **more))
        return await self.next(wire.Accepted)

    async def round_trip(self) -> None:
        """Everything said before has been handled, and its pushes are there."""
        self.say(wire.Fetch(id="round trip", c="nowhere", after=0))
        while (await self.next(wire.Refused)).id != "round trip":
            pass

    async def disconnected(self) -> int:
        async with asyncio.timeout(WAIT_S):
            return (await self.closed).number


def _payload(data: bytes) -> bytes:
    """Of one unmasked text frame."""
    assert data[0] == 0x81
    return data[{126: 4, 127: 10}.get(data[1], 2) :]


class LiveServer:
    def __init__(self, engine: Engine, server: uvicorn.Server, port: int) -> None:
        self.engine = engine
        self.server = server
        self.port = port

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/live"

    @asynccontextmanager
    async def device(self, person: Person, cursors: dict[str, int] | None = None) -> AsyncIterator["SocketDevice"]:
        """Logged in and live."""
        async with connect(self.url, subprotocols=["signet.v1.json"]) as ws:  # type: ignore[list-item]
            device = SocketDevice(ws)
            await device.say(hello(person, await device.next(wire.Challenge), cursors))
            await device.next(wire.KeyCounts)
            await device.next(wire.Live)
            yield device


class SocketDevice:
    """A device at the other end of a socket."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self._waiting: list[wire.ServerFrame] = []

    async def say(self, frame: wire.ClientFrame) -> None:
        await self.ws.send(msgspec.json.encode(frame).decode())

    async def next(self, kind: type[F]) -> F:
        """The next frame of this kind; those of other kinds stay."""
        for index, frame in enumerate(self._waiting):
            if isinstance(frame, kind):
                del self._waiting[index]
                return frame
        async with asyncio.timeout(WAIT_S):
            while True:
                frame = _decode(await self.ws.recv())
                if isinstance(frame, kind):
                    return frame
                self._waiting.append(frame)

    async def round_trip(self) -> list[wire.ServerFrame]:
        """All that has come before the answer and was not looked at yet: everything said before has been handled."""
        await self.say(wire.Ping(id="round trip"))
        while (await self.next(wire.Pong)).id != "round trip":
            pass
        taken, self._waiting = self._waiting, []
        return taken

    async def disconnected(self) -> int:
        """The code with which the server closes."""
        async with asyncio.timeout(WAIT_S):
            try:
                while True:
                    await self.ws.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006


@asynccontextmanager
async def live_server(
    timeouts: Timeouts | None = None,
    medium: Medium | None = None,
    http_timeouts: HttpTimeouts | None = None,
    **settings: Any,
) -> AsyncIterator[LiveServer]:
    """The engine behind uvicorn, on a free port."""
    async with live_engine(medium, **settings) as engine:
        sock = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            make_app(engine.services),
            ws=live_protocol(engine.services, timeouts),
            http=http_protocol(engine.services.turnstiles.strangers, http_timeouts),
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=10,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        await server.is_up.wait()
        try:
            yield LiveServer(engine, server, sock.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, which says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
