"""Two writers on one store, and bugs: what happens to one command or stream harms no other."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from commands.writer import Refused
from domain import conversation
from domain.codec import CODEC, Codec
from domain.conversation import RemoveMember
from domain.entry import Entry, Sealed
from domain.ids import ConversationId, conversation_stream
from domain.log import Append, EventLog, NewEvent, Outcome
from tests.commands.helpers import (
    ANN,
    BEN,
    CAT,
    PHONE,
    Desk,
    Passing,
    Watched,
    entries,
    new_id,
    register,
    send,
    sent,
    seqs,
    until,
    whole,
    writing,
)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.CRITICAL, "signet.writer")
    return caplog


# Conflicts


async def test_a_conflict_in_one_stream_is_decided_anew_and_the_others_go_on(desk: Desk, log: Watched) -> None:
    """I3"""
    talks = [await desk.talk(ANN, BEN) for _ in range(5)]
    disputed = talks[2]
    async with writing(log, hand_over=None) as other:
        log.before = lambda: other.accepted(send(disputed, BEN))
        log.batches.clear()
        replies = await desk.all(*[send(talk) for talk in talks])
        assert seqs(replies) == [2, 2, 3, 2, 2]
        mine, _, again = log.batches
        assert len(mine) == 5
        assert [append.stream for append in again] == [conversation_stream(disputed)]
        # The second try is another decision, with events of its own.
        assert again[0].events[0].id != mine[2].events[0].id


async def test_refusals_and_repeats_are_decided_anew_after_a_conflict(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    remove = RemoveMember(id=new_id(), conversation=talk, by=ANN, device=PHONE, after=1, account=BEN)
    async with writing(log, hand_over=None) as other:
        log.before = lambda: other.accepted(remove)
        replies = await desk.all(send(talk), remove, send(talk, BEN), remove)
        # The other writer's removal is the first outcome now, and comes before our message.
        assert seqs([replies[0], replies[1], replies[3]]) == [3, 2, 2]
        assert replies[2] == Refused(code="not_a_member")


async def test_what_another_writer_recorded_is_behind_the_position_of_an_answer(desk: Desk, log: Watched) -> None:
    async with writing(log, hand_over=None) as other:
        talk = await other.talk(ANN, BEN)
        command = send(talk)
        first = await other.accepted(command)
        assert await desk.accepted(command) == first


async def test_two_writers_race_on_one_conversation(log: Watched) -> None:
    """I2, I3: all are accepted once, without gaps, and each peer's in order."""
    # A disk that is slow just now lets one of them always come too late, until the other one is done.
    options: dict[str, Any] = {"hand_over": None, "batch_max": 8, "conflict_tries_max": 1_000}
    async with writing(log, **options) as one, writing(log, **options) as two:
        talk = await one.talk(ANN, BEN)
        await two.accepted(send(talk, BEN))
        mine, theirs = ([send(talk, by) for _ in range(200)] for by in (ANN, BEN))
        replies = await asyncio.gather(
            *[one.submit(command, turn=number % 3) for number, command in enumerate(mine)],
            *[two.submit(command, turn=number % 3) for number, command in enumerate(theirs)],
        )
        stored = await sent(log, talk)
    assert sorted(seqs(replies)) == list(range(3, 403))
    assert [stored[seq - 2] for seq in seqs(replies)] == [command.id for command in mine + theirs]
    for answers in (seqs(replies[:200]), seqs(replies[200:])):
        for peer in range(3):
            assert answers[peer::3] == sorted(answers[peer::3])


async def test_the_order_of_a_peer_holds_through_conflicts(desk: Desk, log: Watched) -> None:
    """I3"""
    talk = await desk.talk(ANN, BEN)
    async with writing(log.inner, hand_over=None) as other:
        mine = [send(talk) for _ in range(600)]
        answers = [desk.submit(command, turn=number % 2) for number, command in enumerate(mine)]
        for _ in range(5):
            log.before = partial(other.accepted, send(talk, BEN))
            await until(lambda: log.before is None)
        await asyncio.gather(*answers)
        stored = await sent(log, talk)
        for peer in range(2):
            ids = [command.id for command in mine[peer::2]]
            assert [command_id for command_id in stored if command_id in set(ids)] == ids


class Contested(Passing):
    """A log on which another writer is always faster, in one stream."""

    def __init__(self, inner: EventLog, other: Desk, conversation: ConversationId) -> None:
        super().__init__(inner)
        self._other = other
        self._conversation = conversation

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        if any(append.stream == conversation_stream(self._conversation) for append in batch):
            await self._other.accepted(send(self._conversation, BEN))
        return await super().append(batch)


