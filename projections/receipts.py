"""The `receipts` read model: how far each device has come in each conversation, and the ticks that follow from it.

A device has one row for a conversation, however many messages its marks cover (I6), and one more for each seq that it
could not decrypt. Marks are maxima and exceptions only grow, so rows don't depend on the order of receipts. What a tick
is, domain/ticks.py says; the SQL here says the same over rows.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from domain.codec import Event
from domain.conversation import MessageSent
from domain.ids import AccountId, ConversationId, DeviceId
from domain.receipts import Marks, Receipt, ReceiptsAdvanced
from projections import visible
from projections.database import Database, Params
from projections.readmodel import ReadModel, Table


class TickRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far the messages of one author have come."""

    delivered: int = 0
    """Every seq up to here is delivered to all others, but for `undelivered`."""
    read: int = 0
    undelivered: list[int] = []
    """Seqs up to `delivered` that another member could not decrypt, in order, limited to what the author may see. They
    are not told apart by who wrote them: an author picks its own."""


_SCHEMA: Final = """
CREATE TABLE marks (
    conversation TEXT NOT NULL,
    account TEXT NOT NULL,
    device TEXT NOT NULL,
    delivered BIGINT NOT NULL,
    read BIGINT NOT NULL,
    PRIMARY KEY (conversation, account, device)
) WITHOUT ROWID;
CREATE TABLE exceptions (
    conversation TEXT NOT NULL,
    account TEXT NOT NULL,
    device TEXT NOT NULL,
    seq BIGINT NOT NULL,
    undecryptable INTEGER NOT NULL, -- 1: the device has said so
    repaired INTEGER NOT NULL, -- 1: the device has said so, before or after the other
    PRIMARY KEY (conversation, account, device, seq)
) WITHOUT ROWID;
"""

_MARK: Final = """
INSERT INTO marks (conversation, account, device, delivered, read) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (conversation, account, device) DO UPDATE SET
    delivered = CASE WHEN excluded.delivered > marks.delivered THEN excluded.delivered ELSE marks.delivered END,
    read = CASE WHEN excluded.read > marks.read THEN excluded.read ELSE marks.read END
"""
_EXCEPTION: Final = """
INSERT INTO exceptions (conversation, account, device, seq, undecryptable, repaired) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, account, device, seq) DO UPDATE SET
    undecryptable = CASE WHEN excluded.undecryptable = 1 THEN 1 ELSE exceptions.undecryptable END,
    repaired = CASE WHEN excluded.repaired = 1 THEN 1 ELSE exceptions.repaired END
"""

_INTERVALS: Final = "SELECT conversation, first, last FROM visible WHERE account = ?{only} ORDER BY conversation, first"

# The lowest mark of the other members: a member has come as far as the best of its devices, and at least to where it
# joined.
_LOWEST: Final = """
SELECT each.conversation, min(each.delivered), min(each.read) FROM (
    SELECT v.conversation, v.account,
        max(CASE WHEN m.delivered > v.first THEN m.delivered ELSE v.first END) AS delivered,
        max(CASE WHEN m.read > v.first THEN m.read ELSE v.first END) AS read
    FROM (SELECT DISTINCT conversation, account FROM visible WHERE account = ?{only}) mine
    JOIN visible v ON v.conversation = mine.conversation AND v.account <> mine.account AND v.last = 0
    LEFT JOIN marks m ON m.conversation = v.conversation AND m.account = v.account
    GROUP BY v.conversation, v.account
) each
GROUP BY each.conversation
"""

_DEPARTED: Final = "SELECT coalesce(max(last), 0) FROM visible WHERE conversation = ? AND account <> ?"

# Seqs that a device of another member could not decrypt and that no device of this member could.
_UNDELIVERED: Final = """
SELECT DISTINCT e.conversation, e.seq
FROM (SELECT DISTINCT conversation, account FROM visible WHERE account = ?{only}) mine
JOIN exceptions e ON e.conversation = mine.conversation AND e.account <> mine.account
JOIN visible v ON v.conversation = e.conversation AND v.account = e.account AND v.last = 0 AND v.first <= e.seq
WHERE e.undecryptable = 1 AND e.repaired = 0 AND NOT EXISTS (
    SELECT 1 FROM marks m
    WHERE m.conversation = e.conversation AND m.account = e.account AND m.delivered >= e.seq AND NOT EXISTS (
        SELECT 1 FROM exceptions x
        WHERE x.conversation = m.conversation AND x.account = m.account AND x.device = m.device AND x.seq = e.seq
            AND x.undecryptable = 1 AND x.repaired = 0
    )
)
ORDER BY e.conversation, e.seq
"""

_DELIVERED: Final = """
SELECT m.conversation, m.delivered
FROM (SELECT DISTINCT conversation, account FROM visible WHERE account = ?) mine
JOIN marks m ON m.conversation = mine.conversation AND m.account = mine.account AND m.device = ?
"""

_ONLY: Final = " AND conversation = ?"


