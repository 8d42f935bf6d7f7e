"""The `receipts` read model: how far each device has come in each conversation, and the ticks that follow from it.

A device has one row for a conversation, however many messages its marks cover (I6), and one more for each seq that it
could not decrypt. Marks are maxima and exceptions only grow, so rows don't depend on the order of receipts. What a tick
is, domain/ticks.py says; the SQL here says the same over rows.
"""

import asyncio
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import ClassVar, Final, cast

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
    """Every seq up to here is delivered to all others, but for those that one of them could not decrypt."""
    read: int = 0
    undelivered: list[int] = []
    """The latest of those, in order, also beyond `delivered`, limited to what the author may see. They are not told
    apart by who wrote them: an author picks its own."""
    more: bool = False
    """There may be more of them: `Receipts.undelivered` has all."""


class Undelivered(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the seqs that another member could not decrypt, as far as the author may see them."""

    seqs: list[int]
    """In order."""
    before: int
    """There may be more before this seq; 0: there are none."""


NAMED_MAX: Final = 256
"""How many seqs the ticks of one conversation name."""
LISTED_MAX: Final = 2_048
"""How many those of all conversations of an account name together."""
SEQ_END: Final = 2**53
"""Beyond all seqs."""
_TAILS_AT_ONCE: Final = 100
_TAILS_MAX: Final = 100_000
"""How many conversations' lowest marks are kept."""


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
CREATE INDEX exceptions_open ON exceptions (conversation, seq, account) WHERE undecryptable = 1 AND repaired = 0;
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

# How far each member has come: as far as the best of its devices, and at least to where it joined.
_MEMBERS: Final = """
SELECT v.conversation, v.account,
    max(CASE WHEN m.delivered > v.first THEN m.delivered ELSE v.first END),
    max(CASE WHEN m.read > v.first THEN m.read ELSE v.first END)
FROM visible v LEFT JOIN marks m ON m.conversation = v.conversation AND m.account = v.account
WHERE v.conversation IN ({these}) AND v.last = 0
GROUP BY v.conversation, v.account ORDER BY v.conversation
""".format(these=", ".join("?" * _TAILS_AT_ONCE))

_DEPARTED: Final = "SELECT coalesce(max(last), 0) FROM visible WHERE conversation = ? AND account <> ?"

_WITH_EXCEPTIONS: Final = """
SELECT DISTINCT v.conversation FROM visible v WHERE v.account = ?{only} AND (
    SELECT max(e.seq) FROM exceptions e
    WHERE e.conversation = v.conversation AND e.undecryptable = 1 AND e.repaired = 0 AND e.account <> v.account
) IS NOT NULL
"""

# Seqs that a device of another member could not decrypt, from the latest back; and whether no device of this member
# could. Each step seeks the next seq in the index, however many devices name it.
_UNDELIVERED: Final = """
WITH RECURSIVE named (number, seq) AS (
    SELECT 1, max(e.seq) FROM exceptions e
    WHERE e.conversation = ? AND e.seq < ? AND e.undecryptable = 1 AND e.repaired = 0 AND e.account <> ?
    UNION ALL
    SELECT named.number + 1, (
        SELECT max(e.seq) FROM exceptions e
        WHERE e.conversation = ? AND e.seq < named.seq AND e.undecryptable = 1 AND e.repaired = 0 AND e.account <> ?
    )
    FROM named WHERE named.number < ? AND named.seq IS NOT NULL
)
SELECT named.seq, EXISTS (
    SELECT 1 FROM exceptions e
    JOIN visible v ON v.conversation = e.conversation AND v.account = e.account AND v.last = 0 AND v.first <= e.seq
    WHERE e.conversation = ? AND e.seq = named.seq AND e.undecryptable = 1 AND e.repaired = 0 AND e.account <> ?
        AND NOT EXISTS (
            SELECT 1 FROM marks m
            WHERE m.conversation = e.conversation AND m.account = e.account AND m.delivered >= e.seq AND NOT EXISTS (
                SELECT 1 FROM exceptions x
                WHERE x.conversation = m.conversation AND x.account = m.account AND x.device = m.device
                    AND x.seq = e.seq AND x.undecryptable = 1 AND x.repaired = 0
            )
        )
)
FROM named WHERE named.seq IS NOT NULL ORDER BY named.number
"""

_LATEST_EXCEPTIONS: Final = """
SELECT account, device, seq FROM exceptions
WHERE conversation = ? AND undecryptable = 1 AND repaired = 0 ORDER BY seq DESC LIMIT ?
"""

_DELIVERED: Final = """
SELECT m.conversation, m.delivered
FROM (SELECT DISTINCT conversation, account FROM visible WHERE account = ?) mine
JOIN marks m ON m.conversation = mine.conversation AND m.account = mine.account AND m.device = ?
"""

_ONLY: Final = " AND conversation = ?"


class Receipts(ReadModel):
    name: ClassVar[str] = "receipts"
    version: ClassVar[int] = 3
    schema: ClassVar[str] = _SCHEMA + visible.SCHEMA
    tables: ClassVar[tuple[Table, ...]] = (
        Table("marks", ("conversation", "account", "device")),
        Table("exceptions", ("conversation", "account", "device", "seq")),
        visible.TABLE,
    )

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._tails: dict[ConversationId, _Tail] = {}
        """Of conversations that were asked for; dropped as soon as a row of theirs is written, so a rollback does no
        harm."""

    def apply(self, events: Sequence[Event]) -> None:
        batch = _Batch()
        for event in events:
            batch.fold(event)
        for conversation in batch.touched:
            self._tails.pop(conversation, None)
        batch.write(self.db)

    async def ticks(self, conversation: ConversationId, account: AccountId) -> TickRow:
        """How far the account's own messages have come; all zero where it never was a member."""
        return (await self._ticks(_ONLY, (account, conversation))).get(conversation, TickRow())

    async def ticks_of(self, account: AccountId) -> dict[ConversationId, TickRow]:
        """The same for all conversations that the account is or was in; they name at most `LISTED_MAX` seqs together.
        Others have the loop between the pieces."""
        return await self._ticks("", (account,))

    async def undelivered(
        self, conversation: ConversationId, account: AccountId, *, before: int = SEQ_END, limit: int
    ) -> Undelivered:
        """From the latest seq before this one back, at most `limit`: what the account's ticks leave out."""
        intervals = self._intervals(_ONLY, (account, conversation)).get(conversation)
        if intervals is None:
            return Undelivered(seqs=[], before=0)
        return self._undelivered(conversation, account, intervals, before, limit)

    async def delivered(self, account: AccountId, device: DeviceId) -> dict[ConversationId, int]:
        """The device's delivered marks, where it has any."""
        return dict(self.db.query(_DELIVERED, (account, device)))

    async def marks(self, conversation: ConversationId) -> dict[AccountId, dict[DeviceId, Marks]]:
        """The marks of all devices, with the latest seqs that they can't decrypt: at most `LISTED_MAX` together."""
        made: dict[AccountId, dict[DeviceId, Marks]] = {}
        sql = "SELECT account, device, delivered, read FROM marks WHERE conversation = ? ORDER BY account, device"
        for account, device, delivered, read in self.db.query(sql, (conversation,)):
            made.setdefault(account, {})[device] = Marks(delivered=delivered, read=read)
        for account, device, seq in self.db.query(_LATEST_EXCEPTIONS, (conversation, LISTED_MAX)):
            made[account][device].undecryptable.add(seq)
        return made

    async def _ticks(self, only: str, params: Params) -> dict[ConversationId, TickRow]:
        account = cast(AccountId, params[0])
        await self._find_tails([one for one in self._intervals(only, params) if one not in self._tails])
        # From here on without a pause, so that all is of one moment.
        intervals = self._intervals(only, params)
        excepting = {row[0] for row in self.db.query(_WITH_EXCEPTIONS.format(only=only), params)}
        named_max = LISTED_MAX
        made: dict[ConversationId, TickRow] = {}
        for conversation, seen in intervals.items():
            undelivered = _NONE
            if conversation in excepting:
                limit = min(NAMED_MAX, named_max)
                undelivered = self._undelivered(conversation, account, seen, SEQ_END, limit)
                named_max -= len(undelivered.seqs)
            made[conversation] = self._tick_row(conversation, account, seen, undelivered)
        return made

    def _tick_row(
        self, conversation: ConversationId, account: AccountId, seen: list[tuple[int, int]], undelivered: Undelivered
    ) -> TickRow:
        tail = self._tails.get(conversation) or self._tail_of(conversation)
        delivered, read = tail.delivered.without(account), tail.read.without(account)
        if delivered is None or read is None:
            delivered = read = self._departed(conversation, account)
        # One who has left hears nothing of what came after.
        end = seen[-1][1] or SEQ_END
        return TickRow(
            delivered=min(delivered, end), read=min(read, end), undelivered=undelivered.seqs,
            more=undelivered.before > 0,
        )  # fmt: skip

    def _intervals(self, only: str, params: Params) -> dict[ConversationId, list[tuple[int, int]]]:
        intervals: dict[ConversationId, list[tuple[int, int]]] = {}
        for conversation, first, last in self.db.query(_INTERVALS.format(only=only), params):
            intervals.setdefault(conversation, []).append((first, last))
        return intervals

    async def _find_tails(self, conversations: list[ConversationId]) -> None:
        for start in range(0, len(conversations), _TAILS_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            self._read_tails(conversations[start : start + _TAILS_AT_ONCE])

    def _tail_of(self, conversation: ConversationId) -> "_Tail":
        """Where it was dropped again while others had the loop."""
        self._read_tails([conversation])
        return self._tails[conversation]

    def _read_tails(self, conversations: list[ConversationId]) -> None:
        if len(self._tails) + len(conversations) > _TAILS_MAX:
            self._tails.clear()
        self._tails.update(dict.fromkeys(conversations, _EMPTY))
        these = [*conversations, *[""] * (_TAILS_AT_ONCE - len(conversations))]
        for conversation, rows in groupby(self.db.query(_MEMBERS, these), itemgetter(0)):
            members = list(rows)
            self._tails[conversation] = _Tail(
                delivered=_lowest([(row[2], row[1]) for row in members]),
                read=_lowest([(row[3], row[1]) for row in members]),
            )

    def _undelivered(
        self, conversation: ConversationId, account: AccountId, seen: list[tuple[int, int]], before: int, limit: int
    ) -> Undelivered:
        named = (conversation, account)
        end = min(before, seen[-1][1] + 1) if seen[-1][1] else before
        params = (conversation, end, account, *named, limit + 1, *named)
        rows = self.db.query(_UNDELIVERED, params)
        seqs = [seq for seq, undelivered in rows[:limit] if undelivered and visible.sees(seen, seq)]
        if len(rows) <= limit:
            return Undelivered(seqs=seqs[::-1], before=0)
        return Undelivered(seqs=seqs[::-1], before=rows[limit][0] + 1)

    def _departed(self, conversation: ConversationId, account: AccountId) -> int:
        """The ticks of one whom all others have left."""
        row = self.db.query_one(_DEPARTED, (conversation, account))
        assert row is not None
        seq: int = row[0]
        return seq


_NONE: Final = Undelivered(seqs=[], before=0)


class _Lowest(msgspec.Struct, frozen=True, gc=False):
    """Of the marks of a conversation's members, what tells the lowest of all but one."""

    mark: int | None
    """None: there are no members."""
    last: AccountId | None
    """The one member at it; None: there are more, or none."""
    next: int | None
    """The lowest without that one; None: it is the only member."""

    def without(self, account: AccountId) -> int | None:
        return self.next if account == self.last else self.mark


class _Tail(msgspec.Struct, frozen=True, gc=False):
    """How far the last ones of a conversation have come."""

    delivered: _Lowest
    read: _Lowest


_EMPTY: Final = _Tail(_Lowest(None, None, None), _Lowest(None, None, None))


def _lowest(marks: list[tuple[int, AccountId]]) -> _Lowest:
    """Of at least one member."""
    marks.sort()
    mark, last = marks[0]
    following = marks[1][0] if len(marks) > 1 else None
    return _Lowest(mark, None if following == mark else last, following)


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

    @property
    def touched(self) -> set[ConversationId]:
        """The conversations where a mark or a membership changes."""
        return {key[0] for key in self._marks} | self._intervals.touched

    def write(self, db: Database) -> None:
        # In the order of the key, neighbours fall on the same page.
        db.executemany(_MARK, [(*key, *marks) for key, marks in sorted(self._marks.items())])
        if self._exceptions:
            db.executemany(_EXCEPTION, self._exceptions)
        self._intervals.write(db)
