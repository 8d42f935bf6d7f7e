"""Rows for ClickHouse: what they say of a history, and that they are the same whenever they are made."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.codec import CODEC, Codec, Event
from domain.conversation import ConversationStarted, MemberLeft, MemberRemoved, MembersAdded, MessageSent
from domain.ids import AccountId
from domain.log import RecordedEvent
from domain.receipts import Marks, ReceiptsAdvanced, advance
from projections.analytics.conversation import Conversation
from projections.analytics.fold import Fold, NoPast, SentMessage, Span
from projections.analytics.tables import (
    SEPARATOR,
    TABLES,
    ConversationRow,
    DeviceRow,
    EventRow,
    MembershipRow,
    MessageRow,
    ReceiptRow,
    RetractionRow,
    Row,
    text_of,
)
from tests.projections.histories import History, histories, must

R = TypeVar("R", bound=Row)


def recorded(events: Iterable[Event]) -> list[RecordedEvent]:
    encoded = [(event, CODEC.encode(event.entry)) for event in events]
    return [
        RecordedEvent(
            position=event.position, stream=event.stream, version=event.version, topic=new.topic, data=new.data
        )
        for event, new in encoded
    ]


def rows_of(history: History) -> list[Row]:
    return Fold(NoPast()).rows(recorded(history.events))


def of_kind(rows: Iterable[Row], kind: type[R]) -> list[R]:
    return [row for row in rows if isinstance(row, kind)]


class Rows:
    """A past that stands in rows: what ClickHouse is asked, said in Python."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def conversations(self, ids: Collection[str]) -> Mapping[str, Conversation]:
        found: defaultdict[str, Conversation] = defaultdict(Conversation)
        for row in self.rows:
            if getattr(row, "conversation", None) in ids:
                self._add(found[row.conversation], row)  # type: ignore[attr-defined]  # it has one
        return found

    def messages(self, spans: Sequence[Span]) -> Iterator[SentMessage]:
        for span in spans:
            for row in of_kind(self.rows, MessageRow):
                if row.counts and row.conversation == span.conversation and span.first <= row.seq <= span.last:
                    yield SentMessage(row.conversation, row.seq, row.recorded_at, row.author)

    def _add(self, to: Conversation, row: Row) -> None:
        match row:
            case ConversationRow():
                to.protection = "none" if row.protection == "none" else "end_to_end"
            case MessageRow(counts=True):
                to.sent.known_from = row.seq + 1
            case MembershipRow():
                recipient = to.recipient(row.account)
                recipient.since = row.seq if row.change == "joined" else recipient.since
                to.members.pop(row.account, None)
                if row.role != "none":
                    to.members[row.account] = row.role  # type: ignore[assignment]  # one of them
            case ReceiptRow():
                to.recipient(row.account).advance(row.device, row.delivered, row.read, row.undecryptable, row.repaired)
            case _:
                pass


@given(histories(), st.integers(min_value=1, max_value=9), st.integers(min_value=1, max_value=30))
def test_rows_are_the_same_whenever_they_are_made(history: History, batch: int, kept_max: int) -> None:
    """I14: with all of the past in memory, with none of it, and with some."""
    events, past = recorded(history.events), Rows()
    fold = Fold(past, kept_max=kept_max)
    for first in range(0, len(events), batch):
        past.rows += fold.rows(events[first : first + batch])
    assert past.rows == rows_of(history)


@given(histories())
def test_every_event_has_a_row_and_each_table_those_that_it_is_about(history: History) -> None:
    rows = rows_of(history)
    events = of_kind(rows, EventRow)
    assert [(row.position, row.type, f"{row.stream}-{row.subject}", row.version) for row in events] == [
        (event.position, type(event.entry.e).__name__, event.stream, event.version) for event in history.events
    ]
    assert {(row.conversation, row.seq) for row in of_kind(rows, MessageRow)} == {
        (conversation, seq) for conversation, sent in history.messages.items() for seq in sent
    }
    retracted = {(of, seq) for of, state in history.conversations.items() for seq in state.retracted}
    assert {(row.conversation, row.seq) for row in of_kind(rows, RetractionRow)} == retracted
    assert {row.conversation for row in of_kind(rows, ConversationRow)} == set(history.conversations)


@given(histories())
def test_memberships_add_up_to_who_is_in_a_conversation(history: History) -> None:
    members: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in of_kind(rows_of(history), MembershipRow):
        members[row.conversation].pop(row.account, None)
        if row.role != "none":
            members[row.conversation][row.account] = row.role
        assert row.members == len(members[row.conversation])
    assert members == {of: state.members for of, state in history.conversations.items() if of in members}


@given(histories())
def test_delays_are_those_of_messages_that_first_came_to_somebody(history: History) -> None:
    """Against a count that looks at every message anew after each statement."""
    expected = list(_delays(history))
    rows = of_kind(rows_of(history), ReceiptRow)
    assert [(sorted(row.delivery_ms), sorted(row.reading_ms)) for row in rows] == expected


