"""Ticks: how far an author's messages have come, derived from the marks of the other members.

A message is delivered to a member when one of its devices is past it and could read it. The audience of a message are
the members at its seq: whoever left since is waived, and a newcomer counts as past everything before it joined. So the
tick of an author is the lowest mark of the other members; a group's ticks cost O(members) however many messages they
cover. An author that all others have left has their last departure for its tick: all before it was delivered or is
waived, and what it writes to nobody after that gets no tick. So ticks only move forward.
"""

from collections.abc import Iterable, Set

import msgspec

from domain.ids import AccountId
from domain.receipts import Marks


class Ticks(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Every seq up to `delivered` is delivered to all others, up to `read` read by all others."""

    delivered: int = 0
    read: int = 0


def member_marks(devices: Iterable[Marks], joined: int) -> Ticks:
    """How far one member has come by the best of its devices; `joined` is the seq from which it sees."""
    delivered = read = joined
    for marks in devices:
        delivered = max(delivered, marks.delivered)
        read = max(read, marks.read)
    return Ticks(delivered=delivered, read=read)


def undelivered(devices: Iterable[Marks]) -> Set[int]:
    """The seqs that no device of the member could read, though some were past them."""
    # Each device's set is made once: `excepted` is computed, and there may be thousands.
    each = [(marks.delivered, marks.excepted) for marks in devices]
    everything: set[int] = set().union(*(excepted for _, excepted in each))
    return {
        seq for seq in everything if not any(seq <= delivered and seq not in excepted for delivered, excepted in each)
    }


def unreadable(devices: Iterable[Marks], seq: int) -> bool:
    """Whether the seq is one of the member's `undelivered`."""
    excepted = False
    for marks in devices:
        if seq in marks.undecryptable and seq not in marks.repaired:
            excepted = True
        elif seq <= marks.delivered:
            return False
    return excepted


class Lowest:
    """The lowest mark of a conversation's members but one, kept as marks move. A move costs O(1), but where one of the
    two lowest marks loses its last member: O(distinct marks), when it is next asked for."""

    def __init__(self) -> None:
        self._marks: dict[AccountId, int] = {}
        self._members_at: dict[int, set[AccountId]] = {}
        self._departed = 0
        """The seq of the last leaving."""
        self._two: list[int] | None = None
        """The two lowest distinct marks; None: to be found anew."""

    def join(self, account: AccountId, mark: int) -> None:
        """A new member, or one that is back; `mark`: the seq from which it sees."""
        self._marks[account] = mark
        self._arrive(account, mark)

    def advance(self, account: AccountId, mark: int) -> None:
        """Marks only go forward: a lower one changes nothing, nor does that of an account that is no member."""
        before = self._marks.get(account)
        if before is not None and mark > before:
            self._depart(account, before)
            self._marks[account] = mark
            self._arrive(account, mark)

    def leave(self, account: AccountId, seq: int) -> None:
        """`seq`: that of its leaving."""
        mark = self._marks.pop(account, None)
        if mark is not None:
            self._depart(account, mark)
            self._departed = max(self._departed, seq)

    def without(self, account: AccountId) -> int:
        """The lowest mark of the others; where there are none, the seq of the last leaving, or 0."""
        two = self._lowest_two()
        if two and (self._marks.get(account) != two[0] or len(self._members_at[two[0]]) > 1):
            return two[0]
        return two[1] if len(two) > 1 else self._departed

    @property
    def lowest(self) -> int:
        """The lowest mark of all; 0 where there are no members."""
        two = self._lowest_two()
        return two[0] if two else 0

    @property
    def last(self) -> AccountId | None:
        """The one member that is behind all others, if there is one: while `lowest` stands, its is the only tick that
        can move."""
        two = self._lowest_two()
        if not two or len(self._members_at[two[0]]) > 1:
            return None
        return next(iter(self._members_at[two[0]]))

    def _lowest_two(self) -> list[int]:
        if self._two is None:
            self._two = sorted(self._members_at)[:2]
        return self._two

    def _arrive(self, account: AccountId, mark: int) -> None:
        there = self._members_at.get(mark)
        if there is not None:
            there.add(account)
            return
        self._members_at[mark] = {account}
        if self._two is not None and (len(self._two) < 2 or mark < self._two[1]):
            self._two = None

    def _depart(self, account: AccountId, mark: int) -> None:
        there = self._members_at[mark]
        there.remove(account)
        if not there:
            del self._members_at[mark]
            if self._two is not None and mark in self._two:
                self._two = None
