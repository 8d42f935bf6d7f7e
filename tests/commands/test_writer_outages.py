"""Stores that are away, or whose answer is lost: nothing accepted is lost or doubled, and the order holds."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from commands.stores.faults import Fate
from commands.stores.memory import Medium, MemoryLog
from commands.writer import Refused
from domain.account import RevokeDevice
from domain.codec import CODEC
from domain.conversation import MessageSent, RemoveMember
from domain.ids import ConversationId, account_stream, conversation_stream, receipts_stream
from domain.log import Append
from domain.receipts import ReceiptsAdvanced
from tests.commands.helpers import (
    ANN,
    BEN,
    CAT,
    PHONE,
    Desk,
    Watched,
    advance,
    entries,
    idle,
    new_id,
    read,
    register,
    send,
    sent,
    seqs,
    until,
    whole,
    writing,
)

pytestmark = pytest.mark.usefixtures("quick_retries", "quiet")


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "signet.writer")


def of(conversation: ConversationId) -> Callable[[Append], bool]:
    return lambda append: append.stream == conversation_stream(conversation)


# Unavailable


async def test_an_append_is_tried_again_while_the_store_is_away(frail: Desk, medium: Medium) -> None:
    talk = await frail.talk(ANN)
    for _ in range(5):
        medium.faults.refuse()
    commands = [send(talk) for _ in range(10)]
    assert seqs(await frail.all(*commands)) == list(range(2, 12))
    assert await sent(frail.log, talk) == [command.id for command in commands]


async def test_commands_wait_behind_an_append_of_their_stream(frail: Desk, medium: Medium) -> None:
    """I3: the order of a peer holds, and other streams go on."""
    talk, other = await frail.talk(ANN), await frail.talk(BEN)
    medium.faults.when(of(talk), Fate.REFUSED, calls=4)
    early = frail.submit(first := send(talk))
    await idle()
    commands = [send(talk) for _ in range(300)]
    late = [frail.submit(command) for command in commands]
    assert seqs(await frail.all(send(other, BEN), turn="other")) == [2]
    assert seqs([await early]) == [2]
    assert seqs(await asyncio.gather(*late)) == list(range(3, 303))
    assert await sent(frail.log, talk) == [command.id for command in [first, *commands]]


async def test_after_its_budget_it_is_refused_with_all_that_waited_behind(frail: Desk, medium: Medium) -> None:
    talk, other = await frail.talk(ANN, BEN), await frail.talk(ANN)
    medium.faults.when(of(talk), Fate.REFUSED)
    first = frail.submit(send(talk))
    await idle()
    behind = [frail.submit(send(talk, BEN), turn=BEN), frail.submit(send(talk, CAT))]
    assert await frail.do(send(other), turn="other") != Refused(code="unavailable")
    assert [await answer for answer in (first, *behind)] == [Refused(code="unavailable")] * 3
    medium.faults.heal()
    # The state is sound again.
    assert seqs(await frail.all(send(talk), send(talk, BEN))) == [2, 3]
    assert len(await sent(frail.log, talk)) == 2


async def test_what_was_given_up_leaves_no_trace_in_the_state(frail: Desk, medium: Medium) -> None:
    """I8: a removal that was not stored keeps nobody out."""
    talk = await frail.talk(ANN, BEN)
    medium.faults.when(of(talk), Fate.REFUSED)
    remove = RemoveMember(id=new_id(), conversation=talk, by=ANN, device=PHONE, after=1, account=BEN)
    assert await frail.refused(remove) == "unavailable"
    medium.faults.heal()
    await frail.accepted(send(talk, BEN))


async def test_a_read_that_fails_refuses_the_command(frail: Desk, medium: Medium) -> None:
    talk = await frail.talk(ANN)
    medium.faults.go_away()
    assert await frail.refused(send(ConversationId("another"))) == "unavailable"
    assert await frail.refused(send(talk)) == "unavailable"  # known, but it can't be appended
    medium.faults.heal()
    await frail.accepted(send(talk))


async def test_an_outage_is_logged_once_and_so_is_its_end(
    frail: Desk, medium: Medium, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is refused meanwhile, by a read or by an append, and however often it is tried."""
    caplog.set_level(logging.INFO, "signet.writer")
    talk = await frail.talk(ANN)
    for _ in range(2):
        caplog.clear()
        medium.faults.go_away()
        for _ in range(20):
            assert await frail.refused(send(ConversationId(new_id()))) == "unavailable"
            assert await frail.refused(send(talk)) == "unavailable"
        assert logged(caplog) == ["the store is away, or refuses something: the store is away"]
        assert frail.writer.measures.failure == "the store is away"
        medium.faults.heal()
        await frail.accepted(send(talk))
        assert logged(caplog)[1:] == ["the store is back"]
        assert frail.writer.measures.failure == ""


