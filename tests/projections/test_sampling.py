"""The check in the background: it finds what was changed by hand, and nothing where all is as the log says (I7)."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from commands.stores.memory import Medium, MemoryLog
from domain.codec import Event
from domain.ids import AccountId, ConversationId, receipts_stream
from projections.feed import Feed
from projections.inbox import Inbox
from projections.receipts import Receipts
from projections.runner import Runner
from projections.sampling import Sampler
from projections.served import Served
from tests.projections.histories import History, record
from tests.projections.stores import new_model
from tests.projections.test_runner import running

pytestmark = pytest.mark.usefixtures("each_store")


class Scene:
    """A group of three with receipts, and a direct conversation; both read models serve."""

    ann: AccountId
    ben: AccountId
    group: ConversationId

    def __init__(self) -> None:
        self.history = History()
        self.log = MemoryLog(Medium())
        self.feed = Feed(self.log)
        self.inbox, self.receipts = new_model(Inbox), new_model(Receipts)
        models = (self.inbox, self.receipts)
        self.runners = {model.name: Runner(self.feed, model, gather_ms=1) for model in models}
        self.sampler = Sampler(self.feed, Served(self.runners), interval_s=0, seed=1)

    async def begin(self) -> None:
        history = self.history
        self.ann, self.ben, cho = (history.register(name) for name in ("ann", "ben", "cho"))
        self.group = history.group(self.ann, self.ben, cho)
        direct = history.direct(self.ben, cho)
        for number in range(150):  # more than a page
            history.send(self.group, (self.ann, self.ben, cho)[number % 3])
        history.send(direct, self.ben)
        history.receive(self.group, self.ben, delivered=90, read=50)
        history.receive(self.group, cho, delivered=95, undecryptable=(9,))
        history.remove(self.group, self.ann, cho)
        self.feed.publish(await record(self.log, history.events))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    await scene.feed.start()
    await scene.begin()
    async with running(scene.runners["inbox"]), running(scene.runners["receipts"]):
        yield scene


async def test_what_is_as_the_log_says_is_no_drift(scene: Scene) -> None:
    await scene.sampler.check(scene.group)
    assert (scene.sampler.checked, scene.sampler.drift) == (6, {"inbox": 0, "receipts": 0}), "three members, two models"


async def test_a_changed_inbox_is_named(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await scene.runners["inbox"].wait(scene.feed.head)
    scene.inbox.db.execute("UPDATE members SET read = 60 WHERE account = ?", (scene.ben,))
    with caplog.at_level(logging.ERROR):
        await scene.sampler.check(scene.group)
    assert scene.sampler.drift == {"inbox": 1, "receipts": 0}
    assert f"in conversation {scene.group} at position {scene.feed.head}" in caplog.text
    assert "signet rebuild inbox" in caplog.text


async def test_changed_receipts_are_named(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await scene.runners["receipts"].wait(scene.feed.head)
    scene.receipts.db.execute("UPDATE marks SET delivered = 3 WHERE account = ?", (scene.ben,))
    with caplog.at_level(logging.ERROR):
        await scene.sampler.check(scene.group)
    assert scene.sampler.drift["receipts"] >= 1
    assert "the read model 'receipts' has drifted" in caplog.text


async def test_what_happens_meanwhile_is_no_drift(scene: Scene) -> None:
    checking = asyncio.create_task(scene.sampler.check(scene.group))
    for _ in range(30):
        scene.history.send(scene.group, scene.ann)
        scene.feed.publish(await record(scene.log, scene.history.events[-1:]))
        await asyncio.sleep(0.001)
    await checking
    assert scene.sampler.checked > 0
    assert scene.sampler.drift == {"inbox": 0, "receipts": 0}


async def test_who_comes_and_reads_meanwhile_is_no_drift(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipts are read after the conversation: some of them may be of a member who came in between."""
    history, newcomers, read_stream = scene.history, ["dan", "eve"], scene.feed.read_stream

    async def read(stream: str, *, after: int, limit: int) -> list[Event]:
        if stream == receipts_stream(scene.group) and newcomers:
            begun = len(history.events)
            newcomer = history.register(newcomers.pop())
            seq = history.add(scene.group, scene.ann, newcomer)[-1].version + 1
            history.receive(scene.group, newcomer, delivered=seq, read=seq)
            scene.feed.publish(await record(scene.log, history.events[begun:]))
        return await read_stream(stream, after=after, limit=limit)

    monkeypatch.setattr(scene.feed, "read_stream", read)
    await scene.sampler.check(scene.group)
    assert not newcomers
    assert scene.sampler.checked > 0
    assert scene.sampler.drift == {"inbox": 0, "receipts": 0}


async def test_it_goes_from_one_to_the_next(scene: Scene) -> None:
    async with asyncio.timeout(20):
        task = asyncio.create_task(scene.sampler.run())
        while scene.sampler.checked < 40:  # noqa: ASYNC110  # it counts, and tells nobody
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert scene.sampler.drift == {"inbox": 0, "receipts": 0}


async def test_an_engine_without_conversations_is_no_trouble(scene: Scene) -> None:
    empty = Sampler(scene.feed, Served({**scene.runners, "inbox": Runner(scene.feed, new_model(Inbox))}), interval_s=0)
    task = asyncio.create_task(empty.run())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert empty.checked == 0


async def test_what_can_t_be_compared_ends_nothing(
    scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    async def fail(*_: object) -> None:
        tried.set()
        raise ValueError("a row of a strange kind")

    monkeypatch.setattr(scene.inbox, "conversation", fail)
    task = asyncio.create_task(scene.sampler.run())
    for _ in range(2):
        tried.clear()
        await asyncio.wait_for(tried.wait(), 20)
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])
    assert "could not be compared with the log" in caplog.text
