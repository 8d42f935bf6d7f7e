"""The read model `messages`: the history of conversations, one row for each event.

Messages stand in `messages`, everything else that happened in a conversation in `changes`; a page of history has both,
in the order of their seqs. A retraction has a row of its own, and the message's row names it: a page shows the message
without its body to those who may know of it, which are all but those who left before (I8).

Command ids are random, so an index of them touches a page for each message: it cost a third of the whole. They are
looked up rarely and always long after, so they are indexed block by block: when a conversation has another 256 events,
their ids are written in one go and in order. A look-up asks each block, and scans what came after the last one.
"""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, cast

import msgspec

from domain.codec import CODEC, Event
from domain.conversation import ConversationEvent, MessageRetracted, MessageSent, first_outcome
from domain.entry import Entry, Sealed
from domain.ids import AccountId, CommandId, ConversationId
from domain.recent import First
from projections.database import Database, Params, Row
from projections.readmodel import ReadModel, Table

_PREFIX: Final = "conversation-"

# Rows are appended in the order of the log, and an index leads to them: to keep them clustered by conversation would
# cost three times as much for each message. As INTEGER, the position is SQLite's own rowid and needs no index. A
# conversation goes by the position of its first event: its id in each row and each index took a fifth more.
_SCHEMA: Final = """
CREATE TABLE talks (conversation TEXT NOT NULL PRIMARY KEY, talk_position BIGINT NOT NULL) WITHOUT ROWID;
CREATE TABLE messages (
    position INTEGER PRIMARY KEY, talk_position BIGINT NOT NULL, seq INTEGER NOT NULL, at BIGINT NOT NULL,
    occurred BIGINT, command TEXT NOT NULL, sender TEXT NOT NULL, ordinal INTEGER NOT NULL, own INTEGER NOT NULL,
    header TEXT NOT NULL, digest TEXT NOT NULL, body_key TEXT, body BLOB, signature TEXT, signer TEXT, retracted INTEGER
);
CREATE UNIQUE INDEX messages_by_seq ON messages (talk_position, seq);
CREATE INDEX messages_retracted ON messages (talk_position, retracted, seq) WHERE retracted IS NOT NULL;
CREATE TABLE changes (
    position INTEGER PRIMARY KEY, talk_position BIGINT NOT NULL, seq INTEGER NOT NULL, command TEXT NOT NULL,
    topic TEXT NOT NULL, entry BLOB NOT NULL
);
CREATE UNIQUE INDEX changes_by_seq ON changes (talk_position, seq);
CREATE TABLE commands (
    talk_position BIGINT NOT NULL, block INTEGER NOT NULL, command TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (talk_position, block, command)
) WITHOUT ROWID;
"""