async def test_while_one_append_is_open_the_store_is_not_back(
    frail: Desk, medium: Medium, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "signet.writer")
    talk, other = await frail.talk(ANN), await frail.talk(BEN)
    medium.faults.when(of(talk), Fate.ANSWER_LOST)
    answer = frail.submit(send(talk))
    await idle()
    for _ in range(20):
        await frail.accepted(send(other, BEN))
    [line] = logged(caplog)
    assert line.endswith(f"an append to {conversation_stream(talk)} is open: the connection broke")
    medium.faults.heal()
    await answer
    assert logged(caplog) == [line, "the store is back"]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "signet.writer"]


# Unknown


@pytest.mark.parametrize("fate", [Fate.REQUEST_LOST, Fate.ANSWER_LOST, Fate.DELAYED])
async def test_an_unknown_outcome_ends_in_exactly_one_event(frail: Desk, medium: Medium, fate: Fate) -> None:
    """I1, I2"""
    talk, other = await frail.talk(ANN), await frail.talk(BEN)
    medium.faults.when(of(talk), fate, calls=3)
    commands = [send(talk) for _ in range(5)]
    answers = [frail.submit(command) for command in commands[:3]]
    await idle()
    answers += [frail.submit(command) for command in commands[3:]]
    assert seqs(await frail.all(send(other, BEN), turn="other")) == [2]
    assert seqs(await asyncio.gather(*answers)) == [2, 3, 4, 5, 6]
    medium.settle()
    assert await sent(frail.log, talk) == [command.id for command in commands]
    assert seqs([await frail.do(send(talk))]) == [7]


async def test_later_commands_of_the_stream_wait_and_other_streams_go_on(frail: Desk, medium: Medium) -> None:
    talk, other = await frail.talk(ANN), await frail.talk(BEN)
    medium.faults.when(of(talk), Fate.ANSWER_LOST)
    waiting = [frail.submit(send(talk))]
    await idle()
    waiting += [frail.submit(send(talk)), frail.submit(send(talk, CAT))]
    for seq in range(2, 40):
        assert seqs([await frail.do(send(other, BEN), turn="other")]) == [seq]
    assert not any(answer.done() for answer in waiting)
    assert len(await sent(frail.log, talk)) == 1
    medium.faults.heal()
    first, second, refused = await asyncio.gather(*waiting)
    assert seqs([first, second]) == [2, 3]
    assert refused == Refused(code="device_revoked")


async def test_an_unknown_outcome_is_never_given_up(frail: Desk, medium: Medium) -> None:
    """I1: it may be stored, so it can't be refused."""
    talk = await frail.talk(ANN)
    medium.faults.lose_answer()
    answer = frail.submit(send(talk))
    await idle()
    medium.faults.when(of(talk), Fate.REFUSED, calls=30)  # far more than the budget of what is surely not stored
    assert seqs([await answer]) == [2]
    assert len(await sent(frail.log, talk)) == 1


async def test_a_lost_answer_is_not_mistaken_for_a_refusal(frail: Desk, medium: Medium) -> None:
    """I1: a device that revoked itself may do nothing any more, and yet its revocation is accepted."""
    await frail.accepted(register(ANN))
    medium.faults.lose_answer()
    assert seqs([await frail.do(RevokeDevice(id=new_id(), account=ANN, by=PHONE, device=PHONE))]) == [3]


async def test_the_read_that_settles_a_conflict_may_fail_too(frail: Desk, medium: Medium) -> None:
    talk = await frail.talk(ANN)
    medium.faults.lose_answer()
    answer = frail.submit(send(talk))
    await until(lambda: len(medium.streams[conversation_stream(talk)]) == 2)
    assert isinstance(frail.log, Watched)
    frail.log.failing_reads = 3
    assert seqs([await answer]) == [2]
    assert frail.log.failing_reads == 0
    assert len(await sent(frail.log, talk)) == 1


