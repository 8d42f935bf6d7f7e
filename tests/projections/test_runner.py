"""The runner: batches, rows and position together, gathering, waiting, failures."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import apsw
import pytest

from commands.stores.memory import Medium, MemoryLog
from domain.codec import Event
from projections.database import Database, DatabaseUnavailable
from projections.feed import Feed
from projections.readmodel import OtherLog, Place, ReadModel, ReadModelStopped, Table, TrackingAhead
from projections.runner import Runner
from tests.projections.histories import History, fold, record
from tests.projections.stores import new_model

pytestmark = pytest.mark.usefixtures("each_store")

TIMEOUT_S = 20
NEVER_MS = 3_600_000


class Killed(BaseException):
    """Stands for the end of the process."""


class Ledger(ReadModel):
    """A row for each event. `poison` makes it fail after it has written the rows of a batch."""

    name = "ledger"
    version = 1
    schema = "CREATE TABLE ledger (position BIGINT PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL);"
    tables = (Table("ledger", ("stream", "version")),)

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.batches: list[list[int]] = []
        self.applied = asyncio.Event()
        self.poison: dict[int, BaseException] = {}

    def apply(self, events: Sequence[Event]) -> None:
        rows = [(event.position, event.stream, event.version) for event in events]
        self.db.executemany("INSERT INTO ledger VALUES (?, ?, ?)", rows)
        for event in events:
            if event.position in self.poison:
                raise self.poison[event.position]
        self.batches.append([event.position for event in events])
        self.applied.set()

    def stored(self) -> list[int]:
        return [position for (position,) in self.db.query("SELECT position FROM ledger ORDER BY position")]


def accounts(number: int) -> list[Event]:
    history = History()
    for index in range(number):
        history.register(f"account {index}")
    return history.events


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(Medium())


@pytest.fixture
def feed(log: MemoryLog) -> Feed:
    return Feed(log)


@pytest.fixture
def ledger() -> Ledger:
    return new_model(Ledger)


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(runner.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def wait(runner: Runner, position: int) -> None:
    await asyncio.wait_for(runner.wait(position), TIMEOUT_S)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has a delay of its own
            await asyncio.sleep(0.01)


async def turns(number: int = 20) -> None:
    """Lets every task that can run do so."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_what_comes_within_the_time_is_one_batch(feed: Feed, ledger: Ledger) -> None:
    events = accounts(4)
    runner = Runner(feed, ledger, gather_ms=NEVER_MS)
    async with running(runner):
        await turns()
        for event in events[:5]:
            feed.publish([event])
            await turns()
        assert runner.position == 0, "it gathers"
        await wait(runner, events[1].position)
        assert ledger.batches == [[event.position for event in events[:5]]]
        assert runner.position == ledger.position == events[4].position
        feed.publish(events[5:])
        await turns()
        assert runner.position == events[4].position, "it gathers again once nobody waits any more"


async def test_nobody_has_to_ask(feed: Feed, ledger: Ledger) -> None:
    runner = Runner(feed, ledger, gather_ms=1)
    async with running(runner):
        feed.publish(accounts(1))
        await asyncio.wait_for(ledger.applied.wait(), TIMEOUT_S)
    assert ledger.stored() == ledger.batches[0]


async def test_batches_are_bounded_and_the_others_get_their_turns(log: MemoryLog, ledger: Ledger) -> None:
    """I11: a model that catches up neither takes more than a batch at once nor keeps the loop."""
    events = await record(log, accounts(10))
    feed = Feed(log)
    await feed.start()
    runner = Runner(feed, ledger, batch_max=3, gather_ms=NEVER_MS)
    seen = set()
    async with running(runner), asyncio.timeout(TIMEOUT_S):
        while runner.position < events[-1].position:
            await asyncio.sleep(0)
            seen.add(runner.position)
    assert [len(batch) for batch in ledger.batches] == [3, 3, 3, 3, 3, 3, 2]
    assert len(seen) >= 7
    assert ledger.stored() == [event.position for event in events]


