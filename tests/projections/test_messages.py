"""The read model `messages`: pages of history, retractions, look-ups of command ids."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.codec import Event
from domain.conversation import MessageRetracted, MessageSent, TitleSet, first_outcome
from domain.ids import AccountId, CommandId, ConversationId
from projections import messages
from projections.messages import Messages, Stored, StoredChange, StoredMessage, UnseenRetraction
from projections.visible import sees
from tests.projections.brute import Chat, cut
from tests.projections.eventful import eventful
from tests.projections.histories import START_AT, History, fold, histories, must, seal
from tests.projections.stores import new_model

pytestmark = pytest.mark.usefixtures("each_store")
EVERYTHING = [[1, 0]]


async def all_of(model: Messages, conversation: ConversationId) -> list[Stored]:
    return await model.page(conversation, intervals=EVERYTHING, after=0, limit=10_000)


def seqs(page: Sequence[Stored]) -> list[int]:
    return [item.seq for item in page if not isinstance(item, UnseenRetraction)]


@given(histories(), st.integers(min_value=2, max_value=50))
def test_bit_by_bit_is_equal_to_a_rebuild(history: History, batch_max: int) -> None:
    """I9"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "BLOCK", 4)
        one_by_one, rebuilt = fold(Messages, history.events), fold(Messages, history.events, batch_max=batch_max)
        assert one_by_one.row_hash() == rebuilt.row_hash()
        rebuilt.advance(history.events)
        assert one_by_one.row_hash() == rebuilt.row_hash(), "a batch fed twice changes nothing"


@given(histories(), st.integers(min_value=0, max_value=30), st.integers(min_value=1, max_value=20))
async def test_a_page_shows_each_event_of_the_intervals_once(history: History, after: int, limit: int) -> None:
    """I3, I8: in the order of seq, and nothing from the time when one was not a member."""
    model = fold(Messages, history.events, batch_max=100)
    for conversation, state in history.conversations.items():
        for intervals in state.visible.values():
            page = await model.page(conversation, intervals=intervals, after=after, limit=limit)
            assert len(page) <= limit
            upto = page[-1].seq if len(page) == limit else state.seq
            assert seqs(page) == [seq for seq in range(after + 1, upto + 1) if sees(intervals, seq)]


@given(eventful(), st.integers(min_value=1, max_value=9), st.sampled_from([1, 2, 3, 500]))
async def test_a_device_that_pages_knows_of_what_it_may(history: History, step: int, limit: int) -> None:
    """I8: whoever has left sees the messages as they were then; whoever is back learns what was retracted meanwhile."""
    model = new_model(Messages)
    bodies: dict[tuple[ConversationId, AccountId], dict[int, int | None]] = {}
    cursors: dict[tuple[ConversationId, AccountId], int] = {}
    events: list[Event] = []
    for batch in cut(history.events, [step]):
        model.advance(batch)
        events += batch
        for conversation in {ConversationId(event.stream.partition("-")[2]) for event in batch}:
            chat = Chat(events, conversation)
            for account in chat.sees:
                held = bodies.setdefault((conversation, account), {})
                after = cursors.get((conversation, account), 0)
                cursors[conversation, account] = await _catch_up(model, chat, account, held, after, limit)
                assert held == {seq: chat.retraction(account, seq) for seq in chat.messages if seq in held}
                assert held.keys() == chat.messages.keys() & chat.sees[account]


async def _catch_up(
    model: Messages, chat: Chat, account: AccountId, held: dict[int, int | None], cursor: int, limit: int
) -> int:
    """Takes pages into what a device holds, message → retraction, just as `page_of` and the client do."""
    intervals = chat.intervals(account)
    while True:
        page = await model.page(chat.conversation, intervals=intervals, after=cursor, limit=limit)
        for item in page:
            if isinstance(item, StoredMessage):
                held[item.seq] = item.retracted
                assert (item.body is None) == (item.retracted is not None)
            elif isinstance(item, UnseenRetraction):
                assert item.seq not in chat.sees[account]
                if item.target in held:
                    held[item.target] = item.seq
            elif isinstance(item.event, MessageRetracted) and item.event.target in held:
                held[item.event.target] = item.seq
        if len(page) < limit:
            return max(chat.sees[account])
        cursor = page[-1].seq


