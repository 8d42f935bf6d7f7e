"""What every scenario needs: an engine in this process or in one of its own, people with real clients, and waiting for
what their clients hear."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from commands.keyring import FileKeyring
from commands.sealing import Sealer
from commands.stores import open_log
from commands.stores.memory import Medium, MemoryLog
from domain.codec import CODEC
from domain.codec import Event as StoredEvent
from domain.entry import Sealed
from domain.log import EventLog
from ops.child import free_port
from ops.node import Node
from ops.settings import load_settings
from signet_client import Change, Client, Event, Message, Received

WAIT_S: Final = 60
"""Generous: what doesn't come by then does not come."""

UNBOUNDED: Final = {"limit_commands_device": "off", "limit_commands_account": "off", "limit_receipts_device": "off"}
"""For people who say in a second what others say in a day."""


def seed() -> int:
    """The seed of this run; SIGNET_TEST_SEED repeats one."""
    chosen = int(os.environ.get("SIGNET_TEST_SEED") or random.randrange(1_000_000))
    print(f"SIGNET_TEST_SEED={chosen}")
    return chosen


class Place:
    """A server's data folder, its port, and its store, all of which outlive the engine."""

    def __init__(self, data: Path, *, in_memory: bool) -> None:
        self.data = data
        self.port = free_port()
        self.medium = Medium() if in_memory else None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> EventLog | None:
        """A connection to the store, where it is in memory."""
        return None if self.medium is None else MemoryLog(self.medium)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Node]:
        """An engine in this process; stopped as by SIGTERM at the end."""
        async with Node.open(load_settings(self.data, port=self.port, **UNBOUNDED), log=self.log()) as node:
            running = asyncio.create_task(node.run())
            await node.started()
            try:
                yield node
            finally:
                node.stop()
                await running


class Heard:
    """Wakes whoever waits for something that clients hear."""

    def __init__(self, *clients: Client) -> None:
        self._news = asyncio.Event()
        for client in clients:
            self.add(client)

    def add(self, client: Client) -> None:
        client.listen(lambda _: self._news.set())

    def tell(self) -> None:
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns when the condition holds; it is looked at after every event. Raises TimeoutError."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


class Diary:
    """What a client told its application, in order: the seqs of each conversation."""

    def __init__(self, client: Client) -> None:
        self.seqs: dict[str, list[int]] = {}
        client.listen(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Received):
            self.seqs.setdefault(conversation_of(event.item), []).append(event.item.seq)


def conversation_of(item: Message | Change) -> str:
    return item.conversation if isinstance(item, Message) else item.c


def open_events(data: Path) -> EventLog:
    """The log of the server with this data folder, to be read beside its engine."""
    return open_log(load_settings(data).events_url, read_only=True)


@contextmanager
def unsealing(data: Path) -> Iterator[Callable[[Sealed], str | None]]:
    """Opens the sealed texts of a server, also beside its engine."""
    keyring = FileKeyring(data / "keyring.db", read_only=True)
    try:
        yield Sealer(keyring, lambda: 0).unseal
    finally:
        keyring.close()


async def register(url: str, name: str, folder: Path) -> Client:
    """A client that is not running yet. Its store needn't survive a crash of the machine."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a test may
    return await Client.register(url, name, folder / f"{name}.db", durable=False)


def reopen(folder: Path, name: str) -> Client:
    """The same device again, from its store."""
    return Client.open(folder / f"{name}.db", durable=False)


@asynccontextmanager
async def running(*clients: Client) -> AsyncIterator[None]:
    """Runs the clients, all caught up."""
    async with contextlib.AsyncExitStack() as stack:
        for client in clients:
            await stack.enter_async_context(client)
        for client in clients:
            await asyncio.wait_for(client.caught_up(), WAIT_S)
        yield


@asynccontextmanager
async def people(url: str, folder: Path, *names: str) -> AsyncIterator[list[Client]]:
    """New people, whose clients run."""
    clients = [await register(url, name, folder) for name in names]
    async with running(*clients):
        yield clients


async def hold(clients: Iterable[Client], conversation: str, seq: int) -> None:
    """Returns when all of them hold the conversation up to this seq."""
    for client in clients:
        await asyncio.wait_for(client.held(conversation, seq), WAIT_S)


def texts(client: Client, conversation: str) -> list[str | None]:
    return [message.text for message in client.messages(conversation)]


@asynccontextmanager
async def following(log: EventLog, on_events: Callable[[list[StoredEvent]], None]) -> AsyncIterator[None]:
    """Reads the log from its start, and goes on as it grows."""

    async def follow() -> None:
        async for batch in log.subscribe():
            on_events([CODEC.decode(recorded) for recorded in batch])

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
