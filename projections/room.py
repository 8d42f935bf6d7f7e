"""What `delivery` knows of one conversation: who is in it, how far each has come, and which authors wait for ticks."""

from collections.abc import Iterator
from typing import Final, cast

import msgspec

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
from domain.ticks import Lowest, Ticks
from projections.undecryptable import Changes, Undecryptable

_NOTHING: Final = Ticks()


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an author is to be told."""

    author: AccountId
    ticks: Ticks
    undelivered: list[int]
    """Seqs that another member could not decrypt, since it was last told."""
    repaired: list[int]
    """Seqs that it was told of before and that nobody waits for any more."""
    more: bool
    """These two say nothing: it is to read what is undelivered."""


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
        self._undecryptable = Undecryptable()
        self._unsure: set[AccountId] = set()
        """The authors that may have missed what was told of undecryptable messages."""

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
            self.fold_message(event.version + 1, fact)
        elif isinstance(fact, ReceiptsAdvanced):
            for receipt in fact.receipts:
                self.fold_receipt(receipt)
        else:
            self.fold_change(event.version + 1, cast("ConversationEvent", fact))

    def settle(self) -> None:
        """After the past has been folded: what authors were to be told of it they have from elsewhere. A room that was
        let go may have told of fewer undecryptable messages than there are, though."""
        for _ in self.take_ticks():
            pass
        self._unsure.update(self._wrote)

    def fold_message(self, seq: int, event: MessageSent) -> None:
        author = event.by
        self._wrote[author] = seq
        if author not in self._told:
            self._told[author] = self._ticks_of(author)

    def fold_change(self, seq: int, event: ConversationEvent) -> None:
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

    def fold_receipt(self, receipt: Receipt) -> bool:
        """Folds what one device states. True: the account's read mark has moved."""
        account = receipt.account
        marks = self._marks_of(receipt)
        if receipt.undecryptable or account in self._undecryptable:
            self._undecryptable.receive(receipt, self._marks[account], self._joined.get(account))
        else:
            advance(marks, receipt)
        self._delivered_by.advance(account, receipt.delivered)
        self._read_by.advance(account, receipt.read)
        if receipt.read <= self._read.get(account, 0):
            return False
        self._read[account] = receipt.read
        return True

    def take_ticks(self) -> Iterator[Told]:
        """The authors whose ticks have moved, or with a message that is newly undelivered or repaired, since this was
        last asked. None of the seqs that one is told of need be its own, but it has a message beyond the lowest."""
        changed = self._undecryptable.lowest_change
        for author in self._candidates(changed is not None):
            ticks, told, wrote = self._ticks_of(author), self._told.get(author), self._wrote[author]
            if told is not None:
                self._told[author] = ticks
                if ticks.delivered >= wrote and ticks.read >= wrote:
                    del self._told[author]
            news: Changes | None = ([], [])
            if changed is not None and changed <= wrote:
                news = self._undecryptable.changes(author, self._visible[author])
            if news != ([], []) or (told is not None and _moved(told, ticks, wrote)):
                yield self._to_tell(author, ticks, news)
        self._undecryptable.told()

    def _candidates(self, changed: bool) -> list[AccountId]:
        """While the lowest mark of all stands, only the tick of the one who is behind all others can move."""
        if changed:
            return [author for author in self._wrote if author in self._joined]
        lowest = (self._delivered_by.lowest, self._read_by.lowest)
        if lowest != self._lowest:
            self._lowest = lowest
            return list(self._told)
        last = {self._delivered_by.last, self._read_by.last}
        return [author for author in last if author in self._told]

    def _ticks_of(self, author: AccountId) -> Ticks:
        return Ticks(delivered=self._delivered_by.without(author), read=self._read_by.without(author))

    def _to_tell(self, author: AccountId, ticks: Ticks, news: Changes | None) -> Told:
        unsure = author in self._unsure
        self._unsure.discard(author)
        if news is None or (unsure and self._undecryptable):
            return Told(author=author, ticks=ticks, undelivered=[], repaired=[], more=True)
        return Told(author=author, ticks=ticks, undelivered=news[0], repaired=news[1], more=False)

    def _marks_of(self, receipt: Receipt) -> Marks:
        devices = self._marks.get(receipt.account)
        if devices is None:
            devices = self._marks[receipt.account] = {}
        marks = devices.get(receipt.device)
        if marks is None:
            marks = devices[receipt.device] = Marks()
        return marks

    def _join(self, account: AccountId, first: int) -> None:
        self._visible.setdefault(account, []).append([first, 0])
        self._joined[account] = first
        self._delivered_by.join(account, first)
        self._read_by.join(account, first)
        if account in self._wrote:
            # It heard nothing while it was away.
            self._told[account] = _NOTHING
            self._unsure.add(account)
        self._changed()

    def _leave(self, account: AccountId, seq: int) -> None:
        self._undecryptable.leave(account, self._joined.pop(account))
        self._visible[account][-1][1] = seq
        self._delivered_by.leave(account, seq)
        self._read_by.leave(account, seq)
        self._told.pop(account, None)
        self._changed()

    def _changed(self) -> None:
        self._audience = None
        self._lowest = (-1, -1)


def _moved(told: Ticks, ticks: Ticks, wrote: int) -> bool:
    return told.delivered < min(ticks.delivered, wrote) or told.read < min(ticks.read, wrote)
