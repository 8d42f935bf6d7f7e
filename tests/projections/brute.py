"""What must be true of a history, worked out event by event in the simplest way, without code of the read models.

It costs messages × members, and is right by being plain.
"""

from collections.abc import Sequence

from domain.codec import Event
from domain.conversation import (
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
    RoleChanged,
    TitleSet,
)
from domain.entry import Sealed
from domain.ids import AccountId, ConversationId
from domain.receipts import Receipt, ReceiptsAdvanced


class Chat:
    """One conversation, from the events of its two streams."""

    def __init__(self, events: Sequence[Event], conversation: ConversationId) -> None:
        self.conversation = conversation
        self.log = [event for event in events if event.stream == f"conversation-{conversation}"]
        self.receipts: list[Receipt] = []
        for event in events:
            if event.stream == f"receipts-{conversation}" and isinstance(event.entry.e, ReceiptsAdvanced):
                self.receipts += event.entry.e.receipts
        self.head = len(self.log)
        self.roles: dict[AccountId, str] = {}
        self.sees: dict[AccountId, set[int]] = {}
        """The very seqs that each account may see."""
        self.joined: dict[AccountId, int] = {}
        self.left: dict[AccountId, int] = {}
        self.messages: dict[int, MessageSent] = {}
        self.retracted: dict[int, int] = {}
        """Message → its retraction."""
        self.titles: dict[int, Sealed] = {}
        self.at: dict[int, int] = {}
        for seq, event in enumerate(self.log, start=1):
            self.at[seq] = event.entry.at
            self._fold(seq, event)

    def _fold(self, seq: int, event: Event) -> None:
        fact = event.entry.e
        before = set(self.roles)
        if isinstance(fact, ConversationStarted):
            self.roles = dict(fact.members)
            if fact.title is not None:
                self.titles[seq] = fact.title
        elif isinstance(fact, MembersAdded):
            self.roles |= dict.fromkeys(fact.accounts, "member")
        elif isinstance(fact, MemberRemoved):
            del self.roles[fact.account]
        elif isinstance(fact, MemberLeft):
            del self.roles[fact.by]
        elif isinstance(fact, RoleChanged):
            self.roles[fact.account] = fact.role
        elif isinstance(fact, TitleSet):
            self.titles[seq] = fact.title
        elif isinstance(fact, MessageSent):
            self.messages[seq] = fact
        elif isinstance(fact, MessageRetracted):
            self.retracted[fact.target] = seq
        for account in before | set(self.roles):
            self.sees.setdefault(account, set()).add(seq)
        self.joined |= dict.fromkeys(set(self.roles) - before, seq)
        self.left |= dict.fromkeys(before - set(self.roles), seq)

    def intervals(self, account: AccountId) -> list[list[int]]:
        """The same as `sees`, as [first, last], up to the head."""
        made: list[list[int]] = []
        for seq in sorted(self.sees[account]):
            if made and made[-1][1] == seq - 1:
                made[-1][1] = seq
            else:
                made.append([seq, seq])
        return made

    # What an account knows of retractions

    def retraction(self, account: AccountId, message: int) -> int | None:
        """Whoever has left knows of none that came later; one who is back knows of all."""
        end = self.head if account in self.roles else max(self.sees[account])
        seq = self.retracted.get(message)
        return seq if seq is not None and seq <= end else None

    # What an account has unread

    def read(self, account: AccountId) -> int:
        return max((receipt.read for receipt in self.receipts if receipt.account == account), default=0)

    def unread(self, account: AccountId) -> int:
        read = self.read(account)
        return sum(
            message.counts and message.by != account and seq > read and not self.retraction(account, seq)
            for seq, message in self.messages.items()
            if seq in self.sees[account]
        )

    def title(self, account: AccountId) -> Sealed | None:
        """The last one that the account could see; one who is back sees what was set meanwhile."""
        return next((self.titles[seq] for seq in range(max(self.sees[account]), 0, -1) if seq in self.titles), None)

    # How far an author's messages have come

    def ticks(self, author: AccountId) -> tuple[int, int, list[int]]:
        delivered = self._tick(author, {seq: self._past(seq, "delivered") for seq in range(1, self.head + 1)})
        read = self._tick(author, {seq: self._past(seq, "read") for seq in range(1, self.head + 1)})
        return delivered, read, [seq for seq in range(1, self.head + 1) if self._undelivered(author, seq)]

    def _tick(self, author: AccountId, past: dict[int, set[AccountId]]) -> int:
        others = set(self.roles) - {author}
        if not others:
            tick = max((seq for account, seq in self.left.items() if account != author), default=0)
        else:
            tick = 0
            while tick < self.head and others <= past[tick + 1]:
                tick += 1
        return tick if author in self.roles else min(tick, max(self.sees[author]))

    def _past(self, seq: int, mark: str) -> set[AccountId]:
        newcomers = {account for account, joined in self.joined.items() if joined >= seq}
        return newcomers | {receipt.account for receipt in self.receipts if getattr(receipt, mark) >= seq}

    def _undelivered(self, author: AccountId, seq: int) -> bool:
        waited_for = {other for other in self.roles if other != author and self.joined[other] <= seq}
        return seq in self.sees[author] and any(self._could_not_read(other, seq) for other in waited_for)

    def _could_not_read(self, account: AccountId, seq: int) -> bool:
        stated = [receipt for receipt in self.receipts if receipt.account == account]
        devices = {receipt.device for receipt in stated if receipt.delivered >= seq}
        excepting = {receipt.device for receipt in stated if seq in receipt.undecryptable}
        repaired = {receipt.device for receipt in stated if seq in receipt.repaired}
        return bool(excepting - repaired) and devices <= excepting - repaired


def expand(intervals: Sequence[Sequence[int]], head: int) -> set[int]:
    """The seqs of [first, last] intervals; a last of 0 means "and on"."""
    return {seq for first, last in intervals for seq in range(first, (last or head) + 1)}


def cut(events: Sequence[Event], sizes: Sequence[int]) -> list[Sequence[Event]]:
    """The events in batches of these sizes, in turn and again, until none is left."""
    batches, at, turn = [], 0, 0
    while at < len(events):
        batches.append(events[at : at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return batches