def _delays(history: History) -> Iterator[tuple[list[int], list[int]]]:
    marks: defaultdict[tuple[str, AccountId], defaultdict[str, Marks]] = defaultdict(lambda: defaultdict(Marks))
    sent: defaultdict[str, dict[int, tuple[AccountId, int]]] = defaultdict(dict)
    since: dict[tuple[str, AccountId], int] = {}
    came: defaultdict[tuple[str, AccountId], set[int]] = defaultdict(set)
    here: set[tuple[str, AccountId]] = set()
    for event in history.events:
        fact, of, seq = event.entry.e, event.stream.partition("-")[2], event.version + 1
        match fact:
            case MessageSent(counts=True):
                sent[of][seq] = fact.by, event.entry.at
            case ConversationStarted() | MembersAdded():
                for account in fact.members if isinstance(fact, ConversationStarted) else fact.accounts:
                    if (of, account) not in here:
                        since[of, account] = seq
                        here.add((of, account))
            case MemberLeft():
                here.discard((of, fact.by))
            case MemberRemoved():
                here.discard((of, fact.account))
            case ReceiptsAdvanced():
                for receipt in fact.receipts:
                    devices = marks[of, receipt.account]
                    waiting = {
                        at: one[1]
                        for at, one in sent[of].items()
                        if one[0] != receipt.account and at > since[of, receipt.account]
                    }
                    read, before = _read(devices, waiting), came[of, receipt.account]
                    advance(devices[receipt.device], receipt)
                    now = _delivered(devices, sent[of])
                    first, came[of, receipt.account] = (now - before) & waiting.keys(), before | now
                    yield (
                        sorted(_ms(event, waiting[at]) for at in first),
                        sorted(_ms(event, waiting[at]) for at in _read(devices, waiting) - read),
                    )
            case _:
                pass


def _ms(event: Event, sent_at: int) -> int:
    return (event.entry.at - sent_at) // 1_000


def _delivered(devices: Mapping[str, Marks], seqs: Iterable[int]) -> set[int]:
    return {
        seq for seq in seqs if any(seq <= marks.delivered and seq not in marks.excepted for marks in devices.values())
    }


def _read(devices: Mapping[str, Marks], seqs: Iterable[int]) -> set[int]:
    return {seq for seq in seqs if any(seq <= marks.read for marks in devices.values())}


def test_a_second_device_and_history_from_before_make_no_delay() -> None:
    history = History()
    ann, ben, cem = history.register("ann"), history.register("ben"), history.register("cem")
    history.link(ben, "laptop")
    group = history.group(ann, ben)
    history.send(group, ann)  # 2
    must(history.receive(group, ben, delivered=2))
    must(history.receive(group, ben, delivered=2, read=2, device="laptop"))  # type: ignore[arg-type]  # a NewType
    history.add(group, ann, cem)  # 3
    history.send(group, ann)  # 4
    must(history.receive(group, cem, delivered=4, read=4))
    must(history.receive(group, ann, delivered=4, read=4))
    counts = [(len(row.delivery_ms), len(row.reading_ms)) for row in of_kind(rows_of(history), ReceiptRow)]
    assert counts == [(1, 0), (0, 1), (1, 1), (0, 0)]


@pytest.mark.parametrize("batch", [1, 2, 99])
def test_what_was_delivered_before_it_was_named_does_not_come_again(batch: int) -> None:
    """Wherever a batch begins: a statement may be about seqs before all marks."""
    history, past = History(), Rows()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    for _ in range(5):
        history.send(chat, ann)
    must(history.receive(chat, ben, delivered=6, read=6, undecryptable=(4,)))
    must(history.receive(chat, ben, delivered=6, undecryptable=(3,)))
    must(history.receive(chat, ben, delivered=6, repaired=(3, 4)))
    events = recorded(history.events)
    for first in range(0, len(events), batch):
        past.rows += Fold(past).rows(events[first : first + batch])
    assert [len(row.delivery_ms) for row in of_kind(past.rows, ReceiptRow)] == [4, 0, 1]
    assert past.rows == rows_of(history)


def test_what_a_message_answers_is_kept_where_nothing_is_protected() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    history.send(chat, ben, about=2)
    history.send(chat, ben, about="2")
    history.send(chat, ben, about=99)
    assert [row.answers for row in of_kind(rows_of(history), MessageRow)] == [0, 2, 0, 0]
    start = next(event for event in history.events if isinstance(event.entry.e, ConversationStarted))
    protected = msgspec.structs.replace(start.entry.e, protection="end_to_end")
    history.events[history.events.index(start)] = msgspec.structs.replace(
        start, entry=msgspec.structs.replace(start.entry, e=protected)
    )
    assert [row.answers for row in of_kind(rows_of(history), MessageRow)] == [0, 0, 0, 0]


def test_keys_of_devices_are_counted() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    history.publish_keys(ann, "a", "b", fallback="f")
    history.claim_key(ann, ben)
    history.link(ann, "laptop")
    history.revoke(ann, "laptop")
    found = [(row.device, row.change, row.keys, row.left) for row in of_kind(rows_of(history), DeviceRow)]
    assert found == [
        ("phone", "linked", 0, 0), ("phone", "linked", 0, 0), ("phone", "keys", 1, 0),
        ("phone", "one_time_keys", 2, 2), ("phone", "fallback_key", 1, 0), ("phone", "claimed", 1, 1),
        ("laptop", "linked", 0, 0), ("laptop", "revoked", 0, 0),
    ]  # fmt: skip


def test_an_event_that_this_release_does_not_know_has_a_row_among_the_events_alone() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    older = Codec({kind: (name, 1) for kind, name in ((MessageSent, "MessageSent"),)})
    fold = Fold(NoPast(), codec=older)
    rows = fold.rows(recorded(history.events))
    assert len(of_kind(rows, EventRow)) == len(history.events)
    assert fold.unreadable == len(history.events) - 1
    assert [row.answers for row in of_kind(rows, MessageRow)] == [0]


@pytest.mark.parametrize("name", TABLES)
def test_every_table_says_what_it_holds(name: str) -> None:
    table = TABLES[name]
    assert all(told.endswith(".") for told in (table.about, *(column.about for column in table.columns.values())))
    assert set(table.order) <= set(table.columns)


@given(histories())
def test_the_text_of_a_row_tells_its_columns_apart(history: History) -> None:
    for row in rows_of(history):
        assert len(text_of(row).split(SEPARATOR)) == len(row.__struct_fields__)
