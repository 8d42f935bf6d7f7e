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
from projections.answered import answered_seq

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


_SUBJECT_CHARS: Final = 36
_OF_CONVERSATIONS: Final = ("conversation-", "receipts-")
_START: Final = "ConversationStarted"
_RECEIPTS: Final = "ReceiptsAdvanced"


class _Happened(msgspec.Struct, frozen=True, gc=False):
    """Where an event stands, and when it happened."""

    position: int
    subject: str
    seq: int
    at: int
    recorded_at: int


def _happened(recorded: RecordedEvent, entry: Entry[Any] | None) -> _Happened:
    if entry is None:
        at = recorded_at = 0
    else:
        recorded_at = entry.at
        at = recorded_at if entry.occ is None else entry.occ
    return _Happened(recorded.position, recorded.stream[-_SUBJECT_CHARS:], recorded.version + 1, at, recorded_at)


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
            event = _happened(recorded, entry)
            rows.append(_event_row(recorded, event))
            if entry is not None:
                rows += self._rows_of(event, entry.e)
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

    def _rows_of(self, event: _Happened, fact: Any) -> Iterable[Row]:
        match fact:
            case MessageSent():
                return (self._message(event, fact),)
            case ReceiptsAdvanced():
                return self._receipts(event, fact)
            case ConversationStarted():
                self._conversations[event.subject] = Conversation(protection=fact.protection)
                about = ConversationRow(
                    event.position, event.subject, event.at, event.recorded_at, fact.by, fact.kind, fact.protection
                )
                return (about, *self._joined(event, fact.by, fact.members))
            case MembersAdded():
                return self._joined(event, fact.by, dict.fromkeys(fact.accounts, "member"))
            case MemberLeft():
                return self._gone(event, fact.by, fact.by, "left")
            case MemberRemoved():
                return self._gone(event, fact.by, fact.account, "removed")
            case RoleChanged():
                return self._role(event, fact)
            case MessageRetracted():
                return (
                    RetractionRow(
                        event.position, event.subject, fact.target, event.at, event.recorded_at, fact.by, fact.author
                    ),
                )
            case _:
                return _device_rows(event, fact)

    def _message(self, event: _Happened, fact: MessageSent) -> MessageRow:
        conversation = self._conversation(event.subject)
        if fact.counts:
            conversation.sent.add(event.seq, event.recorded_at, fact.by)
        answers = answered_seq(fact.header, event.seq) if conversation.protection == "none" else None
        return MessageRow(
            event.position, event.subject, event.seq, event.at, event.recorded_at, fact.by, fact.device, fact.counts,
            len(fact.body.box), len(fact.media), answers or 0,
        )  # fmt: skip

    def _receipts(self, event: _Happened, fact: ReceiptsAdvanced) -> Iterator[ReceiptRow]:
        conversation = self._conversation(event.subject)
        for number, receipt in enumerate(fact.receipts):
            delivery, reading = conversation.advance(receipt, event.recorded_at)
            yield ReceiptRow(
                event.position, number, event.subject, receipt.account, receipt.device, event.recorded_at,
                receipt.delivered, receipt.read, receipt.undecryptable, receipt.repaired, delivery, reading,
            )  # fmt: skip

    def _joined(self, event: _Happened, by: str, accounts: Mapping[Any, Role]) -> Iterator[MembershipRow]:
        conversation = self._conversation(event.subject)
        newcomers = [account for account in accounts if account not in conversation.members]
        for number, account in enumerate(newcomers):
            conversation.recipient(account).since = event.seq
            conversation.members[account] = role = accounts[account]
            yield _membership(event, conversation, number, account=account, by=by, change="joined", role=role)

    def _gone(self, event: _Happened, by: str, account: str, change: str) -> Iterator[MembershipRow]:
        conversation = self._conversation(event.subject)
        if conversation.members.pop(account, None) is not None:
            yield _membership(event, conversation, 0, account=account, by=by, change=change, role="none")

    def _role(self, event: _Happened, fact: RoleChanged) -> Iterator[MembershipRow]:
        conversation = self._conversation(event.subject)
        if conversation.members.get(fact.account, fact.role) != fact.role:
            conversation.members[fact.account] = fact.role
            yield _membership(event, conversation, 0, account=fact.account, by=fact.by, change="role", role=fact.role)

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


def _event_row(recorded: RecordedEvent, event: _Happened) -> EventRow:
    stream = recorded.stream[: -_SUBJECT_CHARS - 1]
    return EventRow(
        event.position, recorded.topic, stream, event.subject, recorded.version, event.at, event.recorded_at
    )


def _membership(
    event: _Happened, conversation: Conversation, number: int, *, account: str, by: str, change: str, role: str
) -> MembershipRow:
    return MembershipRow(
        event.position, number, event.subject, event.seq, event.at, event.recorded_at, account, by, change, role,
        len(conversation.members),
    )  # fmt: skip


def _device_rows(event: _Happened, fact: Any) -> Iterator[DeviceRow]:
    match fact:
        case DeviceLinked():
            change, keys, left = "linked", 0, 0
        case DeviceRevoked():
            change, keys, left = "revoked", 0, 0
        case DeviceKeysPublished():
            change, keys, left = "keys", 1, 0
        case OneTimeKeysPublished():
            change, keys, left = "one_time_keys", len(fact.keys), fact.left
        case FallbackKeyPublished():
            change, keys, left = "fallback_key", 1, 0
        case OneTimeKeyClaimed():
            change, keys, left = "claimed", 1, fact.left
        case _:
            return
    yield DeviceRow(event.position, event.subject, fact.device, event.at, event.recorded_at, change, keys, left)
