"""A long history, made in this process by the real writer, and what it takes to do something with all of it."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from commands.ids import new_uuid
from commands.writer import Accepted, Command
from domain.account import RegisterAccount
from domain.conversation import SendMessage, StartConversation
from domain.ids import AccountId, CommandId, ConversationId, DeviceId, account_id, direct_id, group_id
from domain.receipts import AdvanceReceipts, Receipt
from ops.errors import OpsError
from ops.writing import WriteSide
from signet_client import payloads

GROUP_MEMBERS: Final = 30
AT_ONCE: Final = 2_000
"""How many commands wait for their answers together."""
_BODY: Final = '{"kind":"text","text":"' + "x" * 120 + '","reply_to":null,"salt":"AAAAAAAAAAAAAAAAAAAAAA"}'
_DIGEST: Final = payloads.digest_of(_BODY)
_DEVICE: Final = DeviceId("d")
_NOBODYS_KEY: Final = "A" * 43


class Historian:
    """Fills a log: two thirds are messages, one third receipts, in direct conversations and groups."""

    def __init__(
        self, side: WriteSide, *, accounts: int = 2_000, directs: int = 2_000, groups: int = 200, seed: int = 1
    ) -> None:
        """How many accounts there are, and at most how many conversations of two, and of `GROUP_MEMBERS`."""
        self._side = side
        self._people = accounts
        self._directs = directs
        self._groups = groups
        self._random = random.Random(seed)
        self._accounts: list[AccountId] = []
        self._talks: list[tuple[ConversationId, list[AccountId]]] = []
        self._heads: dict[ConversationId, int] = {}

    async def write(self, events: int, on_events: Callable[[int], None]) -> None:
        """At least so many. `on_events` hears how many there are."""
        measures = self._side.writer.measures
        for beginnings in (self._registrations(), self._starts()):
            while commands := list(islice(beginnings, AT_ONCE)):
                await self._submit(commands)
        while measures.events < events:
            await self._submit([self._message() for _ in range(AT_ONCE)])
            await self._submit([self._receipt() for _ in range(AT_ONCE // 2)])
            on_events(measures.events)

    def _registrations(self) -> Iterator[Command]:
        for index in range(self._people):
            command_id = CommandId(new_uuid())
            account = account_id(command_id=command_id, key=_NOBODYS_KEY)
            self._accounts.append(account)
            yield RegisterAccount(
                id=command_id, account=account, name=self._side.sealer.seal(account, f"person {index}"),
                device=_DEVICE, key=_NOBODYS_KEY, signature="",
            )  # fmt: skip

    def _starts(self) -> Iterator[Command]:
        for index in range(self._directs + self._groups):
            members = self._random.sample(self._accounts, 2 if index < self._directs else GROUP_MEMBERS)
            command_id = CommandId(new_uuid())
            if index < self._directs:
                talk = direct_id(protection="none", one=members[0], other=members[1])
            else:
                talk = group_id(creator=members[0], command_id=command_id)
            if talk in self._heads:
                continue
            self._talks.append((talk, members))
            self._heads[talk] = 1
            yield StartConversation(
                id=command_id, conversation=talk, by=members[0], device=_DEVICE, others=members[1:],
                kind="direct" if index < self._directs else "group", protection="none", members_max=1_024,
            )  # fmt: skip

    def _message(self) -> SendMessage:
        talk, members = self._random.choice(self._talks)
        sender, after = self._random.choice(members), self._heads[talk]
        self._heads[talk] += 1
        command_id = CommandId(new_uuid())
        header = payloads.Header(
            id=command_id, conversation=talk, sender=sender, device=_DEVICE, after=after, digest=_DIGEST
        )
        return SendMessage(
            id=command_id, conversation=talk, by=sender, device=_DEVICE, after=after, counts=True, digest=_DIGEST,
            header=payloads.encode_header(header), body=self._side.sealer.seal(sender, _BODY),
        )  # fmt: skip

    def _receipt(self) -> AdvanceReceipts:
        talk, members = self._random.choice(self._talks)
        # A new mark nearly always: one that says nothing new is no event.
        head = self._heads[talk]
        marks = [
            Receipt(account=account, device=_DEVICE, delivered=head, read=self._random.randint(head // 2, head))
            for account in self._random.sample(members, 2)
        ]
        return AdvanceReceipts(id=CommandId(new_uuid()), conversation=talk, receipts=marks)

    async def _submit(self, commands: Iterable[Command]) -> None:
        replies = await asyncio.gather(*(self._side.writer.execute(each, turn=None) for each in commands))
        for reply in replies:
            if not isinstance(reply, Accepted) and reply.code != "busy":
                raise OpsError(f"the writer has refused a command of the bench: {reply.code}")
