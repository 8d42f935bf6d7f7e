"""The oracle: what must be so, worked out from the log's events in the plainest way, and compared with what clients
hold and what the engine says. It uses no code of the engine but the codec, and shares none with the read models.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from domain.codec import Event
from domain.conversation import (
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
)
from domain.entry import Sealed
from domain.log import START, EventLog
from domain.receipts import ReceiptsAdvanced
from signet_client import Client, Marks, Message, wire
from tests.scenarios.stage import Diary, Heard, following, open_events, unsealing

ENCRYPTED = "(encrypted)"
"""What the log says of a message whose body it can't read."""

Unseal = Callable[[Sealed], str | None]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the engine has accepted, as its sender remembers it."""

    conversation: str
    id: str
    seq: int
    text: str


class Talk:
    """One conversation, seq by seq."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.members: set[str] = set()
        self.sees: dict[str, set[int]] = {}
        self.messages: dict[int, MessageSent] = {}
        self.retracted: dict[int, int] = {}
        """Message → its retraction."""
        self.read: dict[str, int] = {}
        self.delivered: dict[tuple[str, str], int] = {}

    def fold(self, event: Event) -> None:
        fact = event.entry.e
        if isinstance(fact, ReceiptsAdvanced):
            for each in fact.receipts:
                self.read[each.account] = max(self.read.get(each.account, 0), each.read)
                device = (each.account, each.device)
                self.delivered[device] = max(self.delivered.get(device, 0), each.delivered)
            return
        self.events.append(event)
        assert event.version == len(self.events) - 1, f"{event.stream} has a hole before version {event.version}"
        seq = len(self.events)
        audience = set(self.members)
        if isinstance(fact, ConversationStarted):
            self.members = set(fact.members)
        elif isinstance(fact, MembersAdded):
            self.members |= set(fact.accounts)
        elif isinstance(fact, MemberRemoved):
            self.members.remove(fact.account)
        elif isinstance(fact, MemberLeft):
            self.members.remove(fact.by)
        elif isinstance(fact, MessageSent):
            assert fact.by in self.members, f"{fact.by} sent seq {seq} and is no member"
            self.messages[seq] = fact
        elif isinstance(fact, MessageRetracted):
            self.retracted[fact.target] = seq
        for account in audience | self.members:
            self.sees.setdefault(account, set()).add(seq)

    def unread(self, account: str) -> int:
        """I7, word by word: what the account may see, has not read, did not write, and nobody took back."""
        read = self.read.get(account, 0)
        return sum(
            seq > read and not self.retraction(account, seq) and self.messages[seq].counts
            for seq in self.others(account)
        )  # fmt: skip

    def retraction(self, account: str, seq: int) -> int | None:
        """I8: that of a message, as far as the account may know of it: whoever has left knows of none after that."""
        retraction = self.retracted.get(seq)
        if retraction is None or account in self.members or retraction <= max(self.sees[account]):
            return retraction
        return None

    def others(self, account: str) -> Iterator[int]:
        """The messages of others that the account may see."""
        return (seq for seq, it in self.messages.items() if it.by != account and seq in self.sees[account])


class Ledger:
    """The whole log."""

    def __init__(self, events: Sequence[Event] = ()) -> None:
        self.talks: dict[str, Talk] = {}
        self.events: list[Event] = []
        self.add(events)

    @property
    def position(self) -> int:
        return self.events[-1].position if self.events else START

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            assert event.position > self.position
            self.events.append(event)
            category, _, uuid = event.stream.partition("-")
            if category in ("conversation", "receipts"):
                self.talks.setdefault(uuid, Talk()).fold(event)

    def unsettled(self, clients: Sequence[Client]) -> list[str]:
        """What is still under way: what a client does not hold yet, and receipts that are not in the log yet."""
        return [
            f"{client.account} in {conversation}: {what}"
            for client in clients
            for conversation, talk in self.talks.items()
            if client.account in talk.sees
            for what in _under_way(conversation, talk, client, client.marks(conversation))
        ]


def _under_way(conversation: str, talk: Talk, client: Client, marks: Marks) -> Iterator[str]:
    head = max(talk.sees[client.account])
    if marks.cursor < head:
        yield f"holds {marks.cursor} of {head}"
    if (read := talk.read.get(client.account, 0)) < marks.read:
        yield f"has read {marks.read}, the log says {read}"
    undecrypted = client._machine.vault.undecrypted(conversation)
    if late := [row.seq for row in undecrypted if not row.repaired and not talk.retraction(client.account, row.seq)]:
        yield f"can't decrypt {late}"
    owed = max(talk.others(client.account), default=0)
    if (delivered := talk.delivered.get((client.account, client.device), 0)) < owed:
        yield f"owes a receipt of {owed}, the log says {delivered}"


