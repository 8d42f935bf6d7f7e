"""The `inbox` read model: the conversations of an account, what it may see of them, and how many messages are unread.

Nothing is counted up in place (I7). The unread messages of an interval that the account may see, behind its read mark,
are

    (ordinals passed − own ordinals passed) − others' counting messages that were retracted

and all of these are found by seeking an index. Every event has a seq, so the ordinal at a seq is the seq less the
events up to it that are no counting message, and these are few: one row each, with their number so far. A counting
message is one row with its sender's own ordinal, whatever the size of the group; these rows are many, so they stand
under short numbers instead of uuids: the position of the event that started the conversation, and the sender's number
in it. Whoever has left counts as retracted what was so before (I8). A conversation's head is one row, written once a
batch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from domain.codec import DomainEvent, Event
from domain.conversation import (
    ConversationStarted,
    Kind,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
    Protection,
    Role,
    RoleChanged,
    TitleSet,
)
from domain.entry import Sealed
from domain.ids import AccountId, ConversationId
from domain.receipts import ReceiptsAdvanced
from projections import visible
from projections.database import Database, Row
from projections.readmodel import ReadModel, Table


class InboxRow(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation, as one of those who are or were in it may see it."""

    conversation: ConversationId
    kind: Kind
    protection: Protection
    title: Sealed | None
    peer: AccountId | None
    """The other account of a direct conversation."""
    role: Role | None
    """None: no longer a member."""
    visible: list[list[int]]
    """What the account may see: [first, last] seqs, in order; a last of 0 means "and on"."""
    head: int
    """The last seq that the account may see."""
    at: int
    """When the last event that the account may see was recorded."""
    unread: int
    read: int
    """The greatest read mark of the account's devices."""


_SCHEMA: Final = """
CREATE TABLE conversations (
    conversation TEXT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL, -- of the event that started it
    kind TEXT NOT NULL,
    protection TEXT NOT NULL,
    head BIGINT NOT NULL,
    at BIGINT NOT NULL
) WITHOUT ROWID;
CREATE TABLE titles (
    conversation TEXT NOT NULL,
    seq BIGINT NOT NULL, -- one who has left sees the title that it left
    key TEXT NOT NULL,
    box BLOB NOT NULL,
    PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;
CREATE TABLE members (
    conversation TEXT NOT NULL,
    account TEXT NOT NULL,
    position BIGINT NOT NULL, -- the conversation's
    number BIGINT NOT NULL, -- no other account has it in this conversation
    role TEXT, -- NULL: no longer a member
    left_at BIGINT,
    left_seq BIGINT, -- the seq of its leaving
    read BIGINT NOT NULL,
    PRIMARY KEY (conversation, account)
) WITHOUT ROWID;
CREATE INDEX members_account ON members (account);
CREATE TABLE uncounted ( -- events that are no counting message
    position BIGINT NOT NULL, -- the conversation's
    seq BIGINT NOT NULL,
    number BIGINT NOT NULL, -- how many there are up to here
    PRIMARY KEY (position, seq)
) WITHOUT ROWID;
CREATE TABLE counted ( -- counting messages
    position BIGINT NOT NULL, -- the conversation's
    sender BIGINT NOT NULL, -- its number
    seq BIGINT NOT NULL,
    own BIGINT NOT NULL,
    PRIMARY KEY (position, sender, seq)
) WITHOUT ROWID;
CREATE TABLE retracted (
    conversation TEXT NOT NULL,
    seq BIGINT NOT NULL,
    author TEXT NOT NULL,
    retraction BIGINT NOT NULL, -- its seq
    PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;
"""

_JOINING_MAX: Final = 1 << 20
"""More accounts than one event lets in: a member's number is made of the event that first did, and the place in it."""

