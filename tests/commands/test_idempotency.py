"""I2: a command is stored once, however often it is sent, and always answered with its first outcome."""

from collections.abc import Callable
from typing import Any

import pytest

import domain.recent
from commands.lookup import StreamLookup
from commands.writer import Accepted, Command
from domain.account import ChangeProfile, LinkDevice, RevokeDevice
from domain.conversation import LeaveConversation, RemoveMember, RetractMessage, SetTitle
from domain.ids import CommandId, ConversationId, DeviceId
from domain.log import NO_STREAM, EventLog
from domain.recent import First
from tests.commands.helpers import (
    ANN,
    BEN,
    PHONE,
    TEXT,
    Desk,
    Watched,
    new_id,
    register,
    send,
    sent,
    start_group,
    whole,
    writing,
)

REMEMBERED = 4


@pytest.fixture
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversations know their last 4 to 8 commands only."""
    monkeypatch.setattr(domain.recent, "RECENT_MIN", REMEMBERED)


class CountedLookup(StreamLookup):
    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.asked: list[CommandId] = []

    async def find_command(
        self, conversation: ConversationId, command_id: CommandId, *, upto: int, after: int = NO_STREAM
    ) -> First | None:
        self.asked.append(command_id)
        return await super().find_command(conversation, command_id, upto=upto, after=after)


async def test_repeated_in_the_same_batch(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    command = send(talk)
    first, _, *repeats = await desk.all(command, send(talk, BEN), command, command)
    assert first == Accepted(seq=2, at=desk.clock.now, position=await log.head())
    assert repeats == [first, first]
    assert (await sent(log, talk)).count(command.id) == 1


async def test_repeated_later_over_another_connection(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    command = send(talk)
    first = await desk.accepted(command, turn="one")
    for _ in range(3):
        desk.clock.now += 1_000
        await desk.accepted(send(talk, BEN))
        again = await desk.accepted(command, turn="other")
        assert (again.seq, again.at, again.position) == (first.seq, first.at, await log.head())
    assert (await sent(log, talk)).count(command.id) == 1


async def test_repeated_after_a_restart(opener: Callable[[], EventLog]) -> None:
    log = opener()
    async with writing(log) as desk:
        talk = await desk.talk(ANN, BEN)
        command = send(talk)
        first = await desk.accepted(command)
        await desk.accepted(send(talk))
    await log.close()
    log = opener()
    async with writing(log) as desk:
        again = await desk.accepted(command)
        assert (again.seq, again.at, again.position) == (first.seq, first.at, await log.head())
        assert (await sent(log, talk)).count(command.id) == 1
    await log.close()


@pytest.mark.parametrize("later", range(1, 4 * REMEMBERED))
async def test_repeated_beyond_what_the_state_remembers(
    desk: Desk, log: Watched, short_memory: None, later: int
) -> None:
    talk = await desk.talk(ANN, BEN)
    command = send(talk, after=1)
    first = await desk.accepted(command)
    await desk.all(*[send(talk, BEN) for _ in range(later)])
    again = await desk.accepted(command)
    assert (again.seq, again.at) == (first.seq, first.at)
    assert (await sent(log, talk)).count(command.id) == 1


async def test_repeated_beyond_the_real_window(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    command = send(talk, after=1)
    first = await desk.accepted(command)
    await desk.all(*[send(talk, BEN) for _ in range(2 * domain.recent.RECENT_MIN + 10)])
    assert (await desk.accepted(command)).seq == first.seq
    assert await desk.refused(send(talk, BEN, id=command.id)) == "id_taken"
    assert (await sent(log, talk)).count(command.id) == 1


async def test_only_ids_from_before_the_window_are_looked_up(log: Watched, short_memory: None) -> None:
    lookup = CountedLookup(log)
    async with writing(log, lookup=lookup) as desk:
        talk = await desk.talk(ANN, BEN)
        head = 1
        for _ in range(40):
            head = (await desk.accepted(send(talk, after=head))).seq
        assert lookup.asked == []
        late = send(talk, after=1)
        assert (await desk.accepted(late)).seq == head + 1
        await desk.accepted(late)
        assert lookup.asked == [late.id]


async def test_a_taken_id_is_refused_whoever_comes_with_it(desk: Desk, log: Watched, short_memory: None) -> None:
    talk = await desk.talk(ANN, BEN)
    command = send(talk)
    await desk.accepted(command)
    others: list[Command] = [
        send(talk, BEN, id=command.id),
        send(talk, id=command.id, digest="another"),
        SetTitle(id=command.id, conversation=talk, by=ANN, device=PHONE, after=1, title=TEXT),
    ]
    for later in (0, 30):
        await desk.all(*[send(talk) for _ in range(later)])
        before = await log.head()
        assert [await desk.refused(other) for other in others] == ["id_taken"] * 3
        assert await log.head() == before


async def test_the_first_outcome_is_given_to_who_was_removed_since(
    desk: Desk, log: Watched, short_memory: None
) -> None:
    talk = await desk.talk(ANN, BEN)
    command = send(talk, BEN)
    first = await desk.accepted(command)
    await desk.accepted(RemoveMember(id=new_id(), conversation=talk, by=ANN, device=PHONE, after=1, account=BEN))
    for later in (0, 30):
        await desk.all(*[send(talk) for _ in range(later)])
        assert (await desk.accepted(command)).seq == first.seq
        assert await desk.refused(send(talk, BEN)) == "not_a_member"


async def test_the_first_outcome_is_given_to_a_revoked_device(desk: Desk) -> None:
    talk = await desk.talk(ANN)
    command = send(talk)
    first = await desk.accepted(command)
    await desk.accepted(RevokeDevice(id=new_id(), account=ANN, by=PHONE, device=PHONE))
    assert (await desk.accepted(command)).seq == first.seq
    assert await desk.refused(send(talk)) == "device_revoked"


@pytest.mark.parametrize(
    "make",
    [
        lambda talk: SetTitle(id=new_id(), conversation=talk, by=ANN, device=PHONE, after=2, title=TEXT),
        lambda talk: RetractMessage(id=new_id(), conversation=talk, by=ANN, device=PHONE, after=2, target=2),
        lambda talk: LeaveConversation(id=new_id(), conversation=talk, by=BEN, device=PHONE, after=2),
        lambda talk: RemoveMember(id=new_id(), conversation=talk, by=ANN, device=PHONE, after=2, account=BEN),
    ],
    ids=["title", "retract", "leave", "remove"],
)
async def test_not_only_messages(
    desk: Desk, log: Watched, short_memory: None, make: Callable[[ConversationId], Any]
) -> None:
    talk = await desk.talk(ANN, BEN)
    await desk.accepted(send(talk))
    command = make(talk)
    first = await desk.accepted(command)
    for later in (0, 30):
        await desk.all(*[send(talk) for _ in range(later)])
        again = await desk.accepted(command)
        assert (again.seq, again.at) == (first.seq, first.at)
    assert len([event for event in await whole(log) if event.entry.cmd == command.id]) == 1


async def test_a_group_is_started_once(desk: Desk, log: Watched, short_memory: None) -> None:
    await desk.all(register(ANN), register(BEN))
    start = start_group(ANN, BEN)
    first = await desk.accepted(start)
    for later in (0, 30):
        await desk.all(*[send(start.conversation) for _ in range(later)])
        again = await desk.accepted(start)
        assert (again.seq, again.at, again.position) == (1, first.at, await log.head())


async def test_commands_of_accounts(desk: Desk, log: Watched) -> None:
    commands: list[Command] = [
        register(ANN),
        LinkDevice(id=new_id(), account=ANN, by=PHONE, device=DeviceId("tablet"), key="t", signature="s"),
        ChangeProfile(id=new_id(), account=ANN, by=PHONE, name=TEXT),
        RevokeDevice(id=new_id(), account=ANN, by=PHONE, device=DeviceId("other")),
    ]
    for command in commands[:3]:
        await desk.accepted(command)
        before = await log.head()
        await desk.accepted(command)
        assert await log.head() == before
    assert await desk.refused(commands[3]) == "no_such_device"
