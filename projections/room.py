"""What `delivery` knows of one conversation: who is in it, how far each has come, and which authors wait for ticks."""

from collections.abc import Iterator, Set
from typing import Final, cast

from domain.codec import Event
from domain.conversation import (
    ConversationEvent,
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageSent,
)
from domain.ids import AccountId, DeviceId
from domain.receipts import Marks, Receipt, ReceiptsAdvanced, advance
from domain.ticks import Lowest, Ticks, undelivered
from projections.visible import sees

_NOTHING: Final = Ticks()


class Room:
    """The fold of a conversation and its receipts, as far as pushes need it: O(members), whatever the history.

    The two streams may be folded one after the other: a mark counts for the member's last interval alone, and those
    before it lie below where that one begins.
    """

    def __init__(self) -> None:
        self._visible: dict[AccountId, list[list[int]]] = {}
        self._joined: dict[AccountId, int] = {}
        """The members of now, and the seq from which each sees."""
        self._audience: tuple[AccountId, ...] | None = None
        self._marks: dict[AccountId, dict[DeviceId, Marks]] = {}
        self._read: dict[AccountId, int] = {}
        """The greatest read mark of each account's devices."""
        self._delivered_by = Lowest()
        self._read_by = Lowest()
        self._wrote: dict[AccountId, int] = {}
        """The seq of each author's last message."""
        self._told: dict[AccountId, Ticks] = {}
        """What the members that wait for ticks were told; nobody waits whose last message all have read."""
        self._lowest = (0, 0)
        self._excepted: int | None = None
        """The lowest seq that was newly excepted or repaired since ticks were last asked for."""
        self._excepting: set[AccountId] = set()
        """The accounts that ever could not decrypt something."""

    @property
    def audience(self) -> tuple[AccountId, ...]:
        """The members of now; made anew only when membership changes, so it may be kept with a push."""
        if self._audience is None:
            self._audience = tuple(self._joined)
        return self._audience

    def fold(self, event: Event) -> None:
        """An event of the past, of either stream, that nobody is to hear of."""
        fact = event.entry.e
        if isinstance(fact, MessageSent):
            self.send(event.version + 1, fact)
        elif isinstance(fact, ReceiptsAdvanced):
            for receipt in fact.receipts:
                self.receive(receipt)
        else:
            self.change(event.version + 1, cast("ConversationEvent", fact))

    def settle(self) -> None:
        """After the past has been folded: what authors were to be told of it they have from elsewhere."""
        for _ in self.tick():
            pass

    def send(self, seq: int, event: MessageSent) -> None:
        author = event.by
        self._wrote[author] = seq
        if author not in self._told:
            self._told[author] = self._ticks_of(author)

    def change(self, seq: int, event: ConversationEvent) -> None:
        """Any other event of the conversation."""
        match event:
            case ConversationStarted():
                for account in event.members:
                    self._join(account, seq)
            case MembersAdded():
                for account in event.accounts:
                    self._join(account, event.visible_from)
            case MemberRemoved():
                self._leave(event.account, seq)
            case MemberLeft():
                self._leave(event.by, seq)
            case _:
                pass

    def receive(self, receipt: Receipt) -> bool:
        """Folds what one device states. True: the account's read mark has moved."""
        account = receipt.account
        if receipt.undecryptable or account in self._excepting:
            self._receive_excepting(receipt)
        else:
            advance(self._marks_of(receipt), receipt)
        self._delivered_by.advance(account, receipt.delivered)
        self._read_by.advance(account, receipt.read)
        if receipt.read <= self._read.get(account, 0):
            return False
        self._read[account] = receipt.read
        return True

    def tick(self) -> Iterator[tuple[AccountId, Ticks, list[int]]]:
        """The authors whose ticks have moved since this was last asked, with the seqs that somebody can't decrypt.
        Whoever is told may have no message between the old mark and the new one, but has some beyond the old one."""
        for author in self._candidates():
            ticks, told, wrote = self._ticks_of(author), self._told.get(author), self._wrote[author]
            repaired = self._excepted is not None and self._excepted <= min(wrote, ticks.delivered)
            if told is not None:
                self._told[author] = ticks
                if ticks.delivered >= wrote and ticks.read >= wrote:
                    del self._told[author]
            if repaired or (told is not None and _moved(told, ticks, wrote)):
                yield author, ticks, self._undelivered(author, ticks.delivered)
        self._excepted = None

    def _candidates(self) -> list[AccountId]:
        """While the lowest mark of all stands, only the tick of the one who is behind all others can move."""
        if self._excepted is not None:
            return [author for author in self._wrote if author in self._joined]
        lowest = (self._delivered_by.lowest, self._read_by.lowest)
        if lowest != self._lowest:
            self._lowest = lowest
            return list(self._told)
        last = {self._delivered_by.last, self._read_by.last}
        return [author for author in last if author in self._told]

    def _ticks_of(self, author: AccountId) -> Ticks:
        return Ticks(delivered=self._delivered_by.without(author), read=self._read_by.without(author))

    def _undelivered(self, author: AccountId, upto: int) -> list[int]:
        """The seqs up to the mark that another member can't decrypt, of those that the author may see."""
        seqs: set[int] = set()
        for account in self._excepting:
            joined = self._joined.get(account)
            if joined is not None and account != author:
                seqs.update(seq for seq in undelivered(self._marks[account].values()) if joined <= seq <= upto)
        return sorted(seq for seq in seqs if sees(self._visible[author], seq))

    def _marks_of(self, receipt: Receipt) -> Marks:
        devices = self._marks.get(receipt.account)
        if devices is None:
            devices = self._marks[receipt.account] = {}
        marks = devices.get(receipt.device)
        if marks is None:
            marks = devices[receipt.device] = Marks()
        return marks

    def _receive_excepting(self, receipt: Receipt) -> None:
        """A receipt of an account with seqs that it can't decrypt: by any mark that moves, they may be fewer."""
        self._excepting.add(receipt.account)
        marks = self._marks_of(receipt)
        devices = self._marks[receipt.account].values()
        before = undelivered(devices)
        advance(marks, receipt)
        self._except(before ^ undelivered(devices))

    def _except(self, seqs: Set[int]) -> None:
        """These seqs can't be decrypted any more, or can be again."""
        if seqs:
            self._excepted = min(seqs) if self._excepted is None else min(self._excepted, *seqs)

    def _join(self, account: AccountId, first: int) -> None:
        self._visible.setdefault(account, []).append([first, 0])
        self._joined[account] = first
        self._delivered_by.join(account, first)
        self._read_by.join(account, first)
        if account in self._wrote:
            # It heard nothing while it was away.
            self._told[account] = _NOTHING
        self._changed()

    def _leave(self, account: AccountId, seq: int) -> None:
        del self._joined[account]
        self._visible[account][-1][1] = seq
        self._delivered_by.leave(account, seq)
        self._read_by.leave(account, seq)
        self._told.pop(account, None)
        if account in self._excepting:
            self._except(undelivered(self._marks[account].values()))
        self._changed()

    def _changed(self) -> None:
        self._audience = None
        self._lowest = (-1, -1)


def _moved(told: Ticks, ticks: Ticks, wrote: int) -> bool:
    return told.delivered < min(ticks.delivered, wrote) or told.read < min(ticks.read, wrote)