async def test_who_waits_for_what_is_still_to_come_gets_it_at_once(feed: Feed, ledger: Ledger) -> None:
    events = accounts(2)
    runner = Runner(feed, ledger, gather_ms=NEVER_MS)
    async with running(runner):
        waiting = asyncio.create_task(runner.wait(events[-1].position))
        given_up = asyncio.create_task(runner.wait(events[-1].position))
        await turns()
        feed.publish(events[:2])
        await turns()
        assert ledger.stored() == [event.position for event in events[:2]]
        assert not waiting.done()
        given_up.cancel()
        feed.publish(events[2:])
        await asyncio.wait_for(waiting, TIMEOUT_S)
        await wait(runner, 0)


async def test_it_goes_on_from_its_position(log: MemoryLog, place: Place) -> None:
    """I9: after a restart each event is applied once."""
    events = await record(log, accounts(3))
    feed = Feed(log)
    await feed.start()
    model = Ledger.open(place)
    runner = Runner(feed, model)
    async with running(runner):
        await wait(runner, events[-1].position)
    model.close()

    events += await record(log, accounts(5)[6:])
    again, model = Feed(log), Ledger.open(place)
    await again.start()
    runner = Runner(again, model)
    assert runner.position == events[5].position
    async with running(runner):
        await wait(runner, events[-1].position)
    assert [position for batch in model.batches for position in batch] == [event.position for event in events[6:]]
    assert model.row_hash() == fold(Ledger, events).row_hash()


