"""The read model `statistics`: messages by day and member, and who answers whom."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.codec import Event
from domain.ids import ConversationId
from projections.statistics import ANSWERS, DAY_US, DAYS, Statistics
from tests.projections.histories import START_AT, History, fold, histories
from tests.projections.stores import scans

pytestmark = pytest.mark.usefixtures("each_store")
START_DAY = START_AT // DAY_US


@given(histories(), st.integers(min_value=2, max_value=50))
def test_bit_by_bit_is_equal_to_a_rebuild(history: History, batch_max: int) -> None:
    """I9"""
    one_by_one, rebuilt = fold(Statistics, history.events), fold(Statistics, history.events, batch_max=batch_max)
    assert one_by_one.row_hash() == rebuilt.row_hash()
    rebuilt.advance(history.events)
    assert one_by_one.row_hash() == rebuilt.row_hash(), "a batch fed twice changes nothing"


def answers_of(model: Statistics, conversation: ConversationId) -> Counter[tuple[str, str]]:
    return Counter({(by, whom): times for by, whom, times in model.db.query(ANSWERS, (conversation,))})


@given(histories())
def test_it_counts_what_the_messages_say(history: History) -> None:
    model = fold(Statistics, history.events, batch_max=20)
    for conversation in history.conversations:
        messages = {seq: sent for seq, sent in history.messages.get(conversation, {}).items() if sent.counts}
        by_member = Counter(sent.by for sent in messages.values())
        assert {member: count for _, member, count in model.db.query(DAYS, (conversation,))} == by_member
        abouts = [(seq, sent.by, msgspec.json.decode(sent.header).get("b")) for seq, sent in messages.items()]
        expected = Counter((by, messages[about].by) for seq, by, about in abouts if about in messages and about < seq)
        assert answers_of(model, conversation) == expected


def test_a_day_is_one_of_utc_by_the_time_of_occurrence() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    history.send(chat, ben)
    events = history.events
    days = [DAY_US - 1, DAY_US, -1]
    for occurred in days:
        history.send(chat, ben)
        events[-1] = _occurred(events[-1], occurred)
    model = fold(Statistics, events, batch_max=3)
    first, second = sorted([ann, ben])
    assert model.db.query(DAYS, (chat,)) == [
        (-1, ben, 1), (0, ben, 1), (1, ben, 1), (START_DAY, first, 1), (START_DAY, second, 1),
    ]  # fmt: skip


def _occurred(event: Event, at: int) -> Event:
    return msgspec.structs.replace(event, entry=msgspec.structs.replace(event.entry, occ=at))


@pytest.mark.parametrize("about", ["2", 0, -3, 2**70, 1, 99])
def test_what_names_no_earlier_message_is_no_answer(about: str | int) -> None:
    """A header from before the field had a meaning may hold anything; 1 is the conversation's start."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann)
    history.send(chat, ben, about=about)
    model = fold(Statistics, history.events, batch_max=99)
    assert answers_of(model, chat) == Counter()
    history.send(chat, ben, about=2)
    model.advance(history.events)
    assert answers_of(model, chat) == Counter({(ben, ann): 1})


def test_no_read_goes_through_a_whole_table() -> None:
    history = History()
    model = fold(Statistics, history.events)
    assert [scans(model.db, sql) for sql in (DAYS, ANSWERS)] == [[], []]
