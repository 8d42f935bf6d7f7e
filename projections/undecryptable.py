"""What the members of one conversation could not decrypt, and what of it has changed since the authors were told."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Final

from domain.ids import AccountId, DeviceId
from domain.receipts import Marks, Receipt, advance
from domain.ticks import unreadable

CHANGES_MAX: Final = 256
"""How many seqs an author is told of at once; where more have changed, it is told to read them."""

Changes = tuple[list[int], list[int]]
"""Seqs that a member can't decrypt since, and seqs that all can again; both in order."""


class Undecryptable:
    """A receipt costs what it names and what it passes, however much could not be decrypted before."""

    def __init__(self) -> None:
        self._of: dict[AccountId, list[int]] = {}
        """Of each account that ever named a seq, all that none of its devices could decrypt, in order."""
        self._blocking: dict[int, set[AccountId]] = {}
        """Seq → the members of now who can't decrypt it and were members then."""
        self._before: dict[int, frozenset[AccountId]] = {}
        """The same as it was when authors were last told, for the seqs where that has changed."""
        self._for_all: Changes | None = None
        """The changes as an author is told of them that is not in `_alone`; None: to be found anew."""
        self._alone: set[AccountId] = set()
        """Who was or is the only one that can't decrypt some seq: as an author it waits for others alone."""

    def __contains__(self, account: AccountId) -> bool:
        """Whether the account ever named a seq."""
        return account in self._of

    def __bool__(self) -> bool:
        """Whether anybody ever did."""
        return bool(self._of)

    @property
    def lowest_change(self) -> int | None:
        """The lowest seq that may have changed; None where none has."""
        return min(self._before) if self._before else None

    def receive(self, receipt: Receipt, devices: Mapping[DeviceId, Marks], joined: int | None) -> None:
        """Folds what one device states into its marks. `joined`: the seq from which it sees, where it is a member."""
        marks = devices[receipt.device]
        known = self._of.setdefault(receipt.account, [])
        passed = known[bisect_right(known, marks.delivered) : bisect_right(known, receipt.delivered)]
        advance(marks, receipt)
        named = {*receipt.undecryptable, *receipt.repaired, *passed}
        before = named.intersection(known)
        now = {seq for seq in named if unreadable(devices.values(), seq)}
        if now == before:
            return
        self._of[receipt.account] = sorted((set(known) - before) | now)
        if joined is not None:
            for seq in now ^ before:
                if seq >= joined:
                    self._toggle(seq, receipt.account)

    def leave(self, account: AccountId, joined: int) -> None:
        """Nobody waits any more for what it can't decrypt."""
        for seq in self._of.get(account, ()):
            if seq >= joined:
                self._toggle(seq, account)

    def changes(self, author: AccountId, visible: Sequence[Sequence[int]]) -> Changes | None:
        """As this author, who may see these intervals, is to be told; None: too many for that."""
        if self._for_all is None:
            self._for_all = self._changes_but(None)
            self._alone = self._find_alone()
        undelivered, repaired = self._for_all
        if len(undelivered) + len(repaired) > CHANGES_MAX:
            return None
        if author in self._alone:
            undelivered, repaired = self._changes_but(author)
        return _within(visible, undelivered), _within(visible, repaired)

    def told(self) -> None:
        """All authors have been told of the changes until now."""
        self._before.clear()
        self._for_all = None

    def _changes_but(self, author: AccountId | None) -> Changes:
        """An author's own devices don't count for its ticks."""
        undelivered: list[int] = []
        repaired: list[int] = []
        for seq, before in sorted(self._before.items()):
            was = any(account != author for account in before)
            if was != any(account != author for account in self._blocking.get(seq, ())):
                (repaired if was else undelivered).append(seq)
        return undelivered, repaired

    def _find_alone(self) -> set[AccountId]:
        alone: set[AccountId] = set()
        for seq, before in self._before.items():
            for accounts in (before, self._blocking.get(seq, ())):
                if len(accounts) == 1:
                    alone.update(accounts)
        return alone

    def _toggle(self, seq: int, account: AccountId) -> None:
        accounts = self._blocking.setdefault(seq, set())
        self._before.setdefault(seq, frozenset(accounts))
        self._for_all = None
        accounts ^= {account}
        if not accounts:
            del self._blocking[seq]


def _within(intervals: Sequence[Sequence[int]], seqs: list[int]) -> list[int]:
    """Of some seqs in order, those in the [first, last] intervals; a last of 0 means "and on". Whoever sees all of them
    shares the list."""
    if not seqs or (len(intervals) == 1 and intervals[0][0] <= seqs[0] and not intervals[0][1]):
        return seqs
    seen: list[int] = []
    for first, last in intervals:
        seen += seqs[bisect_left(seqs, first) : bisect_right(seqs, last) if last else None]
    return seen