class Receipts(ReadModel):
    name: ClassVar[str] = "receipts"
    version: ClassVar[int] = 1
    schema: ClassVar[str] = _SCHEMA + visible.SCHEMA
    tables: ClassVar[tuple[Table, ...]] = (
        Table("marks", ("conversation", "account", "device")),
        Table("exceptions", ("conversation", "account", "device", "seq")),
        visible.TABLE,
    )

    def apply(self, events: Sequence[Event]) -> None:
        batch = _Batch()
        for event in events:
            batch.fold(event)
        batch.write(self.db)

    async def ticks(self, conversation: ConversationId, account: AccountId) -> TickRow:
        """How far the account's own messages have come; all zero where it never was a member."""
        return self._ticks(_ONLY, (account, conversation)).get(conversation, TickRow())

    async def ticks_of(self, account: AccountId) -> dict[ConversationId, TickRow]:
        """The same for all conversations that the account is or was in."""
        return self._ticks("", (account,))

    async def delivered(self, account: AccountId, device: DeviceId) -> dict[ConversationId, int]:
        """The device's delivered marks, where it has any."""
        return dict(self.db.query(_DELIVERED, (account, device)))

    async def marks(self, conversation: ConversationId) -> dict[AccountId, dict[DeviceId, Marks]]:
        made: dict[AccountId, dict[DeviceId, Marks]] = {}
        sql = "SELECT account, device, delivered, read FROM marks WHERE conversation = ? ORDER BY account, device"
        for account, device, delivered, read in self.db.query(sql, (conversation,)):
            made.setdefault(account, {})[device] = Marks(delivered=delivered, read=read)
        sql = "SELECT account, device, seq, undecryptable, repaired FROM exceptions WHERE conversation = ?"
        for account, device, seq, undecryptable, repaired in self.db.query(sql, (conversation,)):
            if undecryptable:
                made[account][device].undecryptable.add(seq)
            if repaired:
                made[account][device].repaired.add(seq)
        return made

    def _ticks(self, only: str, params: Params) -> dict[ConversationId, TickRow]:
        account = params[0]
        intervals: dict[ConversationId, list[tuple[int, int]]] = {}
        for conversation, first, last in self.db.query(_INTERVALS.format(only=only), params):
            intervals.setdefault(conversation, []).append((first, last))
        lowest = {row[0]: (row[1], row[2]) for row in self.db.query(_LOWEST.format(only=only), params)}
        undelivered: dict[ConversationId, list[int]] = {}
        for conversation, seq in self.db.query(_UNDELIVERED.format(only=only), params):
            undelivered.setdefault(conversation, []).append(seq)
        return {
            conversation: _tick_row(
                seen,
                lowest.get(conversation) or self._departed(conversation, account),
                undelivered.get(conversation, []),
            )
            for conversation, seen in intervals.items()
        }

    def _departed(self, conversation: ConversationId, account: str | bytes | int | None) -> tuple[int, int]:
        """The ticks of one whom all others have left."""
        row = self.db.query_one(_DEPARTED, (conversation, account))
        assert row is not None
        return row[0], row[0]


def _tick_row(seen: list[tuple[int, int]], lowest: tuple[int, int], undelivered: list[int]) -> TickRow:
    # One who has left hears nothing of what came after.
    end = seen[-1][1]
    delivered, read = (min(mark, end) for mark in lowest) if end else lowest
    shown = [seq for seq in undelivered if seq <= delivered and visible.sees(seen, seq)]
    return TickRow(delivered=delivered, read=read, undelivered=shown)


_Key = tuple[ConversationId, AccountId, DeviceId]


class _Batch:
    """What a batch of events makes of the rows: each row is written once, however often the batch changes it."""

    def __init__(self) -> None:
        self._marks: dict[_Key, tuple[int, int]] = {}
        self._exceptions: list[tuple[ConversationId, AccountId, DeviceId, int, int, int]] = []
        self._intervals = visible.Intervals()

    def fold(self, event: Event) -> None:
        fact = event.entry.e
        if isinstance(fact, MessageSent):
            return
        category, _, rest = event.stream.partition("-")
        conversation = ConversationId(rest)
        if isinstance(fact, ReceiptsAdvanced):
            for receipt in fact.receipts:
                self._fold_receipt((conversation, receipt.account, receipt.device), receipt)
        elif category == "conversation":
            self._intervals.fold(conversation, event.version + 1, fact)

    def _fold_receipt(self, key: _Key, receipt: Receipt) -> None:
        delivered, read = self._marks.get(key, (0, 0))
        self._marks[key] = (max(delivered, receipt.delivered), max(read, receipt.read))
        if receipt.undecryptable or receipt.repaired:
            self._exceptions.extend((*key, seq, 1, 0) for seq in receipt.undecryptable)
            self._exceptions.extend((*key, seq, 0, 1) for seq in receipt.repaired)

    def write(self, db: Database) -> None:
        # In the order of the key, neighbours fall on the same page.
        db.executemany(_MARK, [(*key, *marks) for key, marks in sorted(self._marks.items())])
        if self._exceptions:
            db.executemany(_EXCEPTION, self._exceptions)
        self._intervals.write(db)
