"""The writer's look-up of old command ids: by the read model, and by the stream where that can't vouch for it (I2)."""

import pytest

from commands.lookup import StreamLookup
from commands.stores.memory import Medium, MemoryLog
from domain.ids import CommandId, conversation_stream
from domain.log import NO_STREAM, RecordedEvent
from ops.lookup import ReadModelLookup
from projections.database import DatabaseUnavailable
from projections.messages import Messages
from projections.parking import failed
from projections.sqlite import SqliteDatabase
from tests.projections.histories import History, must, record


class Noted(MemoryLog):
    """Knows after which versions streams were read, and how many events."""

    def __init__(self) -> None:
        super().__init__(Medium())
        self.asked: list[tuple[int, int]] = []

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        self.asked.append((after, limit))
        return await super().read_stream(stream, after=after, limit=limit)


class Scene:
    """Two messages of one conversation: it is the second one's command that is looked for."""

    def __init__(self) -> None:
        self.history = History()
        ann = self.history.register("ann")
        ben = self.history.register("ben")
        self.talk, self.other = self.history.group(ann, ben), self.history.group(ann, ben)
        self.history.send(self.talk, ann)
        self.id = CommandId(must(self.history.send(self.talk, ann)).entry.cmd)

    async def begin(self) -> None:
        self.log = Noted()
        self.events = await record(self.log, self.history.events)
        self.model = Messages(SqliteDatabase(":memory:"))
        self.lookup = ReadModelLookup(lambda: self.model, StreamLookup(self.log))

    async def find(self, *, upto: int = 3) -> int | None:
        """The seq; None: nothing is found."""
        first = await self.lookup.find_command(self.talk, self.id, upto=upto)
        return None if first is None else first.seq


@pytest.fixture
async def scene() -> Scene:
    scene = Scene()
    await scene.begin()
    return scene


async def test_a_read_model_that_has_all_of_it_answers(scene: Scene) -> None:
    scene.model.advance(scene.events)
    assert (await scene.find(), scene.log.asked) == (3, [])
    assert await scene.lookup.find_command(scene.other, scene.id, upto=1) is None
    assert scene.log.asked == []


async def test_what_is_known_anyhow_is_not_waited_for(scene: Scene) -> None:
    """The state knows what came later, so that a model which stands still is as good as any."""
    scene.model.advance(scene.events[:-1])
    assert (await scene.find(upto=2), scene.log.asked) == (None, [])


async def test_what_its_rows_lack_is_read(scene: Scene) -> None:
    scene.model.advance(scene.events[:-1])
    assert (await scene.find(), scene.log.asked) == (3, [(1, 1)]), "what the rows have is not read again"


async def test_an_empty_one_is_as_good(scene: Scene) -> None:
    assert (await scene.find(), scene.log.asked) == (3, [(-1, 3)])


async def test_one_whose_database_is_away_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.model.advance(scene.events)
    monkeypatch.setattr(scene.model.db, "query_one", away)
    assert (await scene.find(), scene.log.asked) == (3, [(-1, 3)])


def away(*_: object) -> None:
    raise DatabaseUnavailable


async def test_one_that_lacks_an_event_of_the_conversation_is_not_relied_on(scene: Scene) -> None:
    """I2: a command whose event is parked or was dropped would be decided anew."""
    parking, stream = scene.model.parking, conversation_stream(scene.talk)
    *before, sent = scene.events
    scene.model.advance(before)
    scene.model.park(failed(sent, ValueError(), 1))
    assert (await scene.find(), scene.log.asked) == (3, [(1, 1)])
    parked = parking.get(stream)
    assert parked is not None
    with scene.model.db.transaction():
        parking.skip(parked, 2)
    assert parking.get(stream) is None
    assert (await scene.find(), scene.log.asked) == (3, [(1, 1), (-1, 3)])
    await scene.lookup.find_command(scene.other, scene.id, upto=1)
    assert len(scene.log.asked) == 2, "of other conversations it knows all"
