"""Events to rows. What must be known of a conversation is kept; where it was let go, or was made of rows before this
process began, it comes from the rows (`Past`). So the rows of an event are the same, whoever makes them and when."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from domain.account import DeviceLinked, DeviceRevoked
from domain.codec import CODEC, Codec, UnknownEvent
from domain.conversation import (
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
    Role,
    RoleChanged,
)
from domain.entry import Entry
from domain.keys import DeviceKeysPublished, FallbackKeyPublished, OneTimeKeyClaimed, OneTimeKeysPublished
from domain.log import RecordedEvent
from domain.receipts import ReceiptsAdvanced
from projections.analytics.conversation import Conversation
from projections.analytics.tables import (
    ConversationRow,
    DeviceRow,
    EventRow,
    MembershipRow,
    MessageRow,
    ReceiptRow,
    RetractionRow,
    Row,
)

KEPT_MAX: Final = 4_000_000
"""Rows that were made, or recalled, since all was let go: a message takes 16 bytes, a recipient about 300."""


class Span(NamedTuple):
    """Messages of a conversation, by seq: from the first to the last."""

    conversation: str
    first: int
    last: int


class SentMessage(NamedTuple):
    conversation: str
    seq: int
    recorded_at: int
    author: str


class Past(Protocol):
    """What the rows say that were made before. It is asked before the rows of a batch are made."""

    def conversations(self, ids: Collection[str]) -> Mapping[str, Conversation]:
        """Those of which there are rows, without their messages: `sent.known_from` is beyond the last."""
        ...

    def messages(self, spans: Sequence[Span]) -> Iterable[SentMessage]:
        """Those that count, in order of seq."""
        ...


class NoPast:
    """Of who begins at the log's start."""

    def conversations(self, ids: Collection[str]) -> Mapping[str, Conversation]:
        return {}

    def messages(self, spans: Sequence[Span]) -> Iterable[SentMessage]:
        return ()


class _About(msgspec.Struct, frozen=True):
    """What is needed of a message's header. A client may have put anything there."""

    b: Any = None


_about: Final = msgspec.json.Decoder(_About).decode
_SUBJECT_CHARS: Final = 36
_OF_CONVERSATIONS: Final = ("conversation-", "receipts-")
_START: Final = "ConversationStarted"
_RECEIPTS: Final = "ReceiptsAdvanced"