_START: Final = """
INSERT INTO conversations (conversation, position, kind, protection, head, at) VALUES (?, ?, ?, ?, 0, 0)
ON CONFLICT (conversation) DO NOTHING
"""
_TITLE: Final = """
INSERT INTO titles (conversation, seq, key, box) VALUES (?, ?, ?, ?) ON CONFLICT (conversation, seq) DO NOTHING
"""
_HEAD: Final = "UPDATE conversations SET head = ?, at = ? WHERE conversation = ?"
# One who is back keeps its number and its mark.
_JOINED: Final = """
INSERT INTO members (conversation, account, position, number, role, left_at, left_seq, read)
SELECT conversation, ?, position, ?, ?, NULL, NULL, 0 FROM conversations WHERE conversation = ?
ON CONFLICT (conversation, account) DO UPDATE SET role = excluded.role, left_at = NULL, left_seq = NULL
"""
_ROLE: Final = "UPDATE members SET role = ?, left_at = ?, left_seq = ? WHERE conversation = ? AND account = ?"
_READ: Final = "UPDATE members SET read = ? WHERE conversation = ? AND account = ? AND read < ?"
_UNCOUNTED: Final = """
INSERT INTO uncounted (position, seq, number)
SELECT c.position, ?, 1 + coalesce(
    (SELECT u.number FROM uncounted u WHERE u.position = c.position ORDER BY u.seq DESC LIMIT 1), 0)
FROM conversations c WHERE c.conversation = ?
ON CONFLICT (position, seq) DO NOTHING
"""
_SENDER: Final = "SELECT position, number FROM members WHERE conversation = ? AND account = ?"
_COUNTED: Final = """
INSERT INTO counted (position, sender, seq, own) VALUES (?, ?, ?, ?) ON CONFLICT (position, sender, seq) DO NOTHING
"""
_RETRACTED: Final = """
INSERT INTO retracted (conversation, seq, author, retraction) VALUES (?, ?, ?, ?)
ON CONFLICT (conversation, seq) DO NOTHING
"""

# One row for each interval, in order. The unread messages lie after `past`, up to `upto`.
_INTERVALS: Final = """
SELECT m.conversation, m.account, m.position, m.number, m.role, m.left_at, m.left_seq, m.read, v.first, v.last,
    CASE WHEN m.read < v.first THEN v.first - 1 ELSE m.read END AS past,
    CASE WHEN v.last = 0 THEN c.head ELSE v.last END AS upto,
    c.kind, c.protection, c.at
FROM members m
JOIN conversations c ON c.conversation = m.conversation
JOIN visible v ON v.conversation = m.conversation AND v.account = m.account
"""


def _ordinal(seq: str) -> str:
    return f"""(i.{seq} - coalesce((SELECT n.number FROM uncounted n
        WHERE n.position = i.position AND n.seq <= i.{seq} ORDER BY n.seq DESC LIMIT 1), 0))"""


def _own(seq: str) -> str:
    return f"""coalesce((SELECT n.own FROM counted n
        WHERE n.position = i.position AND n.sender = i.number AND n.seq <= i.{seq}
        ORDER BY n.seq DESC LIMIT 1), 0)"""


def _title(column: str) -> str:
    return f"""(SELECT t.{column} FROM titles t
        WHERE t.conversation = i.conversation AND t.seq <= i.upto ORDER BY t.seq DESC LIMIT 1)"""


def _rows(where: str) -> str:
    return f"""
SELECT i.conversation, i.role, i.left_at, i.read, i.first, i.last, i.upto,
    i.kind, i.protection, {_title("key")} AS title_key, {_title("box")} AS title_box, i.at,
    CASE WHEN i.past >= i.upto THEN 0 ELSE
        {_ordinal("upto")} - {_ordinal("past")} - {_own("upto")} + {_own("past")}
        - (SELECT count(*) FROM retracted r WHERE r.conversation = i.conversation
            AND r.seq > i.past AND r.seq <= i.upto AND r.author <> i.account
            AND (i.left_seq IS NULL OR r.retraction <= i.left_seq))
    END AS unread,
    CASE WHEN i.kind = 'direct' THEN (SELECT o.account FROM members o
        WHERE o.conversation = i.conversation AND o.account <> i.account) END AS peer
FROM ({_INTERVALS} WHERE {where}) i
ORDER BY i.conversation, i.first
"""


_OF_ACCOUNT: Final = _rows("m.account = ?")
_OF_ONE: Final = _rows("m.account = ? AND m.conversation = ?")


_SHARED: Final = """
SELECT 1 FROM members m WHERE m.account = ? AND EXISTS (
    SELECT 1 FROM members o WHERE o.conversation = m.conversation AND o.account = ?) LIMIT ?
"""