async def test_after_too_many_conflicts_a_command_is_refused_busy(log: Watched) -> None:
    async with writing(log, hand_over=None) as other:
        talk, calm = await other.talk(ANN, BEN), await other.talk(ANN)
        contested = Contested(log, other, talk)
        async with writing(contested, hand_over=None, conflict_tries_max=3) as desk:
            replies = await desk.all(send(talk), send(talk), send(calm))
            assert replies[:2] == [Refused(code="busy")] * 2
            assert seqs(replies[2:]) == [2]
        assert len(await sent(log, talk)) == 4


# Bugs


class Trap(bytes):
    """What PyNaCl returns: a subclass of bytes, which the codec can't encode."""


async def test_a_command_that_can_t_be_encoded_is_refused_alone(
    desk: Desk, log: Watched, quiet: pytest.LogCaptureFixture
) -> None:
    talk, other = await desk.talk(ANN, BEN), await desk.talk(ANN)
    trap = send(talk, body=Sealed(key="k", box=Trap(b"sealed")))
    good = [send(talk), send(talk, BEN), send(talk)]
    replies = await desk.all(good[0], trap, good[1], send(other), good[2])
    assert replies[1] == Refused(code="failed")
    assert seqs([*replies[:1], *replies[2:3], replies[4]]) == [2, 3, 4]
    assert seqs([replies[3]]) == [2]
    assert await sent(log, talk) == [command.id for command in good]
    ordinals = [event.entry.e.ordinal for event in (await entries(log, talk))[1:]]  # type: ignore[union-attr]
    assert ordinals == [1, 2, 3]
    assert seqs(await desk.all(send(talk))) == [5]


async def test_several_bugs_in_one_batch_are_refused_one_by_one(
    desk: Desk, log: Watched, quiet: pytest.LogCaptureFixture
) -> None:
    talk = await desk.talk(ANN, BEN)
    commands = [send(talk, body=Sealed(key="k", box=Trap(b"x") if n % 3 else b"x")) for n in range(30)]
    replies = await desk.all(*commands)
    assert seqs(replies[::3]) == list(range(2, 12))
    assert {reply for n, reply in enumerate(replies) if n % 3} == {Refused(code="failed")}
    assert await sent(log, talk) == [command.id for command in commands[::3]]


async def test_a_bug_in_a_decision_refuses_that_command_alone(
    desk: Desk, log: Watched, monkeypatch: pytest.MonkeyPatch, quiet: pytest.LogCaptureFixture
) -> None:
    talk = await desk.talk(ANN, BEN)
    decide = conversation.decide
    bad = send(talk)

    def buggy(state: Any, command: Any, known: Any) -> Any:
        if command is bad:
            raise ZeroDivisionError
        return decide(state, command, known)

    monkeypatch.setattr(conversation, "decide", buggy)
    replies = await desk.all(send(talk), bad, send(talk))
    assert replies[1] == Refused(code="failed")
    assert seqs(replies[::2]) == [2, 3]


class HalfBrokenCodec(Codec):
    """Fails at the second event of a registration."""

    def encode(self, entry: Entry[Any]) -> NewEvent:
        if type(entry.e).__name__ == "DeviceLinked":
            raise RuntimeError("a bug")
        return super().encode(entry)


async def test_a_command_of_several_events_is_stored_whole_or_not(
    log: Watched, quiet: pytest.LogCaptureFixture
) -> None:
    async with writing(log, codec=HalfBrokenCodec()) as desk:
        assert await desk.refused(register(CAT)) == "failed"
    assert await whole(log) == []
    async with writing(log, codec=CODEC) as desk:
        assert seqs([await desk.do(register(CAT))]) == [1]


async def test_an_event_of_a_newer_release_refuses_its_stream_alone(
    desk: Desk, log: Watched, quiet: pytest.LogCaptureFixture
) -> None:
    talk = await desk.talk(ANN)
    future = NewEvent(id=new_id(), topic="FromTheFuture", data=b"{}")
    await log.append([Append(stream="conversation-new", expected=-1, events=[future])])
    assert await desk.refused(send(ConversationId("new"))) == "failed"
    await desk.accepted(send(talk))


class Raising(Watched):
    """An adapter with a bug: once it raises, after it has stored."""

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        outcomes = await super().append(batch)
        if len(self.batches) == 3:
            raise RuntimeError("a bug of the adapter")
        return outcomes


async def test_an_append_that_raises_is_settled_as_unknown(
    log: Watched, quick_retries: None, quiet: pytest.LogCaptureFixture
) -> None:
    """I2"""
    async with writing(Raising(log)) as desk:
        talk = await desk.talk(ANN)  # the second append
        assert seqs(await desk.all(*[send(talk) for _ in range(3)])) == [2, 3, 4]
    assert len(await sent(log, talk)) == 3