@pytest.mark.parametrize("theirs", [1, 3])
async def test_where_somebody_else_s_events_stand_it_is_decided_anew(frail: Desk, medium: Medium, theirs: int) -> None:
    """I2, I3"""
    talk = await frail.talk(ANN, BEN)
    async with writing(MemoryLog(medium), hand_over=None) as other:
        release = medium.faults.hold_answer()
        medium.faults.lose_request()
        mine = [send(talk), send(talk)]
        answers = [frail.submit(command) for command in mine]
        await idle()
        commands = [send(talk, BEN) for _ in range(theirs)]
        replies = await other.all(*commands)
        release.set()
        assert seqs(replies) == list(range(2, 2 + theirs))
        assert seqs(await asyncio.gather(*answers)) == [2 + theirs, 3 + theirs]
    assert await sent(frail.log, talk) == [command.id for command in [*commands, *mine]]
    ids = [event.entry.id for event in await whole(frail.log)]
    assert len(set(ids)) == len(ids)


async def test_an_append_of_the_past_that_arrives_late_is_in_conflict(medium: Medium) -> None:
    """I2: the process died while its append was on the way; its client sends again, to the next process."""
    first = Desk(MemoryLog(medium))
    run = asyncio.create_task(first.writer.run())
    talk = await first.talk(ANN)
    medium.faults.delay()
    medium.faults.hold_answer()
    command = send(talk)
    lost = first.submit(command)
    await idle()
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    assert not lost.done()
    async with writing(MemoryLog(medium), hand_over=None) as second:
        assert seqs([await second.do(command)]) == [2]
        medium.settle()
        assert seqs([await second.do(command), await second.do(send(talk))]) == [2, 3]
        assert await sent(second.log, talk) == [command.id, (await entries(second.log, talk))[2].entry.cmd]


async def test_receipts_rest_on_the_committed_seq_while_an_outcome_is_open(frail: Desk, medium: Medium) -> None:
    talk = await frail.talk(ANN, BEN)
    medium.faults.when(of(talk), Fate.REQUEST_LOST)
    answer = frail.submit(send(talk))
    await idle()
    beyond = frail.submit(advance(talk, BEN, delivered=2))
    assert seqs([await frail.do(advance(talk, BEN, delivered=1))]) == [1]
    assert not beyond.done()
    medium.faults.heal()
    assert seqs([await answer, await beyond]) == [2, 2]


async def test_a_state_read_anew_while_an_outcome_is_open_does_not_stay(medium: Medium) -> None:
    """I3"""
    log = Watched(MemoryLog(medium))
    async with writing(log, slots_max=0) as desk:
        talk = await desk.talk(ANN, BEN)
        medium.faults.when(of(talk), Fate.REQUEST_LOST)
        answer = desk.submit(send(talk))
        await idle()
        for number in range(4):  # the conversation's state is dropped, then read again for the receipt
            await desk.accepted(register(ANN if number % 2 else BEN))
            await desk.accepted(register(CAT))
            await desk.accepted(advance(talk, BEN, delivered=1))
        medium.faults.heal()
        assert seqs([await answer]) == [2]
        log.batches.clear()
        assert seqs(await desk.all(send(talk), send(talk, BEN))) == [3, 4]
        assert len(log.batches) == 1  # a stale state would have met a conflict


async def test_an_account_s_open_append_holds_up_nobody_s_messages(frail: Desk, medium: Medium) -> None:
    talk = await frail.talk(ANN)
    medium.faults.when(lambda append: append.stream == account_stream(ANN), Fate.REQUEST_LOST)
    revoke = frail.submit(RevokeDevice(id=new_id(), account=ANN, by=PHONE, device=PHONE))
    await idle()
    assert seqs([await frail.do(send(talk))]) == [2]
    medium.faults.heal()
    assert seqs([await revoke]) == [3]
    assert await frail.refused(send(talk)) == "device_revoked"


# Handing over


@pytest.mark.parametrize("fate", [Fate.REQUEST_LOST, Fate.ANSWER_LOST, Fate.DELAYED])
async def test_events_are_handed_over_in_order_though_an_answer_was_lost(
    frail: Desk, medium: Medium, fate: Fate
) -> None:
    """I4: whoever reads on from a position misses nothing."""
    talk, other = await frail.talk(ANN), await frail.talk(BEN)
    medium.faults.when(of(talk), fate)
    first = frail.submit(send(talk))
    await until(lambda: stream_of_open(frail) == [conversation_stream(talk)])
    for _ in range(20):
        await frail.accepted(send(other, BEN))
    assert [event.position for event in frail.handed] == [event.position for event in await whole(frail.log)]
    medium.faults.heal()
    await first
    await frail.accepted(send(talk))
    everything = await whole(frail.log)
    await until(lambda: len(frail.handed) >= len(everything))
    assert frail.handed == everything


def stream_of_open(desk: Desk) -> list[str]:
    return list(desk.writer._open)