_INSERT_TALK: Final = "INSERT INTO talks VALUES (?,?)"
_TALK: Final = "SELECT talk_position FROM talks WHERE conversation = ?"
_INSERT_MESSAGE: Final = "INSERT INTO messages VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,NULL)"
_INSERT_CHANGE: Final = "INSERT INTO changes VALUES (?,?,?,?,?,?)"
_RETRACT: Final = "UPDATE messages SET retracted = ? WHERE talk_position = ? AND seq = ?"
_MESSAGES: Final = """
SELECT seq, at, occurred, command, sender, ordinal, own, header, body_key,
    CASE WHEN retracted <= ? THEN NULL ELSE body END, signature, signer, retracted
FROM messages WHERE talk_position = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?
"""
_CHANGES: Final = """
SELECT seq, topic, entry FROM changes WHERE talk_position = ? AND seq BETWEEN ? AND ? ORDER BY seq LIMIT ?
"""
_RETRACTED: Final = """
SELECT retracted, seq FROM messages WHERE talk_position = ? AND retracted BETWEEN ? AND ? AND seq <= ?
ORDER BY retracted LIMIT ?
"""
_INDEX_BLOCK: Final = """
INSERT INTO commands
SELECT talk_position, CAST(? AS BIGINT), command, seq FROM messages WHERE talk_position = ? AND seq BETWEEN ? AND ?
UNION ALL
SELECT talk_position, CAST(? AS BIGINT), command, seq FROM changes WHERE talk_position = ? AND seq BETWEEN ? AND ?
ORDER BY 3, 4 ON CONFLICT DO NOTHING
"""
_LAST_BLOCK: Final = "SELECT COALESCE(MAX(block), -1) FROM commands WHERE talk_position = ?"
_FIND_INDEXED: Final = """
WITH RECURSIVE blocks (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM blocks WHERE number < ?)
SELECT seq FROM blocks CROSS JOIN commands WHERE talk_position = ? AND block = number AND command = ?
ORDER BY seq LIMIT 1
"""
_FIND_LATER: Final = """
SELECT seq FROM messages WHERE talk_position = ? AND seq > ? AND command = ?
UNION ALL SELECT seq FROM changes WHERE talk_position = ? AND seq > ? AND command = ? ORDER BY seq LIMIT 1
"""
_LAST_SEQ: Final = """
SELECT MAX(seq) FROM messages WHERE talk_position = ? UNION ALL SELECT MAX(seq) FROM changes WHERE talk_position = ?
"""
_LAST_SEQ_UPTO: Final = """
SELECT seq FROM (
    SELECT seq FROM messages WHERE talk_position = ? AND position <= ? ORDER BY seq DESC LIMIT 1) last_message
UNION ALL SELECT seq FROM (
    SELECT seq FROM changes WHERE talk_position = ? AND position <= ? ORDER BY seq DESC LIMIT 1) last_change
"""
_CHANGE: Final = "SELECT topic, entry FROM changes WHERE talk_position = ? AND seq = ?"
_DIGEST: Final = "SELECT at, sender, digest FROM messages WHERE talk_position = ? AND seq = ?"
BLOCK: Final = 256
"""How many events of a conversation have their command ids indexed at once."""
_OPEN_END: Final = 2**31 - 1
_KNOWN_MAX: Final = 20_000
"""Of how many conversations the position is kept in memory: some 3 MB."""


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    conversation: ConversationId
    seq: int
    at: int
    """When it was recorded, microseconds since 1970."""
    occurred: int | None
    """When it happened, as an importer claimed."""
    command: CommandId
    sender: AccountId
    ordinal: int
    own: int
    header: str
    body: Sealed | None
    """None where it is retracted."""
    signature: str | None
    signer: str | None
    retracted: int | None
    """The seq of its retraction; None also where that lies beyond what the page may show."""


class StoredChange(msgspec.Struct, frozen=True, kw_only=True):
    """Anything in a conversation but a message."""

    conversation: ConversationId
    seq: int
    at: int
    occurred: int | None
    command: CommandId
    event: ConversationEvent


class UnseenRetraction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Of a message before the page, from a time when the account was away: whoever is back must learn of it (I8)."""

    seq: int
    """That of the retraction, which the account may not see."""
    target: int
    """The message's, which the account may see or not."""


Stored = StoredMessage | StoredChange | UnseenRetraction


