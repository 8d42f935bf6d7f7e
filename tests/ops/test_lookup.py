"""The writer's look-up of old command ids: by the read model, and by the stream where that can't vouch for it (I2)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import ops.lookup
from commands.lookup import StreamLookup
from commands.stores.memory import Medium, MemoryLog
from domain.ids import AccountId, CommandId, ConversationId, conversation_stream
from domain.log import NO_STREAM
from domain.recent import First
from ops.lookup import ReadModelLookup
from projections.database import Database
from projections.feed import Feed
from projections.messages import Messages
from projections.parking import failed
from projections.runner import Runner
from tests.projections.histories import History, must, record

TIMEOUT_S = 20


class Noted(StreamLookup):
    """The stream, and after which versions it was read."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(log)
        self.asked: list[int] = []

    async def find_command(
        self, conversation: ConversationId, command_id: CommandId, *, after: int = NO_STREAM
    ) -> First | None:
        self.asked.append(after)
        return await super().find_command(conversation, command_id, after=after)


class Scene:
    def __init__(self) -> None:
        self.history = History()
        ann = self.history.register("ann")
        self.talk = self.history.group(ann, self.history.register("ben"))
        self.other = self.history.group(ann, AccountId(next(iter(self.history.accounts))))
        self.history.send(self.talk, ann)
        self.id = CommandId(must(self.history.send(self.talk, ann)).entry.cmd)

    async def begin(self) -> None:
        self.log = MemoryLog(Medium())
        self.events = await record(self.log, self.history.events)
        self.feed = Feed(self.log)
        await self.feed.start()
        self.model = Messages(Database(":memory:"))
        self.runner = Runner(self.feed, self.model)
        self.stream = Noted(self.log)
        self.lookup = ReadModelLookup(self.feed, self.runner, self.model, self.stream)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner.run())
        await asyncio.wait_for(self.runner.wait(self.feed.head), TIMEOUT_S)
        yield
        task.cancel()
        await asyncio.wait([task])

    async def find(self) -> int | None:
        """The seq; None: nothing is found."""
        first = await asyncio.wait_for(self.lookup.find_command(self.talk, self.id), TIMEOUT_S)
        return None if first is None else first.seq


@pytest.fixture
async def scene() -> Scene:
    scene = Scene()
    await scene.begin()
    return scene


async def test_a_read_model_that_is_up_to_date_answers(scene: Scene) -> None:
    async with scene.running():
        assert (await scene.find(), scene.stream.asked) == (3, [])


async def test_where_it_stands_still_the_rest_is_read(scene: Scene) -> None:
    scene.model.advance(scene.events[:-1])
    scene.runner.stopped = "shut down"
    assert (await scene.find(), scene.stream.asked) == (3, [1]), "what the rows have is not read again"


async def test_what_stands_in_its_rows_is_right_in_any_case(scene: Scene) -> None:
    scene.model.advance(scene.events)
    scene.runner.stopped = "shut down"
    assert (await scene.find(), scene.stream.asked) == (3, [])


async def test_one_that_does_not_come_is_not_waited_for_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer's task waits for it: nobody else's commands would be decided, and it could not stop."""
    monkeypatch.setattr(ops.lookup, "WAIT_MAX_S", 0.05)
    assert (await scene.find(), scene.stream.asked) == (3, [-1])


async def test_one_that_lacks_an_event_of_the_conversation_is_not_relied_on(scene: Scene) -> None:
    """I2: a command whose event is parked or was dropped would be decided anew."""
    parking, stream = scene.model.parking, conversation_stream(scene.talk)
    *before, sent = scene.events
    scene.model.advance(before)
    scene.model.park(failed(sent, ValueError(), 1))
    scene.runner = Runner(scene.feed, scene.model)
    scene.lookup = ReadModelLookup(scene.feed, scene.runner, scene.model, scene.stream)
    async with scene.running():
        assert (await scene.find(), scene.stream.asked) == (3, [1])
        parked = parking.get(stream)
        assert parked is not None
        with scene.model.db.transaction():
            parking.skip(parked, 2)
        assert parking.get(stream) is None
        assert (await scene.find(), scene.stream.asked) == (3, [1, -1])
        await scene.lookup.find_command(scene.other, scene.id)
        assert scene.stream.asked == [1, -1], "of other conversations it knows all"
