"""Old command ids, found in the stream."""

import pytest

from commands.lookup import StreamLookup
from domain.ids import CommandId, ConversationId
from domain.recent import First
from tests.commands.helpers import ANN, BEN, Desk, Watched, new_id, send, start_group

ALL = 1_000


async def test_the_first_outcome_of_a_command(desk: Desk, log: Watched) -> None:
    talk = await desk.talk(ANN, BEN)
    command = send(talk, digest="abc")
    first = await desk.accepted(command)
    await desk.accepted(send(talk))
    found = await StreamLookup(log).find_command(talk, command.id, upto=ALL)
    assert found == First(seq=2, at=first.at, by=ANN, what="abc")


async def test_of_something_other_than_a_message_the_topic(desk: Desk, log: Watched) -> None:
    await desk.talk(ANN)
    start = start_group(ANN)
    await desk.accepted(start)
    found = await StreamLookup(log).find_command(start.conversation, start.id, upto=ALL)
    assert found is not None
    assert (found.seq, found.what) == (1, "ConversationStarted")


@pytest.mark.parametrize("page", [1, 3, 7, 100])
async def test_it_reads_to_the_end_of_the_stream(
    desk: Desk, log: Watched, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("commands.lookup._PAGE", page)
    talk = await desk.talk(ANN)
    commands = [send(talk) for _ in range(6)]
    await desk.all(*commands)
    lookup = StreamLookup(log)
    found = [await lookup.find_command(talk, command.id, upto=ALL) for command in commands]
    assert [first.seq for first in found if first] == [2, 3, 4, 5, 6, 7]
    assert await lookup.find_command(talk, new_id(), upto=ALL) is None
    for index, command in enumerate(commands):
        seq = index + 2
        assert await lookup.find_command(talk, command.id, upto=seq) == found[index]
        assert await lookup.find_command(talk, command.id, upto=seq, after=seq - 2) == found[index]
        assert await lookup.find_command(talk, command.id, upto=seq - 1) is None
        assert await lookup.find_command(talk, command.id, upto=seq, after=seq - 1) is None


async def test_nothing_where_there_is_no_such_id_conversation_or_only_elsewhere(desk: Desk, log: Watched) -> None:
    talk, other = await desk.talk(ANN), await desk.talk(ANN)
    command = send(talk)
    await desk.accepted(command)
    lookup = StreamLookup(log)
    assert await lookup.find_command(other, command.id, upto=ALL) is None
    assert await lookup.find_command(ConversationId("nowhere"), CommandId("x"), upto=ALL) is None
