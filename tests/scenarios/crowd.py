"""People who talk without a pause, whatever happens to the engine: load for scenarios of kills and outages."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from signet_client import Client, Refused, Sent, SignetError
from signet_client.wire import Protection
from tests.scenarios.audit import Said, check_all
from tests.scenarios.stage import WAIT_S, Diary, Heard

READS: Final = 0.3
"""How often somebody reads what has come, before the next message."""
RETRACTS: Final = 0.02


class Talker:
    """Sends one message after another, each as soon as the last one is accepted; reads and takes back now and then."""

    def __init__(self, client: Client, rng: random.Random, on_accepted: Callable[[], None]) -> None:
        self.client = client
        self.diary = Diary(client)
        self.conversations: list[str] = []
        self.accepted: list[Said] = []
        self.refused: list[Refused] = []
        self._rng = rng
        self._on_accepted = on_accepted
        self._spoken = 0

    async def talk(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            conversation = self._rng.choice(self.conversations)
            if self._rng.random() < READS:
                self.client.read(conversation, self._rng.randint(1, self.client.marks(conversation).cursor + 1))
            if self.accepted and self._rng.random() < RETRACTS:
                await self._retract(self._rng.choice(self.accepted))
            await self.say(conversation)

    async def say(self, conversation: str) -> None:
        self._spoken += 1
        text = f"{self._spoken} of {self.client.account}"
        try:
            sent: Sent = await self.client.send(conversation, text)
        except Refused as refused:
            self.refused.append(refused)
            self.client.discard(self.client.outbox()[0].id)
            return
        self.accepted.append(Said(conversation=conversation, id=sent.id, seq=sent.seq, text=text))
        self._on_accepted()

    @property
    def ticked(self) -> bool:
        return all(self.client.ticks_of(said.conversation, said.seq) != "sent" for said in self.accepted)

    async def _retract(self, said: Said) -> None:
        # Whether it was done, the log will say: an answer over HTTP may be lost for good.
        with contextlib.suppress(SignetError):
            await self.client.retract(said.conversation, said.seq)


class Crowd:
    """Everybody, and how many messages were accepted so far."""

    def __init__(self, clients: Sequence[Client], rng: random.Random) -> None:
        self.rng = rng
        self.talkers = [Talker(client, random.Random(rng.random()), self._count) for client in clients]
        self.accepted = 0
        self._ended = asyncio.Event()
        self._more = asyncio.Event()
        self._owner: Client
        """Of the last group."""
        self._group = ""

    @property
    def clients(self) -> list[Client]:
        return [talker.client for talker in self.talkers]

    @property
    def restless(self) -> str:
        """The group in which people come and go."""
        return self._group

    @property
    def said(self) -> list[Said]:
        return [said for talker in self.talkers for said in talker.accepted]

    async def meet(self, group_sizes: Sequence[int], *, protection: Protection = "end_to_end") -> None:
        """Everybody starts a direct conversation with the next one; then groups of these sizes."""
        clients = self.clients
        for client, next_ in zip(clients, [*clients[1:], clients[0]], strict=True):
            await client.start_direct(next_.account, protection=protection)
        for size in group_sizes:
            self._owner, *others = self.rng.sample(clients, size)
            self._group = await self._owner.start_group(
                [other.account for other in others], title=f"{size} people", protection=protection
            )
        for talker in self.talkers:
            overviews = await talker.client.overviews()
            for overview in overviews:
                await asyncio.wait_for(talker.client.held(overview.c, overview.head), WAIT_S)
            talker.conversations = [overview.c for overview in overviews]

    async def say_one(self) -> None:
        """Somebody says one thing; returns when it is accepted."""
        talker = self.rng.choice(self.talkers)
        await talker.say(self.rng.choice(talker.conversations))

    async def more(self, count: int) -> None:
        """Returns when that many further messages were accepted."""
        wanted = self.accepted + count
        async with asyncio.timeout(WAIT_S):
            while self.accepted < wanted:
                self._more.clear()
                await self._more.wait()

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """They talk; at the end everybody has the answer to all it has sent. They may talk again later."""
        self._ended.clear()
        tasks = [asyncio.create_task(talker.talk(self._ended)) for talker in self.talkers]
        tasks.append(asyncio.create_task(self._come_and_go()))
        try:
            yield
            self._ended.set()
            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _come_and_go(self) -> None:
        """The owner of the last group removes a member, and takes it in again, over and over."""
        members = await self._owner.members(self._group)
        others = [account for account, role in members.items() if role == "member"]
        while not self._ended.is_set():
            account = self.rng.choice(others)
            with contextlib.suppress(SignetError):
                await self._owner.remove(self._group, account)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self.rng.uniform(0.0, 0.2))
            with contextlib.suppress(SignetError):
                await self._owner.add(self._group, [account])

    async def ticked(self) -> None:
        """Returns when everybody knows that all it has said was delivered; nobody has joined or left meanwhile."""
        heard = Heard(*self.clients)
        await heard.until(lambda: all(talker.ticked for talker in self.talkers))

    async def check(self, data: Path) -> None:
        """The whole audit of an engine on this data folder, which is up; nobody talks meanwhile."""
        await check_all(data, self.clients, self.said, [talker.diary for talker in self.talkers])
        assert {refused.code for talker in self.talkers for refused in talker.refused} <= {"not_a_member"}

    def _count(self) -> None:
        self.accepted += 1
        self._more.set()
