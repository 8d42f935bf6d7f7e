"""The read model `media`: what was uploaded by whom and how far it has come, and which messages name it.

A message that was retracted names nothing any more. `since` is when something last happened by which a thing that
nobody names came to be so: it was reserved or stored, or the last message that named it was retracted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from domain.codec import Event
from domain.conversation import MessageRetracted, MessageSent
from domain.ids import AccountId, ConversationId, MediaId
from domain.media import MediaDeleted, MediaExpired, MediaKind, MediaReserved, MediaStored, Phase
from projections.database import Row
from projections.readmodel import ReadModel, Table

_CONVERSATION: Final = "conversation-"
_MEDIA: Final = "media-"

_SCHEMA: Final = """
CREATE TABLE media (
    media TEXT PRIMARY KEY, account TEXT NOT NULL, kind TEXT NOT NULL, size BIGINT NOT NULL, digest TEXT NOT NULL,
    phase TEXT NOT NULL, since BIGINT NOT NULL
);
CREATE INDEX media_phase ON media (phase, since);
CREATE TABLE named (
    media TEXT NOT NULL, conversation TEXT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (media, conversation, seq)
) WITHOUT ROWID;
CREATE INDEX named_message ON named (conversation, seq);
"""

# A stream may be parked while others go on, so what names a thing may come before the thing.
_SINCE: Final = "since = CASE WHEN excluded.since > media.since THEN excluded.since ELSE media.since END"
_RESERVE: Final = f"""
INSERT INTO media VALUES (?, ?, ?, ?, ?, 'reserved', ?)
ON CONFLICT (media) DO UPDATE SET account = excluded.account, kind = excluded.kind, size = excluded.size,
    digest = excluded.digest, phase = excluded.phase, {_SINCE}
"""
_RELEASE: Final = f"INSERT INTO media VALUES (?, '', '', 0, '', 'none', ?) ON CONFLICT (media) DO UPDATE SET {_SINCE}"
_MOVE: Final = """
UPDATE media SET phase = ?, since = CASE WHEN since > ? THEN since ELSE ? END WHERE media = ?
"""
_NAME: Final = "INSERT INTO named VALUES (?, ?, ?)"
_NAMED_BY: Final = "SELECT media FROM named WHERE conversation = ? AND seq = ? ORDER BY media"
_UNNAME: Final = "DELETE FROM named WHERE conversation = ? AND seq = ?"
_ONE: Final = "SELECT media, account, kind, size, digest, phase, since FROM media WHERE media = ?"
_WHERE_NAMED: Final = "SELECT conversation, seq FROM named WHERE media = ? ORDER BY conversation, seq"
_UNNAMED: Final = """
SELECT media, account, kind, size, digest, phase, since FROM media
WHERE phase = ? AND since < ? AND NOT EXISTS (SELECT 1 FROM named WHERE named.media = media.media)
ORDER BY since, media LIMIT ?
"""
_USAGE: Final = """
SELECT account, phase, COUNT(*), SUM(size) FROM media WHERE phase <> 'none' AND phase <> 'deleted'
GROUP BY account, phase ORDER BY account, phase
"""
_ALL: Final = """
SELECT media, account, kind, size, digest, phase, since FROM media WHERE media > ? ORDER BY media LIMIT ?
"""


class MediaRow(msgspec.Struct, frozen=True, kw_only=True):
    media: MediaId
    owner: AccountId
    kind: MediaKind
    size: int
    """Of the ciphertext, in bytes."""
    digest: str
    """Its SHA-256, unpadded base64."""
    phase: Phase
    since: int
    """Microseconds since 1970."""


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """What one account has in one phase."""

    owner: AccountId
    phase: Phase
    count: int
    size: int
    """Bytes."""


class Media(ReadModel):
    name = "media"
    version = 1
    schema = _SCHEMA
    tables = (Table("media", ("media",)), Table("named", ("media", "conversation", "seq")))

    def apply(self, events: Sequence[Event]) -> None:
        # One by one, since the order counts; most messages name none.
        for event in events:
            fact = event.entry.e
            if isinstance(fact, MessageSent):
                if fact.media:
                    conversation = event.stream[len(_CONVERSATION) :]
                    self.db.executemany(_NAME, [(each, conversation, event.version + 1) for each in fact.media])
            elif isinstance(fact, MessageRetracted):
                self._retract(event.stream[len(_CONVERSATION) :], fact.target, event.entry.at)
            elif event.stream.startswith(_MEDIA):
                self._apply_media(MediaId(event.stream[len(_MEDIA) :]), event)

    def subject_of(self, row: Mapping[str, Any]) -> str | None:
        found = self.db.query_one(_ONE, (row["media"],))
        return None if found is None else str(found[1])

    async def find(self, media: MediaId) -> MediaRow | None:
        """None: it was never reserved."""
        row = self.db.query_one(_ONE, (media,))
        return None if row is None or row[5] == "none" else _row(row)

    async def named_in(self, media: MediaId) -> list[tuple[ConversationId, int]]:
        """The messages that name it, by conversation and seq."""
        return [(ConversationId(conversation), seq) for conversation, seq in self.db.query(_WHERE_NAMED, (media,))]

    async def unnamed(self, phase: Phase, *, before: int, limit: int) -> list[MediaRow]:
        """What is in this phase and named by no message since before that time, microseconds since 1970; the oldest
        first."""
        return [_row(row) for row in self.db.query(_UNNAMED, (phase, before, limit))]

    async def usage(self) -> list[Used]:
        rows = self.db.query(_USAGE)
        return [Used(owner=owner, phase=phase, count=count, size=int(size)) for owner, phase, count, size in rows]

    async def page(self, *, after: str, limit: int) -> list[MediaRow]:
        """All that there is, by id."""
        return [_row(row) for row in self.db.query(_ALL, (after, limit))]

    def _retract(self, conversation: str, seq: int, at: int) -> None:
        released = self.db.query(_NAMED_BY, (conversation, seq))
        if released:
            self.db.executemany(_RELEASE, [(media, at) for (media,) in released])
            self.db.execute(_UNNAME, (conversation, seq))

    def _apply_media(self, media: MediaId, event: Event) -> None:
        at = event.entry.at
        match event.entry.e:
            case MediaReserved() as reserved:
                row = (media, reserved.by, reserved.kind, reserved.size, reserved.digest, at)
                self.db.execute(_RESERVE, row)
            case MediaStored():
                self.db.execute(_MOVE, ("stored", at, at, media))
            case MediaExpired():
                self.db.execute(_MOVE, ("expired", at, at, media))
            case MediaDeleted():
                self.db.execute(_MOVE, ("deleted", at, at, media))
            case _:
                pass


def _row(row: Row) -> MediaRow:
    media, owner, kind, size, digest, phase, since = row
    return MediaRow(
        media=media, owner=owner, kind=cast(MediaKind, kind), size=size, digest=digest, phase=phase, since=since
    )