async def test_what_can_t_be_read_is_handed_over_when_the_store_is_back(medium: Medium) -> None:
    """I4"""
    log = Watched(MemoryLog(medium))
    async with writing(log) as desk:
        talk = await desk.talk(ANN)
        log.failing_reads = 4  # one more than it takes to settle the conflict
        medium.faults.lose_answer()
        await desk.accepted(send(talk))
        await until(lambda: len(desk.handed) == 4)
        assert log.failing_reads == 0
        assert desk.handed == await whole(log)


async def test_where_positions_are_hidden_an_answer_tells_the_head(medium: Medium) -> None:
    medium.faults.hide_positions()
    log = MemoryLog(medium)
    async with writing(log, hand_over=None) as desk:
        talk = await desk.talk(ANN)
        assert (await desk.accepted(send(talk))).position == await log.head()


async def test_the_answer_waits_until_the_head_can_be_read(medium: Medium) -> None:
    """I1"""
    medium.faults.hide_positions()
    async with writing(MemoryLog(medium), hand_over=None) as desk:
        talk = await desk.talk(ANN)
        release = medium.faults.hold_answer()
        answer = desk.submit(send(talk))
        await idle()
        medium.faults.go_away()
        release.set()
        await idle()
        assert not answer.done()
        medium.faults.heal()
        assert seqs([await answer]) == [2]


async def test_an_outage_delays_what_is_patient_no_longer_than_it_lasted(
    medium: Medium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round in which the head could not be read does not count in full: else an hour's outage made it wait for
    three more."""
    monkeypatch.setattr("commands.turns.PATIENT_PAUSE_MAX_S", 0.05)
    monkeypatch.setattr("commands.turns.PATIENT_PART", 1_000)
    medium.faults.hide_positions()
    async with writing(MemoryLog(medium), hand_over=None) as desk:
        talk = await desk.talk(ANN)
        release = medium.faults.hold_answer()
        answer = desk.submit(send(talk), patient=True)
        await idle()
        medium.faults.go_away()
        release.set()
        await asyncio.sleep(0.1)  # the outage
        medium.faults.heal()
        await answer
        async with asyncio.timeout(10):
            assert seqs([await desk.submit(send(talk), patient=True)]) == [3]


# Stop


async def test_a_stop_during_an_outage_refuses_what_surely_is_not_stored(medium: Medium) -> None:
    desk = Desk(MemoryLog(medium))
    run = asyncio.create_task(desk.writer.run())
    talk, doubtful = await desk.talk(ANN), await desk.talk(ANN)
    medium.faults.when(of(talk), Fate.REFUSED)
    medium.faults.when(of(doubtful), Fate.ANSWER_LOST)
    await_open = [desk.submit(send(talk)), desk.submit(send(doubtful))]
    await until(lambda: len(medium.streams[conversation_stream(doubtful)]) == 2)
    later = [desk.submit(send(talk)), desk.submit(send(doubtful))]
    desk.writer.stop()
    async with asyncio.timeout(10):
        await run
    assert [answer.result() for answer in (await_open[0], *later)] == [Refused(code="unavailable")] * 3
    # It is stored, so nobody may say that it is not; and nobody knows, so nobody may say that it is.
    assert not await_open[1].done()


async def test_a_stop_during_an_outage_doesn_t_wait_for_the_head(medium: Medium) -> None:
    medium.faults.hide_positions()
    desk = Desk(MemoryLog(medium), hand_over=None)
    run = asyncio.create_task(desk.writer.run())
    talk = await desk.talk(ANN)
    release = medium.faults.hold_answer()
    answer = desk.submit(send(talk))
    await idle()
    medium.faults.go_away()
    desk.writer.stop()
    release.set()
    async with asyncio.timeout(10):
        await run
    assert seqs([answer.result()]) == [2]


async def test_a_receipt_of_what_may_be_stored_waits_for_certainty(frail: Desk, medium: Medium) -> None:
    """I1: what an open append has stored is read and acknowledged before the writer knows of it; the receipt stands
    for it in the end."""
    talk = await frail.talk(ANN, BEN)
    medium.faults.when(of(talk), Fate.ANSWER_LOST, calls=3)
    answer = frail.submit(send(talk))
    await until(lambda: isinstance(frail.handed[-1].entry.e, MessageSent))
    assert not answer.done()
    await frail.accepted(advance(talk, BEN, delivered=2, read=2), turn=BEN)
    assert seqs([await answer]) == [2]
    [stored] = await read(frail.log, receipts_stream(talk))
    event = CODEC.decode(stored).entry.e
    assert isinstance(event, ReceiptsAdvanced)
    assert [(each.account, each.delivered, each.read) for each in event.receipts] == [(BEN, 2, 2)]
