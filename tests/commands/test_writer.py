"""The way of a command through the writer, where the store does as it should."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from commands.stores.faults import Fate
from commands.stores.memory import Medium
from commands.writer import Accepted, Command, Refused, Reply
from domain.account import ChangeProfile, LinkDevice, RevokeDevice
from domain.conversation import (
    AddMembers,
    ChangeRole,
    LeaveConversation,
    RemoveMember,
    RetractMessage,
    SetTitle,
    StartConversation,
)
from domain.ids import AccountId, ConversationId, DeviceId, account_stream, conversation_stream, receipts_stream
from domain.log import Append, EventLog, Outcome
from tests.commands.helpers import (
    ANN,
    BEN,
    CAT,
    PHONE,
    TEXT,
    Desk,
    Passing,
    Watched,
    advance,
    entries,
    idle,
    new_id,
    register,
    send,
    sent,
    seqs,
    start_group,
    until,
    whole,
    writing,
)

# Each command


def by_ann(command: type[Any], conversation: ConversationId, **fields: Any) -> Any:
    return command(id=new_id(), conversation=conversation, by=ANN, device=PHONE, after=1, **fields)


IN_A_GROUP: dict[str, Callable[[ConversationId], Command]] = {
    "send": send,
    "title": lambda talk: by_ann(SetTitle, talk, title=TEXT),
    "add": lambda talk: by_ann(AddMembers, talk, accounts=[CAT]),
    "role": lambda talk: by_ann(ChangeRole, talk, account=BEN, role="owner"),
    "remove": lambda talk: by_ann(RemoveMember, talk, account=BEN),
    "retract": lambda talk: by_ann(RetractMessage, talk, target=2),
    "leave": lambda talk: LeaveConversation(id=new_id(), conversation=talk, by=BEN, device=PHONE, after=1),
}


@pytest.mark.parametrize("command", IN_A_GROUP.values(), ids=IN_A_GROUP)
async def test_a_command_of_a_conversation_is_stored_and_answered(
    desk: Desk, log: Watched, command: Callable[[ConversationId], Command]
) -> None:
    await desk.accepted(register(CAT))
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(send(talk))
    desk.clock.now += 50
    made = command(talk)
    reply = await desk.accepted(made)
    last = (await entries(log, talk))[-1]
    assert reply == Accepted(seq=3, at=desk.clock.now, position=last.position)
    assert (last.version, last.entry.cmd, last.entry.at) == (2, made.id, desk.clock.now)


async def test_a_direct_conversation_is_started(desk: Desk, log: Watched) -> None:
    await desk.all(register(ANN), register(BEN))
    talk = ConversationId("direct")
    start = StartConversation(
        id=new_id(), conversation=talk, by=ANN, device=PHONE, kind="direct", protection="none", others=[BEN],
        members_max=2,
    )  # fmt: skip
    reply = await desk.accepted(start)
    assert (reply.seq, reply.position) == (1, await log.head())


async def test_the_commands_of_an_account_are_stored_in_its_stream(desk: Desk, log: Watched) -> None:
    tablet = DeviceId("tablet")
    link = LinkDevice(id=new_id(), account=ANN, by=PHONE, device=tablet, key="t", signature="s")
    replies = [
        await desk.accepted(register(ANN)),
        await desk.accepted(link),
        await desk.accepted(ChangeProfile(id=new_id(), account=ANN, by=PHONE, name=TEXT)),
        await desk.accepted(RevokeDevice(id=new_id(), account=ANN, by=PHONE, device=tablet)),
    ]
    # A registration makes two events, and is answered with the first one's seq.
    assert seqs(replies) == [1, 3, 4, 5]
    assert len(await log.read_stream(account_stream(ANN), limit=10)) == 5
    assert await desk.refused(link) == "device_exists"


async def test_receipts_go_into_a_stream_of_their_own(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(send(talk))
    reply = await desk.accepted(advance(talk, BEN, delivered=2))
    assert (reply.seq, reply.position) == (1, await log.head())
    assert len(await log.read_stream(receipts_stream(talk), limit=10)) == 1


async def test_what_changes_nothing_is_accepted_with_the_last_seq(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(send(talk))
    before = await log.head()
    assert await desk.accepted(advance(talk, BEN)) == Accepted(seq=0, at=0, position=before)
    assert await log.head() == before


async def test_a_refusal_carries_the_code_of_the_rule_and_stores_nothing(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN)
    await desk.accepted(register(BEN))
    before = await log.head()
    assert await desk.refused(send(talk, BEN)) == "no_such_conversation"
    assert await desk.refused(send(talk, after=9)) == "beyond_head"
    assert await desk.refused(send(talk, device=DeviceId("other"))) == "device_revoked"
    assert await desk.refused(start_group(ANN, CAT)) == "no_such_account"
    assert await log.head() == before


async def test_execute_waits_for_the_answer(desk: Desk) -> None:
    assert isinstance(await desk.writer.execute(register(ANN), turn="peer"), Accepted)


async def test_who_gives_up_waiting_harms_nobody(desk: Desk) -> None:
    waiting = asyncio.create_task(desk.writer.execute(register(ANN), turn="peer"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await desk.accepted(register(BEN))


async def test_an_importer_may_say_when_it_happened(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    answered = asyncio.get_running_loop().create_future()
    desk.writer.submit(send(talk), turn="importer", reply=answered.set_result, occurred_at=17)
    await desk.accepted(send(talk))
    await answered
    assert [event.entry.occ for event in await entries(log, talk)] == [None, 17, None]


# Batches


async def test_commands_of_one_conversation_chain_within_one_append(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    log.batches.clear()
    commands = [send(talk, by) for by in (ANN, BEN) * 20]
    assert seqs(await desk.all(*commands)) == list(range(2, 42))
    [[append]] = log.batches
    assert (append.expected, len(append.events)) == (0, 40)
    assert await sent(log, talk) == [command.id for command in commands]


async def test_streams_of_one_batch_go_to_the_store_in_one_call(desk: Desk, log: Watched) -> None:
    talks = [await desk.talk(ANN, BEN) for _ in range(10)]
    log.batches.clear()
    assert seqs(await desk.all(*[send(talk) for talk in talks])) == [2] * 10
    [batch] = log.batches
    assert [append.stream for append in batch] == [conversation_stream(talk) for talk in talks]


async def test_a_batch_has_a_bound(log: Watched) -> None:
    async with writing(log, batch_max=16) as desk:
        talk = await desk.talk(ANN)
        log.batches.clear()
        await desk.all(*[send(talk) for _ in range(40)])
        assert [len(batch[0].events) for batch in log.batches] == [16, 16, 8]


async def test_a_batch_is_smaller_where_many_hear_of_it(log: Watched) -> None:
    """I11: pushes to a large group hold the loop; who waits behind it keeps its place and its order."""
    async with writing(log, hearers_max=20) as desk:
        crowd = await desk.talk(*[AccountId(f"member {number}") for number in range(9)])
        pair = await desk.talk(ANN, BEN)
        log.batches.clear()
        loud = [desk.submit(send(crowd, AccountId("member 0")), "loud") for _ in range(8)]
        quiet = [desk.submit(send(pair), "quiet") for _ in range(3)]
        assert seqs(await asyncio.gather(*loud)) == list(range(2, 10))
        assert seqs(await asyncio.gather(*quiet)) == [2, 3, 4]
        sizes = [{append.stream: len(append.events) for append in batch} for batch in log.batches]
        loudly, quietly = conversation_stream(crowd), conversation_stream(pair)
        assert sizes[0] == {loudly: 2, quietly: 1}
        assert all(size.get(loudly, 0) <= 3 for size in sizes)


async def test_an_append_has_a_bound_in_bytes(log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """KurrentDB takes no more at once."""
    monkeypatch.setattr("commands.writer.APPEND_BYTES_MAX", 2_000)
    async with writing(log) as desk:
        talk = await desk.talk(ANN)
        log.batches.clear()
        await desk.all(*[send(talk) for _ in range(40)])
        sizes = [sum(len(event.data) for event in batch[0].events) for batch in log.batches]
        assert all(size >= 2_000 for size in sizes[:-1])
        assert max(sizes) < 4_000


async def test_a_decision_may_rest_on_what_is_tentative_in_its_own_stream(desk: Desk, log: Watched) -> None:
    await desk.all(register(ANN), register(BEN))
    start = start_group(ANN, BEN)
    log.batches.clear()
    remove = by_ann(RemoveMember, start.conversation, account=BEN)
    replies = await desk.all(start, send(start.conversation, BEN), remove, send(start.conversation, BEN))
    assert seqs(replies[:3]) == [1, 2, 3]
    assert replies[3] == Refused(code="not_a_member")
    assert len(log.batches) == 1


async def test_a_decision_never_rests_on_what_is_tentative_in_another_stream(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN)
    tablet = DeviceId("tablet")
    link = LinkDevice(id=new_id(), account=ANN, by=PHONE, device=tablet, key="t", signature="s")
    revoke = RevokeDevice(id=new_id(), account=ANN, by=PHONE, device=PHONE)
    replies = await desk.all(
        link, revoke, register(CAT), send(talk), send(talk, device=tablet), by_ann(AddMembers, talk, accounts=[CAT])
    )
    assert seqs(replies[:4]) == [3, 4, 1, 2]
    assert replies[4:] == [Refused(code="device_revoked"), Refused(code="no_such_account")]
    [_, message] = await entries(log, talk)
    assert message.entry.e.account == 1  # type: ignore[union-attr]
    # Once it is committed it counts.
    assert await desk.refused(send(talk)) == "device_revoked"
    await desk.accepted(send(talk, device=tablet))


async def test_a_receipt_rests_on_committed_messages_only(desk: Desk) -> None:
    talk = await desk.talk(ANN, BEN)
    [message, early] = await desk.all(send(talk), advance(talk, BEN, delivered=2))
    assert seqs([message, early]) == [2, 0]
    assert seqs([await desk.do(advance(talk, BEN, delivered=2))]) == [1]


async def test_events_are_handed_over_once_in_order_of_position(desk: Desk, log: Watched) -> None:
    talks = [await desk.talk(ANN, BEN) for _ in range(5)]
    await desk.all(*[send(talk) for talk in talks * 10], advance(talks[0], BEN, delivered=1))
    everything = await whole(log)
    await until(lambda: len(desk.handed) >= len(everything))
    assert desk.handed == everything


class Backwards(Passing):
    """A log that stores the last stream of a batch first."""

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        return (await super().append(batch[::-1]))[::-1]


async def test_the_order_of_position_is_the_store_s_not_the_batch_s(log: Watched) -> None:
    async with writing(Backwards(log)) as desk:
        talks = [await desk.talk(ANN, BEN) for _ in range(3)]
        await desk.all(*[send(talk) for talk in talks])
        everything = await whole(log)
        await until(lambda: len(desk.handed) >= len(everything))
        assert desk.handed == everything


async def test_where_nobody_takes_the_events_the_writer_answers_all_the_same(log: Watched) -> None:
    async with writing(log, hand_over=None) as desk:
        await desk.talk(ANN, BEN)


# The answer


async def test_no_answer_before_the_commit(frail: Desk, medium: Medium) -> None:
    """I1: accepted is said only after the event is stored."""
    talk = await frail.talk(ANN)
    stored = medium.faults.hold_append()
    answer = frail.submit(send(talk))
    await idle()
    assert not answer.done()
    assert await sent(frail.log, talk) == []
    stored.set()
    assert seqs([await answer]) == [2]


async def test_a_late_answer_of_the_store_is_waited_for(frail: Desk, medium: Medium) -> None:
    """I1"""
    talk = await frail.talk(ANN)
    answered = medium.faults.hold_answer()
    command = send(talk)
    answer = frail.submit(command)
    await idle()
    assert await sent(frail.log, talk) == [command.id]
    assert not answer.done()
    answered.set()
    assert seqs([await answer]) == [2]


async def test_what_rests_on_something_tentative_waits_for_the_commit_too(frail: Desk, medium: Medium) -> None:
    talk = await frail.talk(ANN, BEN)
    stored = medium.faults.hold_append()
    remove = by_ann(RemoveMember, talk, account=BEN)
    waiting = [frail.submit(command) for command in (remove, send(talk, BEN), remove)]
    elsewhere = frail.submit(send(ConversationId("nowhere")))
    assert await elsewhere == Refused(code="no_such_conversation")
    await idle()
    assert not any(answer.done() for answer in waiting)
    stored.set()
    removed, refused, repeated = [await answer for answer in waiting]
    assert (refused, repeated) == (Refused(code="not_a_member"), removed)


async def test_an_answer_that_raises_harms_nobody(desk: Desk, log: Watched, caplog: pytest.LogCaptureFixture) -> None:
    talk = await desk.talk(ANN)

    def fail(_: Reply) -> None:
        raise RuntimeError("the peer is gone")

    first = desk.submit(send(talk))
    desk.writer.submit(send(talk), turn="peer", reply=fail)
    desk.writer.submit(send(talk, CAT), turn="peer", reply=fail)
    last = desk.submit(send(talk))
    with caplog.at_level(logging.CRITICAL, "signet.writer"):
        assert seqs([await first, await last]) == [2, 4]
    assert seqs([await desk.do(send(talk))]) == [5]


async def test_a_command_submitted_from_an_answer_is_taken(desk: Desk) -> None:
    talk = await desk.talk(ANN)
    last = asyncio.get_running_loop().create_future()

    def again(_: Reply) -> None:
        desk.writer.submit(send(talk), turn="peer", reply=last.set_result)

    desk.writer.submit(send(talk), turn="peer", reply=again)
    async with asyncio.timeout(10):
        assert seqs([await last]) == [3]


async def test_the_time_of_a_stream_never_goes_back(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN)
    times = [desk.clock.now]
    for step in (100, -5_000, 10, 6_000):
        desk.clock.now += step
        times.append((await desk.accepted(send(talk))).at)
    assert times == [1_000_000, 1_000_100, 1_000_100, 1_000_100, 1_001_110]
    assert [event.entry.at for event in await entries(log, talk)] == times


async def test_the_time_of_a_stream_never_goes_back_after_a_restart(opener: Callable[[], EventLog]) -> None:
    log = opener()
    async with writing(log) as desk:
        desk.clock.now = 9_000_000
        talk = await desk.talk(ANN)
    async with writing(log) as desk:
        assert (await desk.accepted(send(talk))).at == 9_000_000
    await log.close()


# Queue and turns


async def test_beyond_the_bound_commands_are_refused_busy(log: Watched) -> None:
    """I11: the queue is bounded, and says so."""
    async with writing(log, waiting_max=10) as desk:
        talk = await desk.talk(ANN)
        replies = await desk.all(*[send(talk) for _ in range(15)])
        assert seqs(replies[:10]) == list(range(2, 12))
        assert replies[10:] == [Refused(code="busy")] * 5
        # There is room again.
        assert seqs(await desk.all(*[send(talk) for _ in range(10)])) == list(range(12, 22))


async def test_what_waits_behind_an_open_append_counts_too(medium: Medium, frail: Desk) -> None:
    """I11"""
    log = frail.log
    async with writing(log, waiting_max=10) as desk:
        talk = await desk.talk(ANN)
        other = await desk.talk(ANN)
        medium.faults.when(lambda append: append.stream == conversation_stream(talk), Fate.REQUEST_LOST)
        waiting = []
        for _ in range(10):
            waiting.append(desk.submit(send(talk)))
            await asyncio.sleep(0)
        assert await desk.refused(send(other)) == "busy"
        medium.faults.heal()
        assert seqs(await asyncio.gather(*waiting)) == list(range(2, 12))
        await desk.accepted(send(other))


async def test_a_busy_peer_delays_others_by_one_batch_at_most(log: Watched) -> None:
    """I11: peers are served turn by turn."""
    async with writing(log, batch_max=64) as desk:
        talk, other = await desk.talk(ANN), await desk.talk(BEN)
        log.batches.clear()
        flood = [desk.submit(send(talk), turn="flood") for _ in range(1_000)]
        single = desk.submit(send(other, BEN), turn="single")
        assert seqs([await single]) == [2]
        assert len(log.batches) == 1
        await asyncio.gather(*flood)
        assert len(log.batches) == 16


async def test_patient_commands_leave_others_most_of_the_time(log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: while a flood's append runs nobody else's can; so it pauses in between."""
    monkeypatch.setattr("commands.turns.PATIENT_PART", 21)
    async with writing(log, batch_max=4) as desk:
        talk, other = await desk.talk(ANN), await desk.talk(BEN)
        log.batches.clear()
        log.before = partial(asyncio.sleep, 0.1)  # the first append takes so long
        flood = [desk.submit(send(talk), turn="flood", patient=True) for _ in range(8)]
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(3):
            await desk.accepted(send(other, BEN), turn="single")
        assert not any(each.done() for each in flood[4:])
        assert seqs(await asyncio.gather(*flood)) == list(range(2, 10))
        assert [len(batch[0].events) for batch in log.batches] == [4, 1, 1, 1, 4]


