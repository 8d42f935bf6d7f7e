"""What must be known of a conversation to make rows of its events: who is in it, how far each has come, and when its
messages were sent. All of it can be had again from the rows."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from domain.conversation import Protection, Role
from domain.receipts import Receipt

_NOBODY: Final = -1


class Sent:
    """The messages that count, by seq: author, and when the log took it. 16 bytes for each."""

    def __init__(self) -> None:
        self.known_from = 1
        """All messages from this seq on are here."""
        self._seqs = array("I")
        self._times = array("q")
        self._authors = array("i")
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._seqs)

    def add(self, seq: int, recorded_at: int, author: str) -> None:
        """One after all that are here."""
        self._seqs.append(seq)
        self._times.append(recorded_at)
        self._authors.append(self._number(author))

    def prepend(self, known_from: int, rows: Collection[tuple[int, int, str]]) -> None:
        """Those between `known_from` and what is here, as (seq, recorded at, author), in order."""
        self._seqs = array("I", (row[0] for row in rows)) + self._seqs
        self._times = array("q", (row[1] for row in rows)) + self._times
        self._authors = array("i", [self._number(row[2]) for row in rows]) + self._authors
        self.known_from = known_from

    def times(self, after: int, upto: int, *, but: str) -> Iterator[tuple[int, int]]:
        """Seq and time of those after one seq and up to another one that are not by `but`."""
        mine = self._numbers.get(but, _NOBODY)
        first, end = bisect_right(self._seqs, after), bisect_right(self._seqs, upto)
        for at in range(first, end):
            if self._authors[at] != mine:
                yield self._seqs[at], self._times[at]

    def time_of(self, seq: int, *, but: str) -> int | None:
        at = bisect_left(self._seqs, seq)
        if at == len(self._seqs) or self._seqs[at] != seq or self._names[self._authors[at]] == but:
            return None
        return self._times[at]

    def _number(self, author: str) -> int:
        number = self._numbers.get(author)
        if number is None:
            number = self._numbers[author] = len(self._names)
            self._names.append(author)
        return number


class Recipient(msgspec.Struct, gc=False):
    """One account, in a conversation. The rules are those of `domain.receipts` and `domain.ticks`; `Marks` would take
    four times the memory, mostly for sets that stay empty."""

    since: int = 0
    """The seq at which it came in last: what was sent before did not wait for it."""
    read: int = 0
    devices: dict[str, int] = {}
    """The delivered mark of each."""
    exceptions: dict[str, tuple[set[int], set[int]]] = {}
    """Of the devices that ever named any: the seqs that they could not decrypt, and those that they could later."""
    again: set[int] = set()
    """Seqs that were delivered before a device named them: they don't come a second time."""

    @property
    def delivered(self) -> int:
        return max(self.devices.values(), default=0)

    def waits_from(self) -> int:
        """The lowest seq that a receipt may yet be about."""
        return max(self.since, min((self.delivered, self.read, *(seq - 1 for seq in self.undelivered())))) + 1

    def undelivered(self) -> set[int]:
        """The seqs that no device could decrypt, though some were past them (`domain/ticks.py`)."""
        if not self.exceptions:
            return set()
        excepted = {device: named - repaired for device, (named, repaired) in self.exceptions.items()}
        return {
            seq
            for seq in set[int]().union(*excepted.values())
            if not any(seq <= mark and seq not in excepted.get(device, ()) for device, mark in self.devices.items())
        }

    def advance(
        self, device: str, delivered: int, read: int, named: Collection[int] = (), repaired: Collection[int] = ()
    ) -> tuple[set[int], set[int]]:
        """Folds what a device states, as `domain.receipts.advance`. Gives the seqs that came only now, though some
        device was past them before, and those that are still undelivered."""
        before, missing = self.delivered, self.undelivered()
        self.devices[device] = max(self.devices.get(device, 0), delivered)
        self.read = max(self.read, read)
        if named or repaired:
            excepted = self.exceptions.setdefault(device, (set(), set()))
            excepted[0].update(named)
            excepted[1].update(repaired)
        still = self.undelivered()
        self.again.update(seq for seq in still - missing if seq <= before)
        return missing - still - self.again, still


class Conversation(msgspec.Struct):
    protection: Protection = "none"
    members: dict[str, Role] = {}
    recipients: dict[str, Recipient] = {}
    sent: Sent = msgspec.field(default_factory=Sent)

    def recipient(self, account: str) -> Recipient:
        known = self.recipients.get(account)
        if known is None:
            known = self.recipients[account] = Recipient()
        return known

    def advance(self, receipt: Receipt, now: int) -> tuple[list[int], list[int]]:
        """Folds what a device states: the delays of delivery and of reading that this ends, in milliseconds."""
        recipient = self.recipient(receipt.account)
        delivered, read = recipient.delivered, recipient.read
        late, undelivered = recipient.advance(
            receipt.device, receipt.delivered, receipt.read, receipt.undecryptable, receipt.repaired
        )
        delivery = [
            _ms(at, now)
            for seq, at in self._waiting(recipient, delivered, recipient.delivered, receipt.account)
            if seq not in undelivered
        ]
        for seq in sorted(late):
            at = self.sent.time_of(seq, but=receipt.account)
            if at is not None and seq > recipient.since:
                delivery.append(_ms(at, now))
        reading = [_ms(at, now) for _, at in self._waiting(recipient, read, recipient.read, receipt.account)]
        return delivery, reading

    def _waiting(self, recipient: Recipient, after: int, upto: int, account: str) -> Iterator[tuple[int, int]]:
        return self.sent.times(max(after, recipient.since), upto, but=account)


def _ms(sent_at: int, now: int) -> int:
    # Two streams, two writers perhaps: their clocks may differ.
    return max(0, now - sent_at) // 1_000
