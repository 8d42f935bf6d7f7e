"""The people of a play: each a client of its own, which stores, acknowledges and reads what comes to it."""

import asyncio
import random
import resource
from array import array
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Final, Self

from ops.errors import OpsError
from ops.irc.script import Person
from ops.playing.journal import Journal
from signet_client import Client, Decrypted, Event, Forged, Lost, Message, Received, TickMoved
from signet_client.wire import Protection

READ_AFTER_S: Final = 0.3
"""How long a person takes, on average, to look at what has come; all that came meanwhile is one read mark."""
ARRIVING_AT_ONCE: Final = 8
FILES_EACH: Final = 6
"""A client's store and its log, a live and an HTTP connection, and the same at the engine's end at worst."""
FILES_BESIDES: Final = 200


class Member:
    """One person and its client; the owner of the channel is no person."""

    def __init__(self, person: Person | None, name: str, client: Client) -> None:
        self.person = person
        self.name = name
        self.client = client
        self.told: Final = array("Q")
        """Seqs of the channel's messages in the order in which the client stored them."""
        self.sent: Final[list[int]] = []
        """Seqs of its own messages."""
        self.stays: Final[list[list[int]]] = []
        """[first, end) in accepted messages; a stay that goes on has no end yet."""
        self.came_at = 0
        """The seq of its last coming in."""
        self.moved: Final = asyncio.Event()
        """Its ticks moved, or its client ended."""
        self.ended: Lost | None = None
        self._reading: asyncio.TimerHandle | None = None

    @property
    def inside(self) -> bool:
        return bool(self.stays) and len(self.stays[-1]) == 1

    def read_soon(self, channel: str) -> None:
        if self._reading is None:
            delay = READ_AFTER_S * random.uniform(0.5, 1.5)
            self._reading = asyncio.get_running_loop().call_later(delay, self._read, channel)

    def _read(self, channel: str) -> None:
        self._reading = None
        if self.ended is None:
            self.client.read(channel, self.client.marks(channel).cursor)

    async def ticked(self, channel: str) -> None:
        """Returns when everybody has read what this person sent. Raises OpsError where its client has ended."""
        while self.sent and self.client.ticks_of(channel, self.sent[-1]) != "read":
            if self.ended is not None:
                raise OpsError(f"the client of {self.name} was closed by the engine: {self.ended.text}")
            self.moved.clear()
            await self.moved.wait()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        await self.client.close()


class Crowd:
    """All members, and what their clients tell. `async with` closes the clients at the end."""

    def __init__(self, url: str, folder: Path, journal: Journal) -> None:
        self._url = url
        self._folder = folder
        self._journal = journal
        self._by_account: dict[str, Member] = {}
        self.owner: Member
        self.people: dict[Person, Member] = {}
        self.channel = ""
        self.forged: Final[list[str]] = []
        """What clients did not believe the engine."""
        self.happened = 0
        """How many events the clients told of; while it grows, the play goes on."""
        self.sent_at: Final[dict[int, float]] = {}
        """When each message of the channel was sent, by the seq that it gets."""
        self.latencies_s: Final = array("d")
        """From sending to being stored, for every message and every other client that got it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(member.close() for member in self._by_account.values()))

    async def arrive(
        self, names: Mapping[Person, str], on_each: Callable[[], None], *, protection: Protection = "none"
    ) -> None:
        """Registers and connects all people, and the channel's owner. Raises OpsError, SignetError."""
        self.owner = await self._member(None, "the channel", 0)
        self.channel = await self.owner.client.start_group([], title="the channel", protection=protection)
        entering = asyncio.Semaphore(ARRIVING_AT_ONCE)

        async def enter(number: int, person: Person, name: str) -> None:
            async with entering:
                self.people[person] = await self._member(person, name, number)
                on_each()

        try:
            async with asyncio.TaskGroup() as group:
                for number, (person, name) in enumerate(names.items(), start=1):
                    group.create_task(enter(number, person, name))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _member(self, person: Person | None, name: str, number: int) -> Member:
        # Nicks hold what file names can't: numbers it is.
        client = await Client.register(self._url, name, self._folder / f"{number}.db", durable=False)
        member = self._by_account[client.account] = Member(person, name, client)
        client.listen(partial(self._on_event, member))
        await client.__aenter__()
        await client.caught_up()
        return member

    def _on_event(self, member: Member, event: Event) -> None:
        self.happened += 1
        match event:
            case Received(item=Message(undecryptable=None) as message):
                self._stored(member, message)
            case Decrypted():
                self._stored(member, event.item)
            case Forged():
                self.forged.append(event.text)
            case TickMoved():
                member.moved.set()
            case Lost(final=True):
                member.ended = event
                member.moved.set()
            case _:
                pass

    def _stored(self, member: Member, message: Message) -> None:
        member.told.append(message.seq)
        author = self._by_account.get(message.sender)
        if member.person is not None:
            name = (author.person if author else None) or message.sender
            self._journal.stored(member.person, seq=message.seq, author=name, text=message.text)
        if author is not member:
            if member.person is not None and message.seq in self.sent_at:
                self.latencies_s.append(perf_counter() - self.sent_at[message.seq])
            member.read_soon(self.channel)

    def write_ticks(self) -> None:
        """Journals the last ticks that everybody saw of its messages."""
        for person, member in self.people.items():
            for seq in member.sent:
                tick = member.client.ticks_of(self.channel, seq)
                self._journal.ticks(person, sent=seq, delivered=tick != "sent", read=tick == "read")


def allow_files(persons: int) -> None:
    """As many open files as it takes, here and in an engine that is started afterwards. Raises OpsError."""
    wanted = FILES_BESIDES + FILES_EACH * persons
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise OpsError(
            f"{persons} clients need {wanted} open files, and {hard} are allowed (ulimit -Hn): play less at once"
        )
    if soft != resource.RLIM_INFINITY and wanted > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