class Inbox(ReadModel):
    name: ClassVar[str] = "inbox"
    version: ClassVar[int] = 4
    schema: ClassVar[str] = _SCHEMA + visible.SCHEMA
    tables: ClassVar[tuple[Table, ...]] = (
        Table("conversations", ("conversation",)),
        Table("titles", ("conversation", "seq")),
        Table("members", ("conversation", "account")),
        Table("uncounted", ("position", "seq")),
        Table("counted", ("position", "sender", "seq")),
        Table("retracted", ("conversation", "seq")),
        visible.TABLE,
    )

    def apply(self, events: Sequence[Event]) -> None:
        batch = _Batch()
        for event in events:
            batch.fold(event)
        batch.write(self.db)

    def subject_of(self, row: Mapping[str, Any]) -> str | None:
        found = self.db.query_one("SELECT conversation FROM conversations WHERE position = ?", (row["position"],))
        return None if found is None else str(found[0])

    def any_from(self, conversation: str) -> ConversationId | None:
        """The first conversation whose id comes at or after this one, or else the very first; None: there is none."""
        sql = "SELECT conversation FROM conversations WHERE conversation >= ? ORDER BY conversation LIMIT 1"
        found = self.db.query_one(sql, (conversation,)) or self.db.query_one(sql, ("",))
        return None if found is None else ConversationId(found[0])

    def members_ever(self, conversation: ConversationId) -> list[AccountId]:
        """Those who are or were in it."""
        sql = "SELECT account FROM members WHERE conversation = ? ORDER BY account"
        return [AccountId(row[0]) for row in self.db.query(sql, (conversation,))]

    async def conversations(self, account: AccountId) -> list[InboxRow]:
        """All that the account is or was in, most recent first."""
        rows = _by_conversation(self.db.query(_OF_ACCOUNT, (account,)))
        return sorted(rows, key=lambda row: (-row.at, row.conversation))

    async def conversation(self, account: AccountId, conversation: ConversationId) -> InboxRow | None:
        """None: the account never was in it."""
        rows = _by_conversation(self.db.query(_OF_ONE, (account, conversation)))
        return rows[0] if rows else None

    async def is_listed(self, account: AccountId, conversation: ConversationId) -> bool:
        """Whether the account is or was in it."""
        sql = "SELECT 1 FROM members WHERE conversation = ? AND account = ?"
        return self.db.query_one(sql, (conversation, account)) is not None

    async def count(self, account: AccountId, *, limit: int) -> int:
        """How many conversations the account is or was in; not counted beyond `limit`."""
        return self._count("SELECT 1 FROM members WHERE account = ? LIMIT ?", (account, limit))

    async def count_shared(self, one: AccountId, other: AccountId, *, limit: int) -> int:
        """In how many conversations both accounts are or were; not counted beyond `limit`."""
        return self._count(_SHARED, (other, one, limit))

    def _count(self, sql: str, params: tuple[str | int, ...]) -> int:
        row = self.db.query_one(f"SELECT count(*) FROM ({sql}) listed", params)
        assert row is not None
        counted: int = row[0]
        return counted

    async def members(self, conversation: ConversationId) -> dict[AccountId, Role]:
        """Those who are in it now."""
        sql = "SELECT account, role FROM members WHERE conversation = ? AND role IS NOT NULL ORDER BY account"
        return dict(self.db.query(sql, (conversation,)))


