"""Builds beside the one that serves: filled from the log, compared at one position, in its place in the end (I9)."""

import asyncio
from collections.abc import Iterator

import pytest

from commands.stores.memory import Medium, MemoryLog
from domain.codec import Event
from projections import building
from projections.building import Builder, position_of
from projections.feed import Feed
from projections.inbox import Inbox
from projections.readmodel import Place
from projections.runner import Runner
from tests.projections.histories import History, record
from tests.projections.test_runner import running, wait

pytestmark = pytest.mark.usefixtures("each_store")


class Scene:
    """A log of a talk, and an inbox that serves as far as it is told to."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.history = History()
        self.log = MemoryLog(Medium())
        self.feed = Feed(self.log)
        self.live = Inbox.open(place)
        self.runner = Runner(self.feed, self.live, gather_ms=1)
        self._recorded = 0

    async def begin(self) -> None:
        ann, ben = self.history.register("ann"), self.history.register("ben")
        self.ann, self.ben, self.talk = ann, ben, self.history.group(ann, ben)
        self.say(20)
        self.history.receive(self.talk, ben, delivered=9, read=7)
        await self.record()
        await self.feed.start()

    def say(self, messages: int) -> None:
        for _ in range(messages):
            self.history.send(self.talk, self.ann)

    async def record(self) -> list[Event]:
        events = await record(self.log, self.history.events[self._recorded :])
        self._recorded = len(self.history.events)
        return events

    async def publish(self) -> None:
        self.feed.publish(await self.record())


@pytest.fixture
async def scene(place: Place) -> Scene:
    scene = Scene(place)
    await scene.begin()
    return scene


@pytest.fixture(params=[2_000, 7])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(building, "BATCH_MAX", request.param)
    monkeypatch.setattr(building, "NEAR", 2)
    return request.param  # type: ignore[no-any-return]


@pytest.mark.usefixtures("batch")
async def test_a_build_is_equal_to_what_serves_at_its_very_position(scene: Scene) -> None:
    async with running(scene.runner):
        await wait(scene.runner, scene.feed.head)
    behind = scene.runner.position
    scene.say(5)
    await scene.record()  # which the one that serves does not hear of
    builder = Builder(scene.log, Inbox.open(scene.place, 2))
    compared = await builder.compare(Inbox.database(scene.place, read_only=True))
    assert compared is not None
    assert (compared.position, compared.equal) == (behind, True)
    await builder.fill_to_head()
    assert (builder.position, builder.model.position) == (await scene.log.head(),) * 2
    assert builder.events == len(scene.history.events)


async def test_what_was_changed_by_hand_is_not_equal(scene: Scene) -> None:
    async with running(scene.runner):
        await wait(scene.runner, scene.feed.head)
    scene.live.db.execute("UPDATE members SET read = 3 WHERE account = ?", (scene.ben,))
    compared = await Builder(scene.log, Inbox.open(scene.place, 2)).compare(scene.live.db)
    assert compared is not None
    assert not compared.equal


async def test_what_was_built_is_not_built_again(scene: Scene) -> None:
    first = Builder(scene.log, Inbox.open(scene.place, 2))
    middle = scene.history.events[11]
    await first.fill((await scene.log.read_stream(middle.stream, after=middle.version - 1, limit=1))[0].position)
    first.model.close()
    second = Builder(scene.log, Inbox.open(scene.place, 2))
    assert await second.is_of_this_log()
    await second.fill_to_head()
    assert (first.events, second.events) == (12, len(scene.history.events) - 12)


async def test_a_build_of_another_log_is_known(scene: Scene, place: Place) -> None:
    builder = Builder(scene.log, Inbox.open(place, 2))
    await builder.fill_to_head()
    other = MemoryLog(Medium())
    assert not await Builder(other, builder.model).is_of_this_log()
    stranger = History()
    for name in range(60):
        stranger.register(str(name))
    await record(other, stranger.events)
    assert not await Builder(other, builder.model).is_of_this_log()


async def test_rows_that_stay_behind_are_not_compared(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "BEHIND_MAX_S", 0.0)
    builder = Builder(scene.log, Inbox.open(scene.place, 2))
    await builder.fill_to_head()
    assert position_of(scene.live.db) == 0
    assert await builder.compare(scene.live.db) is None


async def test_long_texts_come_in_smaller_batches(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(building, "BATCH_FIRST", 8)
    builder = Builder(scene.log, Inbox.open(scene.place, 2), on_batch=lambda each: sizes.append(each.events))
    monkeypatch.setattr(building, "BATCH_BYTES_MAX", 300)
    await builder.fill_to_head()
    assert builder.position == await scene.log.head()
    steps = [after - before for before, after in zip([0, *sizes], sizes, strict=False)]
    assert steps[0] == 8
    assert min(steps[:-1]) < 8


# In the place of the one that serves


async def test_it_catches_up_and_serves_and_whoever_waits_is_woken(scene: Scene) -> None:
    new = Inbox.open(scene.place, 2)
    decided: list[int] = []
    async with running(scene.runner):
        await wait(scene.runner, scene.feed.head)
        old = await scene.runner.replace(new, lambda: decided.append(new.position))
        assert (old, scene.runner.model, decided) == (scene.live, new, [scene.feed.head])
        waiting = asyncio.create_task(wait(scene.runner, scene.feed.head + 1))
        await asyncio.sleep(0)
        scene.say(1)
        await scene.publish()
        await waiting
        row = await new.conversation(scene.ben, scene.talk)
        assert row is not None
        assert row.unread == 15, "21 messages with the seqs 2 to 22, read up to seq 7"
        assert old.position < new.position == scene.runner.position


async def test_nobody_is_shown_an_earlier_position(scene: Scene) -> None:
    """What was built from the log may be ahead of the feed: it serves when the feed has come there."""
    async with running(scene.runner):
        await wait(scene.runner, scene.feed.head)
        scene.say(3)
        events = await scene.record()
        new = Inbox.open(scene.place, 2)
        await Builder(scene.log, new).fill_to_head()
        replacing = asyncio.create_task(scene.runner.replace(new, lambda: None))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (replacing.done(), scene.runner.model) == (False, scene.live)
        scene.feed.publish(events)
        await replacing
        assert scene.runner.position == scene.feed.head
        assert scene.runner.stopped is None


async def test_where_the_record_can_t_be_written_nothing_has_changed(scene: Scene) -> None:
    def fail() -> None:
        raise OSError("no space left on device")

    async with running(scene.runner):
        await wait(scene.runner, scene.feed.head)
        with pytest.raises(OSError, match="no space"):
            await scene.runner.replace(Inbox.open(scene.place, 2), fail)
        scene.say(1)
        await scene.publish()
        await wait(scene.runner, scene.feed.head)
        assert scene.runner.model is scene.live


async def test_what_served_until_now_is_read_on_and_may_be_written_by_who_goes_back(scene: Scene) -> None:
    async with running(scene.runner):
        await wait(scene.runner, scene.feed.head)
        before = await scene.runner.replace(Inbox.open(scene.place, 2), lambda: None)
        back = Inbox.open(scene.place)
        assert len(await scene.live.conversations(scene.ann)) == 1
        assert await scene.runner.replace(back, lambda: None) is not before
    before.close()