class Messages(ReadModel):
    name = "messages"
    # A new schema version of an event that is no message needs a new version here: `changes` keeps encoded events.
    version = 5
    schema = _SCHEMA
    tables = (
        Table("talks", ("talk_position",)),
        Table("messages", ("talk_position", "seq")),
        Table("changes", ("talk_position", "seq")),
        Table("commands", ("talk_position", "block", "command")),
    )
    page_bytes = 8_192

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self._talks: dict[str, int] = {}
        """Positions by conversation, as far as they were read of late."""
        self._undone = db.undone
        """As it was when they were read: what was read in a transaction that is undone is true no longer."""

    def apply(self, events: Sequence[Event]) -> None:
        messages: list[Params] = []
        changes: list[Params] = []
        retractions: list[Params] = []
        blocks: list[Params] = []
        started: list[Params] = []
        events = [event for event in events if event.stream.startswith(_PREFIX)]
        talks = self._talks_of({event.stream[len(_PREFIX) :] for event in events})
        for event in events:
            conversation = event.stream[len(_PREFIX) :]
            talk = talks.get(conversation)
            if talk is None:
                talk = talks[conversation] = event.position
                started.append((conversation, talk))
            if (event.version + 1) % BLOCK == 0:
                blocks.append(_block(talk, event.version + 1))
            facts = event.entry.e
            if isinstance(facts, MessageSent):
                messages.append(_message_row(event, talk, facts))
                continue
            changes.append(_change_row(event, talk))
            if isinstance(facts, MessageRetracted):
                retractions.append((event.version + 1, talk, facts.target))
        # Messages come first: one may be sent, retracted and indexed within a batch, and always in this order.
        self.db.executemany(_INSERT_TALK, started)
        self.db.executemany(_INSERT_MESSAGE, messages)
        self.db.executemany(_INSERT_CHANGE, changes)
        self.db.executemany(_RETRACT, retractions)
        self.db.executemany(_INDEX_BLOCK, blocks)

    def subject_of(self, row: Mapping[str, Any]) -> str | None:
        found = self.db.query_one("SELECT conversation FROM talks WHERE talk_position = ?", (row["talk_position"],))
        return None if found is None else str(found[0])

    async def page(
        self, conversation: ConversationId, *, intervals: Sequence[Sequence[int]], after: int, limit: int
    ) -> list[Stored]:
        """The history after a seq as far as the intervals ([first, last], in order; a last of 0: to the end) show it:
        ascending, at most `limit` items. Messages are as they were where the last interval ends."""
        page: list[Stored] = []
        talk = self._talk(conversation)
        if talk is None:
            return page
        end = (intervals[-1][1] or _OPEN_END) if intervals else 0
        gap = 1
        for first, last in intervals:
            low, high = max(gap, after + 1), first - 1
            if gap > 1 and low <= high and len(page) < limit:
                page += self._unseen(talk, low, high, after, limit - len(page))
            low, high = max(first, after + 1), last or _OPEN_END
            if low <= high and len(page) < limit:
                page += self._between(conversation, talk, low, high, end, limit - len(page))
            gap = last + 1
        return page

    async def find_command(self, conversation: ConversationId, command_id: CommandId) -> First | None:
        """What the command was answered with; None for an id that the conversation doesn't know. True for the events
        up to the model's position: whoever must not miss one waits for it first."""
        talk = self._talk(conversation)
        seq = None if talk is None else self._seq_of(talk, command_id)
        if seq is None:
            return None
        message = self.db.query_one(_DIGEST, (talk, seq))
        if message is not None:
            return First(seq=seq, at=message[0], by=message[1], what=message[2])
        topic, data = self.db.query(_CHANGE, (talk, seq))[0]
        return first_outcome(seq - 1, CODEC.decode_entry(topic, data))

    async def last_seq(self, conversation: ConversationId) -> int:
        """The last one of which there is a row; 0 where there is none."""
        talk = self._talk(conversation)
        return max(seq or 0 for (seq,) in self.db.query(_LAST_SEQ, (talk, talk)))

    async def last_seq_upto(self, conversation: ConversationId, position: int) -> int:
        """The last one whose event stands at a position of the log up to this one; 0 where there is none."""
        talk = self._talk(conversation)
        return max((seq for (seq,) in self.db.query(_LAST_SEQ_UPTO, (talk, position) * 2)), default=0)

    def _talk(self, conversation: ConversationId) -> int | None:
        """The position that stands for the conversation; None where there is no row of it."""
        talks = self._known_talks()
        talk = talks.get(conversation)
        if talk is None and (row := self.db.query_one(_TALK, (conversation,))) is not None:
            talk = talks[conversation] = row[0]
        return talk

    def _talks_of(self, conversations: set[str]) -> dict[str, int]:
        """The positions of all of them that have rows, and of others."""
        talks = self._known_talks()
        unknown = [(conversation,) for conversation in conversations if conversation not in talks]
        for (conversation,), rows in zip(unknown, self.db.query_each(_TALK, unknown), strict=True):
            if rows:
                talks[conversation] = rows[0][0]
        return talks

    def _known_talks(self) -> dict[str, int]:
        if self._undone != self.db.undone or len(self._talks) >= _KNOWN_MAX:
            self._talks.clear()
            self._undone = self.db.undone
        return self._talks

    def _seq_of(self, talk: int, command_id: CommandId) -> int | None:
        """That of the first event of the command."""
        last_block: int = self.db.query(_LAST_BLOCK, (talk,))[0][0]
        row = self.db.query_one(_FIND_INDEXED, (last_block, talk, command_id))
        if row is None:
            later = (talk, (last_block + 1) * BLOCK, command_id)
            row = self.db.query_one(_FIND_LATER, later + later)
        return None if row is None else row[0]

    def _unseen(self, talk: int, low: int, high: int, after: int, limit: int) -> list[UnseenRetraction]:
        rows = self.db.query(_RETRACTED, (talk, low, high, after, limit))
        return [UnseenRetraction(seq=seq, target=target) for seq, target in rows]

    def _between(
        self, conversation: ConversationId, talk: int, low: int, high: int, end: int, limit: int
    ) -> list[StoredMessage | StoredChange]:
        bounds = (talk, low, high, limit)
        # A body that is not to be shown is not read.
        rows = self.db.query(_MESSAGES, (end, *bounds))
        items: list[StoredMessage | StoredChange] = [_stored_message(row, conversation, end) for row in rows]
        items += (_stored_change(row, conversation) for row in self.db.query(_CHANGES, bounds))
        # Each of the two has its first `limit`, so the first `limit` of both are among them.
        return sorted(items, key=attrgetter("seq"))[:limit]