@pytest.mark.parametrize("killed_at", range(6))
async def test_a_crash_leaves_rows_and_position_together(log: MemoryLog, place: Place, killed_at: int) -> None:
    """I9: whenever the process ends, the file is that of some position, and goes on from there."""
    events = await record(log, accounts(3))
    feed = Feed(log)
    await feed.start()
    model = Ledger.open(place)
    model.poison[events[killed_at].position] = Killed()
    with suppress(Killed):
        for first in range(0, len(events), 2):
            model.advance(events[first : first + 2])
    model.close()

    model = Ledger.open(place)
    assert model.stored() == [event.position for event in events[: killed_at // 2 * 2]]
    assert model.position == (model.stored() or [0])[-1]
    runner = Runner(feed, model)
    async with running(runner):
        await wait(runner, events[-1].position)
    assert model.row_hash() == fold(Ledger, events).row_hash()


async def test_a_poisonous_event_stops_nothing(feed: Feed, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """I9, I11: what fails leaves no rows; everything else is in, whoever waits is served, and the log tells."""
    events = accounts(5)
    ledger.poison[events[6].position] = ValueError("no row can be made of it")
    runner = Runner(feed, ledger, gather_ms=NEVER_MS)
    async with running(runner):
        before, beyond = (asyncio.create_task(runner.wait(events[index].position)) for index in (5, 9))
        await turns()
        feed.publish(events)
        await asyncio.wait_for(asyncio.gather(before, beyond), TIMEOUT_S)
    assert ledger.stored() == [event.position for event in [*events[:6], *events[8:]]]
    assert runner.position == ledger.position == events[9].position
    assert [each.stream for each in ledger.parking.all()] == [events[6].stream]
    for told in ("'ledger'", "AccountRegistered", f"position={events[6].position}", "no row can be made of it"):
        assert told in caplog.text


@pytest.mark.parametrize("error", [apsw.CorruptError("malformed"), OSError(5, "I/O"), MemoryError()])
async def test_what_is_no_event_s_fault_parks_nothing(feed: Feed, ledger: Ledger, error: Exception) -> None:
    events = accounts(2)
    ledger.poison[events[1].position] = error
    runner = Runner(feed, ledger, gather_ms=1)
    async with running(runner):
        feed.publish(events)
        await until(lambda: runner.tries > 0)
        assert runner.parked == 0
        ledger.poison.clear()
        await wait(runner, events[-1].position)
    assert ledger.stored() == [event.position for event in events]


async def test_a_bug_of_its_own_ends_no_runner(
    feed: Feed, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """None dies silently: it tries again, and the log has the traceback."""
    events = accounts(1)
    runner = Runner(feed, ledger, gather_ms=1)
    with monkeypatch.context() as patch:

        async def buggy(**_: int) -> list[Event]:
            raise ZeroDivisionError

        patch.setattr(feed, "read", buggy)
        async with running(runner) as run:
            feed.publish(events)
            await until(lambda: runner.stopped is not None)
            assert not run.done()
            patch.undo()
            await until(lambda: runner.stopped is None)
            await wait(runner, events[-1].position)
    assert "Traceback" in caplog.text


async def test_it_can_be_run_again(feed: Feed, ledger: Ledger) -> None:
    events = accounts(2)
    runner = Runner(feed, ledger)
    feed.publish(events)
    async with running(runner):
        await wait(runner, events[0].position)
    assert runner.stopped is not None
    async with running(runner):
        await until(lambda: runner.stopped is None)
        await wait(runner, events[-1].position)
    assert ledger.row_hash() == fold(Ledger, events).row_hash()


async def test_a_cancellation_goes_through(feed: Feed, ledger: Ledger) -> None:
    runner = Runner(feed, ledger)
    run = asyncio.create_task(runner.run())
    waiting = asyncio.create_task(runner.wait(1))
    await turns()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    with pytest.raises(ReadModelStopped, match="shut down"):
        await waiting


async def test_a_database_that_is_too_slow_for_a_batch_gets_smaller_ones(feed: Feed, ledger: Ledger) -> None:
    """What takes it longer than it is waited for would fail for ever, and stop the model."""
    events = accounts(15)
    apply = ledger.apply

    def too_slow(events: Sequence[Event]) -> None:
        if len(events) > 5:
            raise DatabaseUnavailable("no answer within 1.5 s")
        apply(events)

    ledger.apply = too_slow  # type: ignore[method-assign]
    runner = Runner(feed, ledger, batch_max=16, gather_ms=1)
    async with running(runner):
        feed.publish(events)
        await until(lambda: runner.position == events[-1].position)
    assert ledger.stored() == [event.position for event in events]
    assert runner.parked == 0


async def test_a_store_that_is_away_stops_nothing(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    medium = Medium()
    log = MemoryLog(medium)
    events = await record(log, accounts(2))
    feed = Feed(log)
    await feed.start()
    runner = Runner(feed, ledger)
    medium.faults.go_away()
    with caplog.at_level(logging.WARNING):
        async with running(runner):
            await until(lambda: runner.stopped is not None)
            assert "the store is away" in caplog.text
            medium.faults.heal()
            await until(lambda: runner.stopped is None)
            await wait(runner, events[-1].position)
    assert ledger.stored() == [event.position for event in events]


async def test_rows_of_a_longer_log_are_refused_with_the_remedy(log: MemoryLog, place: Place) -> None:
    """The log was restored from an older copy than the rows were made of."""
    model = Ledger.open(place)
    model.advance(accounts(2))
    feed = Feed(log)
    await feed.start()
    runner = Runner(feed, model)
    with pytest.raises(TrackingAhead, match=r"restored from an older copy, .*, (delete|DROP SCHEMA) .*ledger.1"):
        await runner.check()


def restored() -> list[Event]:
    """The stream of the last account goes on, but otherwise."""
    history = History()
    *_, last = (history.register(f"account {index}") for index in range(3))
    history.new_id()
    history.rename(last, "by another way")
    history.rename(last, "and longer")
    return history.events


def another() -> list[Event]:
    history = History()
    for index in range(9):
        history.register(f"another account {index}")
    return history.events


async def fed(events: Sequence[Event]) -> tuple[Feed, list[Event]]:
    log = MemoryLog(Medium())
    recorded = await record(log, events)
    feed = Feed(log)
    await feed.start()
    return feed, recorded


@pytest.mark.parametrize("theirs", [restored, another])
async def test_rows_of_another_log_are_refused_with_the_remedy(theirs: Callable[[], list[Event]], place: Place) -> None:
    """I11: a setting names the wrong log, or it was restored from an older copy and has grown since."""
    history = History()
    *_, last = (history.register(f"account {index}") for index in range(3))
    history.link(last, "laptop")
    model = Ledger.open(place)
    feed, recorded = await fed(history.events)
    model.advance(recorded)
    await Runner(feed, model).check()
    feed, recorded = await fed(theirs())
    runner = Runner(feed, model)
    with pytest.raises(OtherLog, match=r"another log.* SIGNET_EVENTS; .*, (delete|DROP SCHEMA) .*ledger.1"):
        await runner.check()
    async with running(runner):
        with pytest.raises(ReadModelStopped, match="another log"):
            await wait(runner, recorded[-1].position)
