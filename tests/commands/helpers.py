"""A writer at work on a log, people to send through it, and what the log holds in the end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from commands.handlers import Command
from commands.keyring import MemoryKeyring
from commands.lookup import StreamLookup
from commands.writer import Accepted, Refused, Reply, Writer
from domain.account import RegisterAccount
from domain.codec import CODEC, Event
from domain.conversation import MessageSent, SendMessage, StartConversation
from domain.entry import Sealed
from domain.ids import AccountId, CommandId, ConversationId, DeviceId, conversation_stream
from domain.log import NO_STREAM, START, Append, EventLog, Outcome, RecordedEvent, StoreUnavailable
from domain.receipts import AdvanceReceipts, Receipt

ANN, BEN, CAT = (AccountId(name) for name in ("ann", "ben", "cat"))
PHONE = DeviceId("phone")
TEXT = Sealed(key="k", box=b"sealed")
PATIENCE_S = 30


class Clock:
    """Stands still until a test moves it; microseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


class Passing:
    """A log that passes everything on to another one."""

    def __init__(self, inner: EventLog) -> None:
        self.inner = inner

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        return await self.inner.append(batch)

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        return await self.inner.read_stream(stream, after=after, limit=limit)

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        return await self.inner.read_all(after=after, limit=limit)

    async def read_last(self, limit: int) -> list[RecordedEvent]:
        return await self.inner.read_last(limit)

    async def head(self) -> int:
        return await self.inner.head()

    def subscribe(self, *, after: int = START) -> AsyncGenerator[list[RecordedEvent], None]:
        return self.inner.subscribe(after=after)

    async def close(self) -> None:
        await self.inner.close()


class Watched(Passing):
    """Remembers the batches that it was given, lets a test in before one is stored, and can fail to read."""

    def __init__(self, inner: EventLog) -> None:
        super().__init__(inner)
        self.batches: list[Sequence[Append]] = []
        self.before: Callable[[], Awaitable[Any]] | None = None
        """Is awaited once, before the next append."""
        self.reads = 0
        self.events_read = 0
        self.failing_reads = 0
        """How many of the next reads fail."""

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        self.batches.append(batch)
        if self.before is not None:
            before, self.before = self.before, None
            await before()
        return await super().append(batch)

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        self._count()
        page = await super().read_stream(stream, after=after, limit=limit)
        self.events_read += len(page)
        return page

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        self._count()
        return await super().read_all(after=after, limit=limit)

    def _count(self) -> None:
        self.reads += 1
        if self.failing_reads:
            self.failing_reads -= 1
            raise StoreUnavailable("the store is away")


class Desk:
    """A writer with what it answered and handed over."""

    def __init__(self, log: EventLog, **options: Any) -> None:
        self.log = log
        self.clock = Clock()
        self.handed: list[Event] = []
        options = {
            "lookup": StreamLookup(log), "keyring": MemoryKeyring(), "hand_over": self.handed.extend,
            "clock": self.clock, **options,
        }  # fmt: skip
        self.writer = Writer(log, **options)

    def submit(self, command: Command, turn: Hashable = "peer", **how: Any) -> asyncio.Future[Reply]:
        """Without a chance for the writer to begin: what is submitted in a row comes into one batch."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def reply(reply: Reply) -> None:
            answer.set_result(reply)  # raises where there was an answer before

        self.writer.submit(command, turn=turn, reply=reply, **how)
        return answer

    async def all(self, *commands: Command, turn: Hashable = "peer") -> list[Reply]:
        """Submits the commands in a row, and waits for their answers."""
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.gather(*[self.submit(command, turn) for command in commands])

    async def do(self, command: Command, turn: Hashable = "peer") -> Reply:
        [reply] = await self.all(command, turn=turn)
        return reply

    async def accepted(self, command: Command, turn: Hashable = "peer") -> Accepted:
        reply = await self.do(command, turn)
        assert isinstance(reply, Accepted), reply
        return reply

    async def refused(self, command: Command, turn: Hashable = "peer") -> str:
        reply = await self.do(command, turn)
        assert isinstance(reply, Refused), reply
        return reply.code

    async def talk(self, *accounts: AccountId) -> ConversationId:
        """A new group of these accounts, which are registered where they don't exist yet; its seq is 1."""
        for account in accounts:
            await self.accepted(register(account))
        start = start_group(*accounts)
        await self.accepted(start)
        return start.conversation


@asynccontextmanager
async def writing(log: EventLog, **options: Any) -> AsyncIterator[Desk]:
    """A desk whose writer runs until the end, and stops as it should."""
    desk = Desk(log, **options)
    run = asyncio.create_task(desk.writer.run())
    try:
        yield desk
    finally:
        desk.writer.stop()
        async with asyncio.timeout(PATIENCE_S):
            await run


def new_id() -> CommandId:
    return CommandId(str(uuid4()))


def register(account: AccountId, **fields: Any) -> RegisterAccount:
    """Always with the same key, so that it may be said again."""
    made = {"id": new_id(), "account": account, "name": TEXT, "device": PHONE, "key": account, "signature": "s"}
    return RegisterAccount(**{**made, **fields})


def start_group(*accounts: AccountId, **fields: Any) -> StartConversation:
    made = {
        "id": new_id(), "conversation": ConversationId(str(uuid4())), "by": accounts[0], "device": PHONE,
        "kind": "group", "protection": "none", "others": list(accounts[1:]), "members_max": 100,
    }  # fmt: skip
    return StartConversation(**{**made, **fields})


def send(conversation: ConversationId, by: AccountId = ANN, **fields: Any) -> SendMessage:
    made = {
        "id": new_id(), "conversation": conversation, "by": by, "device": PHONE, "after": 1, "header": "{}",
        "digest": "d", "counts": True, "body": TEXT,
    }  # fmt: skip
    return SendMessage(**{**made, **fields})


def advance(conversation: ConversationId, account: AccountId, **marks: Any) -> AdvanceReceipts:
    receipt = Receipt(account=account, device=PHONE, **marks)
    return AdvanceReceipts(id=new_id(), conversation=conversation, receipts=[receipt])


async def read(log: EventLog, stream: str) -> list[RecordedEvent]:
    return await log.read_stream(stream, after=NO_STREAM, limit=100_000)


async def entries(log: EventLog, conversation: ConversationId) -> list[Event]:
    return [CODEC.decode(recorded) for recorded in await read(log, conversation_stream(conversation))]


async def sent(log: EventLog, conversation: ConversationId) -> list[str]:
    """The command ids of the conversation's messages, in the order of the log."""
    return [event.entry.cmd for event in await entries(log, conversation) if isinstance(event.entry.e, MessageSent)]


async def whole(log: EventLog) -> list[Event]:
    """All events of the log."""
    return [CODEC.decode(recorded) for recorded in await log.read_all(after=START, limit=100_000)]


def seqs(replies: Sequence[Reply]) -> list[int]:
    """Those of replies that all must say accepted."""
    assert all(isinstance(reply, Accepted) for reply in replies), replies
    return [reply.seq for reply in replies if isinstance(reply, Accepted)]


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop run until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # the loop's next turn, not a time
            await asyncio.sleep(0)


async def idle() -> None:
    """Lets everything run that can run, on a store without files."""
    for _ in range(50):
        await asyncio.sleep(0)