class _Batch:
    """What a batch of events makes of the rows: each row is written once, however often the batch changes it."""

    def __init__(self) -> None:
        self._started: list[tuple[ConversationId, int, Kind, Protection]] = []
        self._titles: list[tuple[ConversationId, int, str, bytes]] = []
        self._heads: dict[ConversationId, tuple[int, int]] = {}
        self._joined: list[tuple[AccountId, int, Role, ConversationId]] = []
        self._roles: dict[tuple[ConversationId, AccountId], tuple[Role | None, int | None, int | None]] = {}
        self._reads: dict[tuple[ConversationId, AccountId], int] = {}
        self._uncounted: list[tuple[int, ConversationId]] = []
        self._counted: dict[tuple[ConversationId, AccountId], list[tuple[int, int]]] = {}
        """Seqs and own ordinals. By sender, since neighbours fall on a page that is at hand."""
        self._retracted: list[tuple[ConversationId, int, AccountId, int]] = []
        self._intervals = visible.Intervals()

    def fold(self, event: Event) -> None:
        category, _, rest = event.stream.partition("-")
        conversation = ConversationId(rest)
        fact = event.entry.e
        if category == "conversation":
            seq = event.version + 1
            self._heads[conversation] = (seq, event.entry.at)
            if isinstance(fact, MessageSent) and fact.counts:
                self._counted.setdefault((conversation, fact.by), []).append((seq, fact.own))
            else:
                self._uncounted.append((seq, conversation))
                self._fold_change(conversation, seq, event, fact)
        elif isinstance(fact, ReceiptsAdvanced):
            for receipt in fact.receipts:
                key = (conversation, receipt.account)
                if receipt.read > self._reads.get(key, 0):
                    self._reads[key] = receipt.read

    def _fold_change(self, conversation: ConversationId, seq: int, event: Event, fact: DomainEvent) -> None:
        self._intervals.fold(conversation, seq, fact)
        match fact:
            case ConversationStarted():
                self._started.append((conversation, event.position, fact.kind, fact.protection))
                if fact.title is not None:
                    self._titles.append((conversation, seq, fact.title.key, fact.title.box))
                self._join(conversation, seq, fact.members)
            case MembersAdded():
                self._join(conversation, seq, dict.fromkeys(fact.accounts, "member"))
            case MemberRemoved():
                self._roles[conversation, fact.account] = (None, event.entry.at, seq)
            case MemberLeft():
                self._roles[conversation, fact.by] = (None, event.entry.at, seq)
            case RoleChanged():
                self._roles[conversation, fact.account] = (fact.role, None, None)
            case TitleSet():
                self._titles.append((conversation, seq, fact.title.key, fact.title.box))
            case MessageRetracted() if fact.counts:
                self._retracted.append((conversation, fact.target, fact.author, seq))
            case _:
                pass

    def _join(self, conversation: ConversationId, seq: int, roles: Mapping[AccountId, Role]) -> None:
        for place, (account, role) in enumerate(roles.items()):
            self._joined.append((account, seq * _JOINING_MAX + place, role, conversation))
            self._roles[conversation, account] = (role, None, None)

    def write(self, db: Database) -> None:
        """Rows come before what changes them."""
        db.executemany(_START, self._started)
        db.executemany(_TITLE, self._titles)
        db.executemany(_HEAD, [(*head, key) for key, head in self._heads.items()])
        db.executemany(_JOINED, self._joined)
        db.executemany(_ROLE, [(*role, *key) for key, role in self._roles.items()])
        db.executemany(_READ, [(read, *key, read) for key, read in self._reads.items()])
        db.executemany(_UNCOUNTED, self._uncounted)
        db.executemany(_COUNTED, self._counted_rows(db))
        db.executemany(_RETRACTED, self._retracted)
        self._intervals.write(db)

    def _counted_rows(self, db: Database) -> list[tuple[int, int, int, int]]:
        senders = db.query_each(_SENDER, self._counted)
        return [
            (position, number, seq, own)
            for [(position, number)], messages in zip(senders, self._counted.values(), strict=True)
            for seq, own in messages
        ]


def _by_conversation(rows: list[Row]) -> list[InboxRow]:
    """From rows of intervals, in order of conversation and interval."""
    made: dict[str, InboxRow] = {}
    for row in rows:
        earlier = made.get(row[0])
        made[row[0]] = _inbox_row(row, earlier.visible if earlier else [], earlier.unread if earlier else 0)
    return list(made.values())


def _inbox_row(row: Row, visible_before: list[list[int]], unread_before: int) -> InboxRow:
    """The conversation, up to and with this interval: the last one says where the account's view of it ends."""
    conversation, role, left_at, read, first, last, upto, kind, protection, key, box, at, unread, peer = row
    return InboxRow(
        conversation=conversation,
        kind=kind,
        protection=protection,
        title=None if key is None else Sealed(key=key, box=box),
        peer=peer,
        role=role,
        visible=[*visible_before, [first, last]],
        head=upto,
        at=at if left_at is None else left_at,
        unread=unread_before + unread,
        read=read,
    )