@given(histories())
async def test_every_item_says_what_its_event_says(history: History) -> None:
    model = fold(Messages, history.events, batch_max=7)
    for conversation in history.conversations:
        events = [event for event in history.events if event.stream == f"conversation-{conversation}"]
        retractions = {event.entry.e.target: event.version + 1
                       for event in events if isinstance(event.entry.e, MessageRetracted)}  # fmt: skip
        page = await all_of(model, conversation)
        assert page == [expected(conversation, event, retractions.get(event.version + 1)) for event in events]


def expected(conversation: ConversationId, event: Event, retracted: int | None) -> StoredMessage | StoredChange:
    entry, sent = event.entry, event.entry.e
    if not isinstance(sent, MessageSent):
        return StoredChange(
            conversation=conversation, seq=event.version + 1, at=entry.at, occurred=None,
            command=CommandId(entry.cmd), event=sent,  # type: ignore[arg-type]
        )  # fmt: skip
    return StoredMessage(
        conversation=conversation, seq=event.version + 1, at=entry.at, occurred=None, command=CommandId(entry.cmd),
        sender=sent.by, ordinal=sent.ordinal, own=sent.own, header=sent.header,
        body=sent.body if retracted is None else None, signature=None, signer=None, retracted=retracted,
    )  # fmt: skip


@pytest.mark.parametrize("batch_max", [1, 100])
async def test_a_retraction_takes_the_body_out_and_stands_for_itself(batch_max: int) -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann, "a slip of the tongue")
    history.send(chat, ben, "what?")
    history.retract(chat, ann, 2)
    model = fold(Messages, history.events, batch_max=batch_max)
    _, slip, answer, retraction = await all_of(model, chat)
    assert isinstance(slip, StoredMessage)
    assert (slip.body, slip.retracted) == (None, 4)
    assert isinstance(answer, StoredMessage)
    assert (answer.body, answer.retracted) == (seal("what?"), None)
    assert isinstance(retraction, StoredChange)
    assert retraction.event == MessageRetracted(by=ann, target=2, author=ann)


async def test_a_batch_that_is_undone_leaves_nothing_behind() -> None:
    """Neither in the rows nor in memory."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    history.send(chat, ann, "hello")
    model = new_model(Messages)
    with suppress(RuntimeError), model.db.transaction():
        model.apply(history.events)
        assert seqs(await all_of(model, chat)) == [1, 2]
        raise RuntimeError
    assert await all_of(model, chat) == []
    model.advance(history.events)
    assert seqs(await all_of(model, chat)) == [1, 2]
    assert model.row_hash() == fold(Messages, history.events).row_hash()


async def test_who_left_before_a_retraction_hears_of_it_when_it_is_back() -> None:
    """I8: and sees the message as it was until then."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.group(ann, ben)
    history.send(chat, ann, "a slip of the tongue")
    history.leave(chat, ben)
    history.send(chat, ann, "behind his back")
    history.retract(chat, ann, 4)
    history.retract(chat, ann, 2)
    away = fold(Messages, history.events)
    (slip,) = await away.page(chat, intervals=[[1, 3]], after=1, limit=1)
    assert isinstance(slip, StoredMessage)
    assert (slip.body, slip.retracted) == (seal("a slip of the tongue"), None)
    history.add(chat, ann, ben)
    back = fold(Messages, history.events)
    intervals = history.conversations[chat].visible[ben]
    page = await back.page(chat, intervals=intervals, after=3, limit=9)
    assert page[0] == UnseenRetraction(seq=6, target=2)
    assert seqs(page) == [7]
    assert await back.page(chat, intervals=intervals, after=3, limit=1) == page[:1]
    assert await back.page(chat, intervals=intervals, after=6, limit=9) == page[1:]
    (slip,) = await back.page(chat, intervals=intervals, after=1, limit=1)
    assert isinstance(slip, StoredMessage)
    assert (slip.body, slip.retracted) == (None, 6)


