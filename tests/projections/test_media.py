"""The read model `media`: what was uploaded, which messages name it, and what nobody names."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.conversation import MessageRetracted, MessageSent
from domain.ids import ConversationId, MediaId
from domain.media import Phase
from projections.media import Media
from projections.visible import sees
from tests.projections.eventful import eventful
from tests.projections.histories import START_AT, History, fold, histories, must

pytestmark = pytest.mark.usefixtures("each_store")
either = st.one_of(histories(), eventful())
LATE = START_AT * 2
ALL = 1_000


@given(either, st.integers(min_value=2, max_value=50))
def test_bit_by_bit_is_equal_to_a_rebuild(history: History, batch_max: int) -> None:
    """I9"""
    one_by_one, rebuilt = fold(Media, history.events), fold(Media, history.events, batch_max=batch_max)
    assert one_by_one.row_hash() == rebuilt.row_hash()
    rebuilt.advance(history.events)
    assert one_by_one.row_hash() == rebuilt.row_hash(), "a batch fed twice changes nothing"


@given(either)
async def test_it_knows_what_the_domain_knows(history: History) -> None:
    model = fold(Media, history.events, batch_max=20)
    for media, state in history.media.items():
        row = await model.find(media)
        if state.phase == "none":
            assert row is None
        else:
            assert row is not None
            assert (row.owner, row.phase, row.size, row.digest) == (state.by, state.phase, state.size, state.digest)
        named = sorted(named_in(history, media))
        assert await model.named_in(media, limit=ALL) == sorted({conversation for conversation, _ in named})
        assert await model.named_in(media, limit=1) == [conversation for conversation, _ in named[:1]]
        for conversation, state_of in history.conversations.items():
            for intervals in ([[1, 0]], [[2, state_of.seq // 2], [state_of.seq, 0]]):
                seen = any(talk == conversation and sees(intervals, seq) for talk, seq in named)
                assert await model.is_named(media, conversation, intervals) == seen


@given(either)
async def test_unnamed_is_what_no_message_shows_any_more(history: History) -> None:
    """Nothing that is referenced is ever swept."""
    model = fold(Media, history.events, batch_max=20)
    for phase in ("reserved", "stored", "expired"):
        unnamed = {row.media for row in await model.unnamed(phase, before=LATE, limit=ALL)}
        assert unnamed == {
            media for media, state in history.media.items() if state.phase == phase and not [*named_in(history, media)]
        }


@given(either)
async def test_one_streams_events_may_come_later_than_all_others(history: History) -> None:
    """As those of a parked stream do: the rows are the same then."""
    streams = sorted({event.stream for event in history.events})
    for late in streams[:: max(1, len(streams) // 3)]:
        last = history.events[-1].position
        reordered = [event for event in history.events if event.stream != late]
        reordered += [event for event in history.events if event.stream == late]
        renumbered = [msgspec.structs.replace(event, position=last + n) for n, event in enumerate(reordered)]
        assert fold(Media, renumbered).row_hash() == fold(Media, history.events).row_hash()


def named_in(history: History, media: MediaId) -> Iterable[tuple[ConversationId, int]]:
    for conversation in history.conversations:
        events = [event for event in history.events if event.stream == f"conversation-{conversation}"]
        retracted = {event.entry.e.target for event in events if isinstance(event.entry.e, MessageRetracted)}
        for event in events:
            names = isinstance(event.entry.e, MessageSent) and media in event.entry.e.media
            if names and event.version + 1 not in retracted:
                yield conversation, event.version + 1


async def test_the_time_of_grace_begins_when_nobody_names_it_any_more() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    picture = history.upload(ann)

    async def unnamed(phase: Phase, before: int) -> list[MediaId]:
        rows = await fold(Media, history.events).unnamed(phase, before=before, limit=ALL)
        return [row.media for row in rows]

    stored_at = history.events[-1].entry.at
    assert await unnamed("stored", stored_at) == []
    assert await unnamed("stored", stored_at + 1) == [picture]
    first = must(history.send(chat, ann, "look", media=[picture]))
    second = must(history.send(chat, ann, "once more", media=[picture]))
    assert await unnamed("stored", LATE) == []
    history.retract(chat, ann, first.version + 1)
    assert await unnamed("stored", LATE) == []
    retracted = must(history.retract(chat, ann, second.version + 1))
    assert await unnamed("stored", retracted.entry.at) == []
    assert await unnamed("stored", retracted.entry.at + 1) == [picture]
    expired = must(history.expire(picture))
    assert await unnamed("stored", LATE) == []
    assert await unnamed("expired", expired.entry.at + 1) == [picture]
    history.delete(picture)
    assert await unnamed("expired", LATE) == []


async def test_it_is_empty_until_something_is_reserved() -> None:
    history = History()
    ann = history.register("ann")
    assert await fold(Media, history.events).is_empty()
    history.reserve(ann)
    assert not await fold(Media, history.events).is_empty()