def _block(talk: int, last: int) -> Params:
    """Of the `BLOCK` events up to the seq `last`."""
    each = (last // BLOCK - 1, talk, last - BLOCK + 1, last)
    return each + each


def _message_row(event: Event, talk: int, sent: MessageSent) -> Params:
    entry = event.entry
    return (
        event.position, talk, event.version + 1, entry.at, entry.occ, entry.cmd, sent.by, sent.ordinal, sent.own,
        sent.header, sent.digest, sent.body.key, sent.body.box, sent.signature, sent.signer,
    )  # fmt: skip


def _change_row(event: Event, talk: int) -> Params:
    encoded = CODEC.encode(event.entry)
    return (event.position, talk, event.version + 1, event.entry.cmd, encoded.topic, encoded.data)


def _stored_message(row: Row, conversation: ConversationId, end: int) -> StoredMessage:
    """The message as it was at the seq `end`."""
    seq, at, occurred, command, sender, ordinal, own, header, key, box, signature, signer, retracted = row
    if retracted is not None and retracted > end:
        retracted = None
    shown = key is not None and retracted is None
    return StoredMessage(
        conversation=conversation, seq=seq, at=at, occurred=occurred, command=command, sender=sender,
        ordinal=ordinal, own=own, header=header, body=Sealed(key=key, box=box) if shown else None,
        signature=signature, signer=signer, retracted=retracted,
    )  # fmt: skip


def _stored_change(row: Row, conversation: ConversationId) -> StoredChange:
    seq, topic, data = row
    entry = cast(Entry[ConversationEvent], CODEC.decode_entry(topic, data))
    return StoredChange(
        conversation=conversation, seq=seq, at=entry.at, occurred=entry.occ, command=CommandId(entry.cmd), event=entry.e
    )