async def test_who_comes_back_has_a_hole_between_pages() -> None:
    """I8: pages go on after the hole, and their size counts what is shown."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.group(ann, ben)
    for number in range(3):
        history.send(chat, ann, f"text {number}")
    history.remove(chat, ann, ben)
    history.send(chat, ann, "behind his back")
    history.add(chat, ann, ben)
    history.send(chat, ann, "welcome back")
    model = fold(Messages, history.events, batch_max=100)
    intervals = history.conversations[chat].visible[ben]
    assert intervals == [[1, 5], [7, 0]]
    assert seqs(await model.page(chat, intervals=intervals, after=0, limit=4)) == [1, 2, 3, 4]
    assert seqs(await model.page(chat, intervals=intervals, after=4, limit=2)) == [5, 7]
    assert seqs(await model.page(chat, intervals=intervals, after=5, limit=9)) == [7, 8]
    assert seqs(await model.page(chat, intervals=intervals, after=8, limit=9)) == []
    assert seqs(await model.page(chat, intervals=[], after=0, limit=9)) == []
    assert seqs(await model.page(ConversationId("unknown"), intervals=EVERYTHING, after=0, limit=9)) == []


@given(histories(), st.integers(min_value=1, max_value=9))
async def test_every_command_id_is_found_and_no_other(history: History, block: int) -> None:
    """I2: whatever lies in an indexed block or after the last one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "BLOCK", block)
        model = fold(Messages, history.events, batch_max=5)
        for event in history.events:
            category, _, id_ = event.stream.partition("-")
            conversation, command_id = ConversationId(id_), CommandId(event.entry.cmd)
            found = await model.find_command(conversation, command_id)
            if category == "conversation":
                assert found == first_outcome(event.version, event.entry)  # type: ignore[arg-type]
            else:
                assert found is None
        for conversation in history.conversations:
            assert await model.find_command(conversation, history.new_id()) is None


async def test_a_command_id_is_found_in_its_own_conversation_only() -> None:
    """I12: nothing is said of another conversation's ids."""
    history = History()
    ann, ben, cem = (history.register(name) for name in ("ann", "ben", "cem"))
    chat, other = history.direct(ann, ben), history.direct(ann, cem)
    sent = must(history.send(chat, ann, "hello"))
    model = fold(Messages, history.events)
    found = await model.find_command(chat, CommandId(sent.entry.cmd))
    assert found is not None
    assert (found.seq, found.at, found.by) == (2, sent.entry.at, ann)
    assert await model.find_command(other, CommandId(sent.entry.cmd)) is None


async def test_a_long_conversation_is_found_by_its_blocks() -> None:
    """I2: also the first message of some thousand."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.direct(ann, ben)
    for number in range(2 * messages.BLOCK + 10):
        history.send(chat, ann, f"text {number}")
    model = fold(Messages, history.events, batch_max=100)
    blocks = model.db.query("SELECT block, COUNT(*) FROM commands GROUP BY block")
    assert blocks == [(0, messages.BLOCK), (1, messages.BLOCK)]
    for event in history.events[-2 * messages.BLOCK - 11 :: 97]:
        found = await model.find_command(chat, CommandId(event.entry.cmd))
        assert found is not None
        assert found.seq == event.version + 1


async def test_the_first_event_of_an_id_is_its_outcome() -> None:
    """I2: a log into which a repair or an importer wrote an id twice is answered from its first event."""
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.group(ann, ben)
    first = must(history.send(chat, ann, "hello"))
    second = must(history.set_title(chat, ann, "a title"))
    entry = msgspec.structs.replace(second.entry, cmd=first.entry.cmd)
    events = [*history.events[:-1], msgspec.structs.replace(second, entry=entry)]
    for block in (2, 3, messages.BLOCK):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(messages, "BLOCK", block)
            found = await fold(Messages, events).find_command(chat, CommandId(first.entry.cmd))
            assert found is not None
            assert found.seq == 2


async def test_what_an_importer_claims_is_kept() -> None:
    history = History()
    ann, ben = history.register("ann"), history.register("ben")
    chat = history.group(ann, ben)
    history.send(chat, ann, "from the archive")
    history.set_title(chat, ann, "archived")
    claimed = [
        msgspec.structs.replace(event, entry=msgspec.structs.replace(event.entry, occ=START_AT - 1))
        for event in history.events
    ]
    page = await all_of(fold(Messages, claimed), chat)
    assert [getattr(item, "occurred", None) for item in page] == [START_AT - 1] * 3
    assert isinstance(page[2], StoredChange)
    assert page[2].event == TitleSet(by=ann, title=seal("archived"))