class Fold:
    """Makes rows of events, fed in the order of the log."""

    def __init__(self, past: Past, *, codec: Codec = CODEC, kept_max: int | None = KEPT_MAX) -> None:
        """`kept_max`: with more than that everything is let go, and what is needed again, the past tells. None: it is
        all kept, as who has no past must."""
        self._past = past
        self._codec = codec
        self._kept_max = kept_max
        self._kept = 0
        self._conversations: dict[str, Conversation] = {}
        self.unreadable = 0
        """Events that this release can't decode: they have a row in `events` alone."""

    def rows(self, batch: Sequence[RecordedEvent]) -> list[Row]:
        """The rows of the next events."""
        entries = [self._decode(recorded) for recorded in batch]
        self._recall(batch, entries)
        rows: list[Row] = []
        for recorded, entry in zip(batch, entries, strict=True):
            rows.append(_event_row(recorded, entry))
            if entry is not None:
                rows += self._rows_of(recorded, entry)
        self._kept += len(rows)
        if self._kept_max is not None and self._kept > self._kept_max:
            self._conversations.clear()
            self._kept = 0
        return rows

    def _decode(self, recorded: RecordedEvent) -> Entry[Any] | None:
        try:
            return self._codec.decode_entry(recorded.topic, recorded.data)
        except UnknownEvent:
            self.unreadable += 1
            return None

    def _rows_of(self, recorded: RecordedEvent, entry: Entry[Any]) -> Iterable[Row]:
        subject = recorded.stream[-_SUBJECT_CHARS:]
        match entry.e:
            case MessageSent():
                return (self._message(recorded, entry, subject),)
            case ReceiptsAdvanced():
                return self._receipts(recorded, entry, subject)
            case ConversationStarted() as started:
                self._conversations[subject] = Conversation(protection=started.protection)
                about = ConversationRow(
                    recorded.position, subject, at_of(entry), entry.at, started.by, started.kind, started.protection
                )
                return (about, *self._joined(recorded, entry, subject, started.by, started.members))
            case MembersAdded() as added:
                return self._joined(recorded, entry, subject, added.by, dict.fromkeys(added.accounts, "member"))
            case MemberLeft() as left:
                return self._gone(recorded, entry, subject, left.by, left.by, "left")
            case MemberRemoved() as removed:
                return self._gone(recorded, entry, subject, removed.by, removed.account, "removed")
            case RoleChanged() as changed:
                return self._role(recorded, entry, subject, changed)
            case MessageRetracted() as retracted:
                return (
                    RetractionRow(
                        recorded.position, subject, retracted.target, at_of(entry), entry.at, retracted.by,
                        retracted.author,
                    ),
                )  # fmt: skip
            case _:
                return _device_rows(recorded, entry, subject)

    def _message(self, recorded: RecordedEvent, entry: Entry[MessageSent], subject: str) -> MessageRow:
        fact, seq = entry.e, recorded.version + 1
        conversation = self._conversation(subject)
        answers = 0
        if fact.counts:
            conversation.sent.add(seq, entry.at, fact.by)
        if conversation.protection == "none" and _may_answer(fact.header):
            about = _about(fact.header).b
            answers = about if type(about) is int and 0 < about < seq else 0
        return MessageRow(
            recorded.position, subject, seq, at_of(entry), entry.at, fact.by, fact.device, fact.counts,
            len(fact.body.box), len(fact.media), answers,
        )  # fmt: skip

    def _receipts(self, recorded: RecordedEvent, entry: Entry[ReceiptsAdvanced], subject: str) -> Iterator[ReceiptRow]:
        conversation = self._conversation(subject)
        for number, receipt in enumerate(entry.e.receipts):
            delivery, reading = conversation.advance(receipt, entry.at)
            yield ReceiptRow(
                recorded.position, number, subject, receipt.account, receipt.device, entry.at, receipt.delivered,
                receipt.read, receipt.undecryptable, receipt.repaired, delivery, reading,
            )  # fmt: skip

    def _joined(
        self, recorded: RecordedEvent, entry: Entry[Any], subject: str, by: str, accounts: Mapping[Any, Role]
    ) -> Iterator[MembershipRow]:
        conversation = self._conversation(subject)
        number = 0
        for account, role in accounts.items():
            if account not in conversation.members:
                conversation.recipient(account).since = recorded.version + 1
                conversation.members[account] = role
                yield _membership(recorded, entry, subject, number, conversation, account, by, "joined", role)
                number += 1

    def _gone(
        self, recorded: RecordedEvent, entry: Entry[Any], subject: str, by: str, account: str, change: str
    ) -> Iterator[MembershipRow]:
        conversation = self._conversation(subject)
        if conversation.members.pop(account, None) is not None:
            yield _membership(recorded, entry, subject, 0, conversation, account, by, change, "none")

    def _role(
        self, recorded: RecordedEvent, entry: Entry[Any], subject: str, changed: RoleChanged
    ) -> Iterator[MembershipRow]:
        conversation = self._conversation(subject)
        if conversation.members.get(changed.account, changed.role) != changed.role:
            conversation.members[changed.account] = changed.role
            yield _membership(
                recorded, entry, subject, 0, conversation, changed.account, changed.by, "role", changed.role
            )

    def _conversation(self, subject: str) -> Conversation:
        known = self._conversations.get(subject)
        if known is None:  # It begins in this batch, or by an event that this release can't decode.
            known = self._conversations[subject] = Conversation()
        return known

    def _recall(self, batch: Sequence[RecordedEvent], entries: Sequence[Entry[Any] | None]) -> None:
        """Everything that the batch's rows rest on: the past can't tell what the batch itself brings."""
        touched = _subjects({recorded.stream for recorded in batch})
        begun = _subjects({recorded.stream for recorded in batch if recorded.topic == _START})
        unknown = touched - begun - self._conversations.keys()
        if unknown:
            self._recall_conversations(unknown)
        spans = list(self._spans(batch, entries))
        if spans:
            self._recall_messages(spans)

    def _spans(self, batch: Sequence[RecordedEvent], entries: Sequence[Entry[Any] | None]) -> Iterator[Span]:
        """Messages that are not here and that receipts of the batch may be about."""
        first: dict[str, int] = {}
        for recorded, entry in zip(batch, entries, strict=True):
            if recorded.topic == _RECEIPTS and entry is not None:
                subject = recorded.stream[-_SUBJECT_CHARS:]
                conversation = self._conversation(subject)
                begins = min(
                    min((conversation.recipient(each.account).waits_from(), *each.undecryptable, *each.repaired))
                    for each in entry.e.receipts
                )
                first[subject] = min(begins, first.get(subject, begins))
        for subject, begins in first.items():
            known_from = self._conversation(subject).sent.known_from
            if begins < known_from:
                yield Span(subject, begins, known_from - 1)

    def _recall_conversations(self, ids: Collection[str]) -> None:
        known = self._past.conversations(ids)
        self._kept += sum(len(each.recipients) for each in known.values())
        self._conversations.update({each: known.get(each) or Conversation() for each in ids})

    def _recall_messages(self, spans: Sequence[Span]) -> None:
        found: dict[str, list[SentMessage]] = {span.conversation: [] for span in spans}
        for message in self._past.messages(spans):
            found[message.conversation].append(message)
            self._kept += 1
        for span in spans:
            self._conversations[span.conversation].sent.prepend(
                span.first, [(each.seq, each.recorded_at, each.author) for each in found[span.conversation]]
            )