async def test_patient_commands_are_answered_before_it_stops(log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """And without a pause."""
    monkeypatch.setattr("commands.turns.PATIENT_PAUSE_S", 60)
    monkeypatch.setattr("commands.turns.PATIENT_PAUSE_MAX_S", 60)
    async with asyncio.timeout(30), writing(log, batch_max=4) as desk:
        talk = await desk.talk(ANN)
        flood = [desk.submit(send(talk), patient=True) for _ in range(12)]
        await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
    assert all(isinstance(each.result(), Accepted) for each in flood)


async def test_the_order_of_each_peer_holds(desk: Desk, log: Watched) -> None:
    """I3"""
    talk = await desk.talk(ANN, BEN)
    by = {ANN: [send(talk, ANN) for _ in range(300)], BEN: [send(talk, BEN) for _ in range(200)]}
    answers = [
        desk.submit(command, turn=command.by) for pair in itertools.zip_longest(*by.values()) for command in pair
        if command
    ]  # fmt: skip
    await asyncio.gather(*answers)
    stored = await sent(log, talk)
    for commands in by.values():
        ids = [command.id for command in commands]
        assert [stored_id for stored_id in stored if stored_id in set(ids)] == ids


# Stop and start


async def test_a_stop_answers_what_is_queued_and_refuses_what_comes_later(log: Watched) -> None:
    desk = Desk(log, batch_max=8)
    run = asyncio.create_task(desk.writer.run())
    talk = await desk.talk(ANN)
    queued = [desk.submit(send(talk)) for _ in range(40)]
    desk.writer.stop()
    late = desk.submit(send(talk))
    async with asyncio.timeout(10):
        await run
    assert seqs([await answer for answer in queued]) == list(range(2, 42))
    assert await late == Refused(code="unavailable")
    assert await desk.refused(send(talk)) == "unavailable"


async def test_an_idle_writer_stops(log: Watched) -> None:
    desk = Desk(log)
    run = asyncio.create_task(desk.writer.run())
    await desk.accepted(register(ANN))
    desk.writer.stop()
    async with asyncio.timeout(10):
        await run


async def test_what_was_submitted_before_the_start_is_taken(log: Watched) -> None:
    desk = Desk(log)
    answer = desk.submit(register(ANN))
    run = asyncio.create_task(desk.writer.run())
    assert seqs([await answer]) == [1]
    desk.writer.stop()
    await run


async def test_after_a_restart_the_streams_go_on(opener: Callable[[], EventLog]) -> None:
    """I3"""
    log = opener()
    async with writing(log) as desk:
        talk = await desk.talk(ANN, BEN)
        await desk.accepted(send(talk))
        await desk.accepted(advance(talk, BEN, delivered=2))
    await log.close()
    log = opener()
    async with writing(log) as desk:
        assert seqs(await desk.all(send(talk), advance(talk, BEN, delivered=1))) == [3, 1]
        assert seqs([await desk.do(advance(talk, BEN, delivered=3))]) == [2]
        await desk.accepted(register(CAT))
        assert await desk.refused(send(talk, CAT)) == "no_such_conversation"
    await log.close()


async def test_states_that_are_not_kept_are_read_again(log: Watched) -> None:
    async with writing(log, slots_max=3) as desk:
        accounts = [AccountId(f"a{number}") for number in range(6)]
        talks = [await desk.talk(account) for account in accounts]
        for seq in (2, 3, 4):
            for talk, account in zip(talks, accounts, strict=True):
                assert (await desk.accepted(send(talk, account))).seq == seq