async def settled(log: EventLog, clients: Sequence[Client]) -> Ledger:
    """The whole log, once everybody holds what it may see and the log has every receipt that is owed."""
    ledger, heard, head = Ledger(), Heard(*clients), await log.head()

    def take(events: list[Event]) -> None:
        ledger.add(events)
        heard.tell()

    async with following(log, take):
        try:
            await heard.until(lambda: ledger.position >= head and not ledger.unsettled(clients))
        except TimeoutError as error:
            raise AssertionError("\n".join(ledger.unsettled(clients))) from error
    return ledger


async def check_all(data: Path, clients: Sequence[Client], said: Sequence[Said], diaries: Sequence[Diary]) -> None:
    """The whole audit of an engine on this data folder, which is up; nobody talks meanwhile."""
    log = open_events(data)
    try:
        ledger = await settled(log, clients)
    finally:
        await log.close()
    with unsealing(data) as unseal:
        check_stored_once(ledger, said, unseal)
    check_delivered(ledger, clients, said)
    check_told_in_order(diaries)
    await check_overviews(ledger, clients)


def check_stored_once(ledger: Ledger, accepted: Sequence[Said], unseal: Unseal) -> None:
    """I1, I2, I3: every accepted message stands in the log once, where its sender was told; no id stands twice."""
    ids = Counter(event.entry.id for event in ledger.events)
    assert [id_ for id_, count in ids.items() if count > 1] == []
    for conversation, talk in ledger.talks.items():
        commands = Counter(event.entry.cmd for event in talk.events)
        assert [id_ for id_, count in commands.items() if count > 1] == [], conversation
        headers = Counter(_id_of(message) for message in talk.messages.values())
        assert [id_ for id_, count in headers.items() if count > 1] == [], conversation
    for said in accepted:
        stored = ledger.talks[said.conversation].messages.get(said.seq)
        assert stored is not None, f"{said} was accepted and is lost"
        assert _id_of(stored) == said.id, f"{said} was accepted, and another message stands there"
        assert _text_of(unseal(stored.body)) in (said.text, ENCRYPTED)


def check_delivered(ledger: Ledger, clients: Sequence[Client], accepted: Sequence[Said] = ()) -> None:
    """I1, I3, I4, I5, I8: each client holds all that its account may see, and nothing else, and can read it."""
    texts = {(said.conversation, said.seq): said.text for said in accepted}
    for client in clients:
        mine = {conversation: talk for conversation, talk in ledger.talks.items() if client.account in talk.sees}
        assert {each.conversation for each in client.conversations()} == set(mine)
        for conversation, talk in mine.items():
            items = client.history(conversation, limit=2**62)
            held = [item.seq for item in items]
            assert held == sorted(talk.sees[client.account]), (client.account, conversation)
            for item in items:
                _check_item(talk, item, client.account)
                if isinstance(item, Message) and item.text is not None:
                    assert item.text == texts.get((conversation, item.seq), item.text)


def _check_item(talk: Talk, item: Message | wire.Change, account: str) -> None:
    event = talk.events[item.seq - 1]
    assert item.id == event.entry.cmd
    if not isinstance(item, Message):
        assert not isinstance(event.entry.e, MessageSent)
        return
    assert isinstance(event.entry.e, MessageSent)
    assert item.sender == event.entry.e.by
    assert (item.text is None) == (item.retracted is not None), item
    assert item.retracted == talk.retraction(account, item.seq), item


def check_told_in_order(diaries: Sequence[Diary]) -> None:
    """I2, I3: no application hears of anything twice, or out of order."""
    for diary in diaries:
        for seqs in diary.seqs.values():
            assert all(one < next_ for one, next_ in pairwise(seqs))


async def check_overviews(ledger: Ledger, clients: Sequence[Client]) -> None:
    """I7: what the engine says of each conversation of each account is what the log says. Nobody talks meanwhile."""
    for client in clients:
        shown = {overview.c: overview for overview in await client.overviews()}
        mine = {conversation: talk for conversation, talk in ledger.talks.items() if client.account in talk.sees}
        assert set(shown) == set(mine)
        for conversation, talk in mine.items():
            overview = shown[conversation]
            assert overview.head == max(talk.sees[client.account])
            assert overview.read == talk.read.get(client.account, 0)
            assert overview.unread == talk.unread(client.account), (client.account, conversation)
            seen = {seq for first, last in overview.visible for seq in range(first, (last or overview.head) + 1)}
            assert seen == talk.sees[client.account]


def _id_of(message: MessageSent) -> str:
    id_: str = msgspec.json.decode(message.header)["id"]
    return id_


def _text_of(body: str | None) -> str | None:
    if body is None:
        return None
    decoded = msgspec.json.decode(body)
    text: str = ENCRYPTED if "ciphertext" in decoded else decoded["text"]
    return text