def _subjects(streams: Iterable[str]) -> set[str]:
    """The conversations that these streams are of."""
    return {stream[-_SUBJECT_CHARS:] for stream in streams if stream.startswith(_OF_CONVERSATIONS)}


def _may_answer(header: str) -> bool:
    """Three of four messages answer none, and need no parsing. (A key may be written with an escape.)"""
    return '"b"' in header or "\\" in header


def at_of(entry: Entry[Any]) -> int:
    return entry.at if entry.occ is None else entry.occ


def _event_row(recorded: RecordedEvent, entry: Entry[Any] | None) -> EventRow:
    at, recorded_at = (0, 0) if entry is None else (at_of(entry), entry.at)
    stream = recorded.stream
    return EventRow(
        recorded.position, recorded.topic, stream[: -_SUBJECT_CHARS - 1], stream[-_SUBJECT_CHARS:], recorded.version,
        at, recorded_at,
    )  # fmt: skip


def _membership(
    recorded: RecordedEvent,
    entry: Entry[Any],
    subject: str,
    number: int,
    conversation: Conversation,
    account: str,
    by: str,
    change: str,
    role: str,
) -> MembershipRow:
    return MembershipRow(
        recorded.position, number, subject, recorded.version + 1, at_of(entry), entry.at, account, by, change, role,
        len(conversation.members),
    )  # fmt: skip


def _device_rows(recorded: RecordedEvent, entry: Entry[Any], subject: str) -> Iterator[DeviceRow]:
    match entry.e:
        case DeviceLinked():
            change, keys, left = "linked", 0, 0
        case DeviceRevoked():
            change, keys, left = "revoked", 0, 0
        case DeviceKeysPublished():
            change, keys, left = "keys", 1, 0
        case OneTimeKeysPublished() as published:
            change, keys, left = "one_time_keys", len(published.keys), published.left
        case FallbackKeyPublished():
            change, keys, left = "fallback_key", 1, 0
        case OneTimeKeyClaimed() as claimed:
            change, keys, left = "claimed", 1, claimed.left
        case _:
            return
    yield DeviceRow(recorded.position, subject, entry.e.device, at_of(entry), entry.at, change, keys, left)
