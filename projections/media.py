"""The read model `media`: what was uploaded by whom and how far it has come, and which messages name it.

A message that was retracted names nothing any more. `since` is when something last happened by which a thing that
nobody names came to be so: it was reserved or stored, or a message that named it was retracted. `unnamed` is the same
while nobody names it, and NULL else: by its index the sweeper finds what to sweep however much there is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from domain.codec import Event
from domain.conversation import MessageRetracted, MessageSent
from domain.ids import AccountId, ConversationId, MediaId
from domain.media import MediaDeleted, MediaExpired, MediaKind, MediaReserved, MediaStored, Phase
from projections.database import Row
from projections.readmodel import ReadModel, Table

SEQ_MAX: Final = 2**63 - 1
_CONVERSATION: Final = "conversation-"
_MEDIA: Final = "media-"

_SCHEMA: Final = """
CREATE TABLE media (
    media TEXT PRIMARY KEY, account TEXT NOT NULL, kind TEXT NOT NULL, size BIGINT NOT NULL, digest TEXT NOT NULL,
    phase TEXT NOT NULL, since BIGINT NOT NULL, unnamed BIGINT
);
CREATE INDEX media_unnamed ON media (phase, unnamed) WHERE unnamed IS NOT NULL;
CREATE TABLE named (
    media TEXT NOT NULL, conversation TEXT NOT NULL, seq BIGINT NOT NULL, PRIMARY KEY (media, conversation, seq)
) WITHOUT ROWID;
CREATE INDEX named_message ON named (conversation, seq);
"""

_COLUMNS: Final = "media, account, kind, size, digest, phase, unnamed"

# A stream may be parked while others go on, so what names a thing may come before the thing.
_SINCE: Final = "since = CASE WHEN excluded.since > media.since THEN excluded.since ELSE media.since END"
_RESERVE: Final = f"""
INSERT INTO media VALUES (?, ?, ?, ?, ?, 'reserved', ?, NULL)
ON CONFLICT (media) DO UPDATE SET account = excluded.account, kind = excluded.kind, size = excluded.size,
    digest = excluded.digest, phase = excluded.phase, {_SINCE}
"""
_RELEASE: Final = f"""
INSERT INTO media VALUES (?, '', '', 0, '', 'none', ?, NULL) ON CONFLICT (media) DO UPDATE SET {_SINCE}
"""
_LOOK: Final = """
UPDATE media SET
    unnamed = CASE WHEN EXISTS (SELECT 1 FROM named WHERE named.media = media.media) THEN NULL ELSE since END
WHERE media = ?
"""
_MOVE: Final = """
UPDATE media SET phase = ?, since = CASE WHEN since > ? THEN since ELSE ? END WHERE media = ?
"""
_NAME: Final = "INSERT INTO named VALUES (?, ?, ?)"
_NAMED_BY: Final = "SELECT media FROM named WHERE conversation = ? AND seq = ? ORDER BY media"
_UNNAME: Final = "DELETE FROM named WHERE conversation = ? AND seq = ?"
_ONE: Final = f"SELECT {_COLUMNS} FROM media WHERE media = ?"
_NEXT_NAMED_IN: Final = """
SELECT conversation FROM named WHERE media = ? AND conversation > ? ORDER BY conversation LIMIT 1
"""
_IS_NAMED: Final = "SELECT 1 FROM named WHERE media = ? AND conversation = ? AND seq >= ? AND seq <= ? LIMIT 1"
_UNNAMED: Final = f"""
SELECT {_COLUMNS} FROM media WHERE phase = ? AND unnamed < ? ORDER BY unnamed, media LIMIT ?
"""
_ANY: Final = "SELECT 1 FROM media WHERE phase <> 'none' LIMIT 1"


class MediaRow(msgspec.Struct, frozen=True, kw_only=True):
    media: MediaId
    owner: AccountId
    kind: MediaKind
    size: int
    """Of the ciphertext, in bytes."""
    digest: str
    """Its SHA-256, unpadded base64."""
    phase: Phase
    unnamed: int | None
    """Since when no message names it, microseconds since 1970; None: one does."""


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
                    self._look(fact.media)
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

    async def named_in(self, media: MediaId, *, limit: int) -> list[ConversationId]:
        """The first of the conversations in which messages name it, by their ids."""
        found: list[ConversationId] = []
        while len(found) < limit:
            row = self.db.query_one(_NEXT_NAMED_IN, (media, found[-1] if found else ""))
            if row is None:
                break
            found.append(ConversationId(row[0]))
        return found

    async def is_named(self, media: MediaId, conversation: ConversationId, visible: Iterable[Sequence[int]]) -> bool:
        """Whether a message names it with a seq in one of the [first, last] intervals; a last of 0 means "and on"."""
        return any(
            self.db.query_one(_IS_NAMED, (media, conversation, first, last or SEQ_MAX)) is not None
            for first, last in visible
        )

    async def unnamed(self, phase: Phase, *, before: int, limit: int) -> list[MediaRow]:
        """What is in this phase and named by no message since before that time, microseconds since 1970; the oldest
        first."""
        return [_row(row) for row in self.db.query(_UNNAMED, (phase, before, limit))]

    async def is_empty(self) -> bool:
        """Nothing was ever reserved."""
        return self.db.query_one(_ANY) is None

    def _retract(self, conversation: str, seq: int, at: int) -> None:
        released = self.db.query(_NAMED_BY, (conversation, seq))
        if released:
            self.db.executemany(_RELEASE, [(media, at) for (media,) in released])
            self.db.execute(_UNNAME, (conversation, seq))
            self._look([media for (media,) in released])

    def _look(self, media: Iterable[str]) -> None:
        """Whether a message names them now."""
        self.db.executemany(_LOOK, [(each,) for each in media])

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
        self._look([media])


def _row(row: Row) -> MediaRow:
    media, owner, kind, size, digest, phase, unnamed = row
    return MediaRow(
        media=media, owner=owner, kind=cast(MediaKind, kind), size=size, digest=digest, phase=phase, unnamed=unnamed
    )
