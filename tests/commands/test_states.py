"""The states that commands are decided against: read once, kept, dropped, read again."""

from collections.abc import AsyncIterator

import pytest

from commands.states import States
from domain.account import ProfileChanged
from domain.entry import Entry
from domain.ids import ConversationId, account_stream, conversation_stream, receipts_stream
from domain.log import NO_STREAM, START
from tests.commands.helpers import ANN, BEN, CAT, TEXT, Desk, Watched, advance, new_id, send, writing

SENT = 5


@pytest.fixture
async def talk(log: Watched) -> AsyncIterator[ConversationId]:
    """A conversation of seq 6, with a receipt."""
    async with writing(log) as desk:
        talk = await desk.talk(ANN, BEN)
        await desk.all(*[send(talk) for _ in range(SENT)])
        await desk.accepted(advance(talk, BEN, delivered=3))
        await desk.accepted(send(talk))
        log.reads = 0
        yield talk


async def test_a_state_is_the_fold_of_its_stream(log: Watched, talk: ConversationId) -> None:
    states = States(log)
    conversation = await states.conversation(talk)
    assert (conversation.stream, conversation.version, conversation.committed) == (conversation_stream(talk), 6, 6)
    assert (conversation.state.seq, conversation.state.ordinal, conversation.exists) == (7, 6, True)
    receipts = await states.receipts(talk)
    assert (receipts.stream, receipts.version) == (receipts_stream(talk), 0)
    assert receipts.state.marks[BEN]["phone"].delivered == 3  # type: ignore[index]
    account = await states.account(ANN)
    assert (account.stream, account.version) == (account_stream(ANN), 1)
    assert account.at == 1_000_000


async def test_a_stream_that_doesn_t_exist_has_a_state_too(log: Watched) -> None:
    slot = await States(log).account(CAT)
    assert (slot.version, slot.committed, slot.exists, slot.at) == (NO_STREAM, NO_STREAM, False, 0)


async def test_it_is_read_once(log: Watched, talk: ConversationId) -> None:
    states = States(log)
    first = await states.conversation(talk)
    assert await states.conversation(talk) is first
    assert log.reads == 1


async def test_a_dropped_state_is_read_again(log: Watched, talk: ConversationId) -> None:
    states = States(log)
    first = await states.conversation(talk)
    states.drop(first.stream)
    again = await states.conversation(talk)
    assert again is not first
    assert again.state.seq == first.state.seq


async def test_where_too_many_are_kept_those_not_used_since_are_dropped(log: Watched, talk: ConversationId) -> None:
    states = States(log, slots_max=2)
    used, unused = await states.account(ANN), await states.account(BEN)
    states.trim()  # two are not too many
    await states.conversation(talk)
    states.trim()
    assert await states.account(ANN) is used
    await states.receipts(talk)
    await states.account(CAT)
    states.trim()
    assert await states.account(ANN) is used
    assert await states.account(BEN) is not unused


async def test_what_the_states_hold_has_a_bound_too(log: Watched, talk: ConversationId) -> None:
    """However many command ids, members and marks there are in each."""
    states = States(log, items_max=30)
    unused, used = await states.account(BEN), await states.conversation(talk)
    states.trim()  # they hold few
    states.items += 20  # events came
    states.trim()
    assert states.items == 0
    assert await states.conversation(talk) is used
    assert states.items == 4 + 2 * 2 + 1 + 7  # two people, one of whom sent something, seven command ids
    assert used.state.recent.since == 0
    states.items += 20
    states.trim()
    assert await states.conversation(talk) is used
    assert states.items == 4 + 2 * 2 + 1
    assert used.state.recent.since == 7  # ids from before are looked up
    assert await states.account(BEN) is not unused


async def test_the_writer_tells_them_how_much_came(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN)
    before = desk.writer._states.items
    await desk.all(*[send(talk) for _ in range(50)])
    assert desk.writer._states.items >= before + 50


async def test_a_state_of_either_generation_is_dropped(log: Watched, talk: ConversationId) -> None:
    states = States(log, slots_max=0)
    slot = await states.conversation(talk)
    states.trim()
    states.drop(slot.stream)
    assert await states.conversation(talk) is not slot


async def test_a_kept_state_takes_the_place_of_what_was_read(log: Watched, talk: ConversationId) -> None:
    states = States(log)
    mine = await states.conversation(talk)
    states.drop(mine.stream)
    await states.conversation(talk)
    states.keep(mine)
    assert await states.conversation(talk) is mine


async def test_the_committed_account_has_nothing_tentative(log: Watched, talk: ConversationId) -> None:
    states = States(log)
    slot = await states.account(ANN)
    assert await states.committed_account(ANN) is slot
    slot.fold(Entry(v=1, id=new_id(), cmd="c", at=1, e=ProfileChanged(name=TEXT)))
    committed = await states.committed_account(ANN)
    assert (slot.version, committed.version) == (2, 1)
    assert await states.account(ANN) is slot


async def test_long_streams_are_read_page_by_page(
    log: Watched, talk: ConversationId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commands.states._PAGE", 3)
    assert (await States(log).conversation(talk)).state.seq == 7
    assert log.reads == 3
    # A stream that ends with a page is asked once more.
    monkeypatch.setattr("commands.states._PAGE", 7)
    assert (await States(log).conversation(talk)).state.seq == 7
    assert log.reads == 5


async def test_it_knows_the_position_of_the_last_event_that_it_read(log: Watched, talk: ConversationId) -> None:
    states = States(log)
    assert states.position == START
    await states.account(ANN)
    early = states.position
    await states.conversation(talk)
    assert START < early < states.position
    assert states.position == await log.head()
    await states.account(BEN)
    assert states.position == await log.head()
