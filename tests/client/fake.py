"""A server of the live protocol that a test scripts: it holds conversations, and can lose, repeat, refuse and cut."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self
from uuid import uuid4

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from signet_client import payloads, wire
from signet_client.messages import encode_body

ME = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
TALK = "33333333-3333-4333-8333-333333333333"
PATIENCE_S = 20.0

_decode = msgspec.json.Decoder(wire.ClientFrame).decode
_encode = msgspec.json.Encoder().encode

Answer = Callable[["FakeServer", wire.Send], list[wire.ServerFrame]]


def accept(server: "FakeServer", sent: wire.Send) -> list[wire.ServerFrame]:
    """What a real server does with a message: stores it once, and says where."""
    return [server.store(sent)]


def refuse(code: str, *, retry: bool, retry_after_ms: int = 0) -> Answer:
    def answer(server: "FakeServer", sent: wire.Send) -> list[wire.ServerFrame]:
        id_ = header(sent.header).id
        return [wire.Refused(id=id_, code=code, text=code, retry=retry, retry_after_ms=retry_after_ms)]

    return answer


def header(text: str) -> payloads.Header:
    return msgspec.json.decode(text, type=payloads.Header)


class FakeServer:
    """Speaks to any number of connections of one account."""

    def __init__(self) -> None:
        self.logs: defaultdict[str, list[wire.Item]] = defaultdict(list)
        self.visible: dict[str, list[list[int]]] = {}
        self.unseen: dict[str, list[list[int]]] = {}
        """What pages say of retractions that the account may not see."""
        self.delivered: dict[str, int] = {}
        self.reads: dict[str, int] = {}
        self.ticks = wire.Ticks()
        self.epoch = ""
        self.kept: dict[str, int] = {}
        """What a restore has left, told to those who name another epoch."""
        self.protection: wire.Protection = "none"
        self.page_items = 3
        self.frame_bytes_max = 262_144
        self.body_bytes_max = 65_536
        self.frames: list[wire.ClientFrame] = []
        """All that came, of all connections, in order."""
        self.answer: list[Answer] = []
        """What is done with the next messages; `accept` with those after."""
        self.cut_after: list[int] = []
        """After how many frames sent the next connections are cut; those after live on."""
        self.fetch_refusals: list[wire.Refused] = []
        self._connections: set[ServerConnection] = set()
        self._changed = asyncio.Condition()
        self._server: Server | None = None
        self.close_with: int | None = None
        """Closes each connection with this number instead of welcoming it."""
        self.silent = False
        """Answers nothing any more."""

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        server = cls()
        await server.listen()
        yield server
        await server.stop()

    async def listen(self, port: int = 0) -> None:
        self._server = await serve(
            self._serve, "127.0.0.1", port, subprotocols=[Subprotocol(wire.SUBPROTOCOL)], compression=None,
            ping_interval=None, close_timeout=1,
        )  # fmt: skip

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # The log

    def message(self, text: str, *, sender: str = OTHER, c: str = TALK) -> wire.Message:
        """Puts a message into the log, and tells nobody."""
        body = encode_body(text, kind="text", reply_to=None)
        head = payloads.Header(
            id=str(uuid4()), conversation=c, sender=sender, device="d", after=0, digest=payloads.digest_of(body)
        )
        seq = len(self.logs[c]) + 1
        item = wire.Message(c=c, seq=seq, at=seq, ordinal=seq, own=0, header=payloads.encode_header(head), body=body)
        self.logs[c].append(item)
        return item

    def change(self, *, c: str = TALK, **what: object) -> wire.Change:
        """Puts a change into the log, and tells nobody."""
        seq = len(self.logs[c]) + 1
        item = msgspec.convert(
            {"t": "change", "c": c, "seq": seq, "at": seq, "by": OTHER, "id": str(uuid4()), **what}, wire.Change
        )
        self.logs[c].append(item)
        return item

    def store(self, sent: wire.Send) -> wire.Accepted:
        """The same id gets the same answer."""
        head = header(sent.header)
        for item in self.logs[head.conversation]:
            if isinstance(item, wire.Message) and header(item.header).id == head.id:
                return wire.Accepted(id=head.id, c=item.c, seq=item.seq, at=item.at)
        seq = len(self.logs[head.conversation]) + 1
        self.logs[head.conversation].append(
            wire.Message(
                c=head.conversation,
                seq=seq,
                at=seq,
                ordinal=seq,
                own=1,
                header=sent.header,
                body=sent.body,
                signature=sent.signature,
            )
        )
        return wire.Accepted(id=head.id, c=head.conversation, seq=seq, at=seq)

    # What a test does to its clients

    async def push(self, *frames: wire.ServerFrame) -> None:
        for connection in tuple(self._connections):
            for frame in frames:
                await connection.send(_encode(frame).decode())

    def restore(self, *, epoch: str, kept: dict[str, int]) -> None:
        """What came after these seqs is gone. Whoever is connected is cut off."""
        self.epoch, self.kept = epoch, kept
        for c in list(self.logs):
            if c in kept:
                del self.logs[c][kept[c] :]
            else:
                del self.logs[c]
        self.delivered = {c: min(upto, kept.get(c, 0)) for c, upto in self.delivered.items()}
        self.reads = {c: min(upto, kept.get(c, 0)) for c, upto in self.reads.items()}
        self.cut()

    async def send_text(self, text: str) -> None:
        for connection in tuple(self._connections):
            await connection.send(text)

    def cut(self) -> None:
        """Without a FIN's good manners."""
        for connection in tuple(self._connections):
            connection.transport.abort()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Waits for a condition over what has come."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(reached)

    def of(self, kind: type[wire.ClientFrame]) -> list[wire.ClientFrame]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    def sends(self) -> list[wire.Send]:
        return [frame for frame in self.frames if isinstance(frame, wire.Send)]

    def acks(self) -> list[tuple[str, int]]:
        return [(frame.c, frame.upto) for frame in self.frames if isinstance(frame, wire.Ack)]

    def hellos(self) -> list[wire.Hello]:
        return [frame for frame in self.frames if isinstance(frame, wire.Hello)]

    def fetches(self) -> list[wire.Fetch]:
        return [frame for frame in self.frames if isinstance(frame, wire.Fetch)]

    # The protocol

    async def _serve(self, connection: ServerConnection) -> None:
        left = self.cut_after.pop(0) if self.cut_after else -1
        await self._note(None)

        async def send(frame: wire.ServerFrame) -> None:
            nonlocal left
            if left == 0:
                connection.transport.abort()
                raise ConnectionResetError
            left -= 1
            await connection.send(_encode(frame).decode())

        try:
            await send(
                wire.Challenge(
                    nonce="nonce",
                    server="fake",
                    frame_bytes_max=self.frame_bytes_max,
                    body_bytes_max=self.body_bytes_max,
                    epoch=self.epoch,
                )
            )
            hello = _decode(await connection.recv())
            assert isinstance(hello, wire.Hello)
            await self._note(hello)
            if self.close_with is not None:
                await connection.close(self.close_with, "not this one")
                return
            await self._resume(hello, send)
            self._connections.add(connection)
            await self._note(None)
            if self.silent:
                # Else the library would answer pings.
                connection.transport.pause_reading()
            async for text in connection:
                frame = _decode(text)
                await self._note(frame)
                for answer in self._answers(frame):
                    await send(answer)
        except (ConnectionClosed, ConnectionResetError):
            pass
        finally:
            self._connections.discard(connection)

    async def _note(self, frame: wire.ClientFrame | None) -> None:
        async with self._changed:
            if frame is not None:
                self.frames.append(frame)
            self._changed.notify_all()

    async def _resume(self, hello: wire.Hello, send: Callable[[wire.ServerFrame], Awaitable[None]]) -> None:
        kept = self.kept if hello.epoch and hello.epoch != self.epoch else {}
        # The conversation that tests write into is there before anything was said in it.
        told = {TALK: None, **self.logs} if TALK not in kept and self.epoch == "" else self.logs
        overviews = [msgspec.structs.replace(self.overview(c), kept=kept.get(c)) for c in told]
        await send(wire.Welcome(conversations=overviews))
        for c, log in self.logs.items():
            if hello.partial and c not in hello.cursors:
                continue
            after = min(hello.cursors.get(c, 0), kept.get(c, 2**53))
            while after < len(log):
                page = self.page(c, after)
                await send(page)
                after = page.upto
        await send(wire.Live())

    def overview(self, c: str) -> wire.Overview:
        return wire.Overview(
            c=c, kind="group", protection=self.protection, role="member", visible=self._visible(c),
            head=len(self.logs[c]), at=1, read=self.reads.get(c, 0), delivered=self.delivered.get(c, 0),
            ticks=self.ticks,
        )  # fmt: skip

    def _visible(self, c: str) -> list[list[int]]:
        return self.visible.get(c, [[1, 0]])

    def page(self, c: str, after: int, id_: str = "") -> wire.Page:
        head = len(self.logs[c])
        seen = [
            item
            for item in self.logs[c][after:]
            if any(first <= item.seq <= (last or head) for first, last in self._visible(c))
        ]
        items = seen[: self.page_items]
        upto = items[-1].seq if len(seen) > len(items) else head
        return wire.Page(c=c, items=items, head=head, upto=upto, id=id_, retracted=self.unseen.get(c, []))

    def _answers(self, frame: wire.ClientFrame) -> list[wire.ServerFrame]:
        match frame:
            case wire.Send():
                return (self.answer.pop(0) if self.answer else accept)(self, frame)
            case wire.Fetch():
                if self.fetch_refusals:
                    return [msgspec.structs.replace(self.fetch_refusals.pop(0), id=frame.id)]
                return [self.page(frame.c, frame.after, frame.id)]
            case wire.Ack():
                self.delivered[frame.c] = frame.upto
            case wire.Read():
                self.reads[frame.c] = frame.upto
            case wire.Ping():
                return [wire.Pong(id=frame.id)]
            case wire.Hello():
                raise AssertionError("one hello is enough")
        return []
