"""The feed: reads from memory and from the log, wake-up, listeners, following a log."""

import asyncio
import logging
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.stores.memory import Medium, MemoryLog
from domain.codec import Event
from projections.feed import Feed, retry_delays
from tests.projections.histories import History, record

TIMEOUT_S = 20


def accounts(number: int) -> list[Event]:
    history = History()
    for index in range(number):
        history.register(f"account {index}")
    return history.events


@pytest.fixture
def medium() -> Medium:
    return Medium()


@pytest.fixture
def log(medium: Medium) -> MemoryLog:
    return MemoryLog(medium)


async def test_recent_events_are_read_without_the_log(log: MemoryLog) -> None:
    feed = Feed(log)
    await feed.start()
    assert feed.head == 0
    events = await record(log, accounts(5))
    feed.publish(events[:4])
    feed.publish(events[4:])
    feed.publish([])
    await log.close()
    assert feed.head == events[-1].position
    assert await feed.read(after=0, limit=100) == events
    assert await feed.read(after=events[2].position, limit=3) == events[3:6]
    assert await feed.read(after=events[2].position + 1, limit=1) == events[3:4], "a position between two events"
    assert await feed.read(after=feed.head, limit=100) == []


async def test_what_was_there_before_is_read_from_the_log(log: MemoryLog) -> None:
    before = await record(log, accounts(3))
    feed = Feed(log)
    await feed.start()
    assert feed.head == before[-1].position
    assert await feed.read(after=0, limit=100) == before
    assert await feed.read(after=before[1].position, limit=2) == before[2:4]


async def test_nothing_beyond_the_head_is_read(log: MemoryLog) -> None:
    before = await record(log, accounts(2))
    feed = Feed(log)
    await feed.start()
    await record(log, accounts(4)[4:])
    assert await feed.read(after=0, limit=100) == before


@given(
    sizes=st.lists(st.integers(min_value=1, max_value=5), max_size=12),
    recent_max=st.integers(min_value=1, max_value=6),
    before=st.integers(min_value=0, max_value=4),
    after=st.integers(min_value=0, max_value=300),
    limit=st.integers(min_value=1, max_value=40),
)
async def test_memory_and_log_give_the_same(
    sizes: list[int], recent_max: int, before: int, after: int, limit: int
) -> None:
    """I4: wherever the events come from, a reader finds each of them once and in order."""
    log = MemoryLog(Medium())
    history = accounts((before + sum(sizes) + 1) // 2 + 1)
    published = await record(log, history[:before])
    feed = Feed(log, recent_max=recent_max)
    await feed.start()
    for size in sizes:
        done = len(published)
        batch = await record(log, history[done : done + size])
        feed.publish(batch)
        published += batch
    expected = [event for event in published if event.position > after][:limit]
    assert await feed.read(after=after, limit=limit) == expected


async def test_memory_is_bounded(log: MemoryLog) -> None:
    """I11: the ring holds at most twice `recent_max`; older events are read from the log."""
    events = await record(log, accounts(50))
    feed = Feed(log, recent_max=10)
    for event in events:
        feed.publish([event])
    assert await feed.read(after=0, limit=1_000) == events
    await log.close()
    with pytest.raises(Exception, match="closed"):
        await feed.read(after=events[-21].position, limit=1)
    assert await feed.read(after=events[-11].position, limit=1_000) == events[-10:]


async def test_long_messages_are_kept_for_a_shorter_time(log: MemoryLog) -> None:
    """I11: the ring is bounded in bytes, too; older events are read from the log."""
    history = History()
    anna, ben = history.register("anna"), history.register("ben")
    room = history.direct(anna, ben)
    for _ in range(50):
        history.send(room, anna, "x" * 10_000)
    events = await record(log, history.events)
    feed = Feed(log, recent_bytes_max=100_000)
    for event in events:
        feed.publish([event])
        assert len(feed._recent) < 15  # with the three events before the messages
    assert await feed.read(after=0, limit=1_000) == events
    await log.close()
    assert await feed.read(after=events[-5].position, limit=1_000) == events[-4:]


async def test_an_event_that_is_too_long_by_itself_is_read_from_the_log(log: MemoryLog) -> None:
    history = History()
    anna, ben = history.register("anna"), history.register("ben")
    history.send(history.direct(anna, ben), anna)
    events = await record(log, history.events)
    feed = Feed(log, recent_bytes_max=10)
    feed.publish(events[:-1])
    feed.publish(events[-1:])
    assert feed.head == events[-1].position
    assert await feed.read(after=0, limit=1_000) == events


async def test_whoever_waits_is_woken_by_the_event(log: MemoryLog) -> None:
    events = await record(log, accounts(2))
    feed = Feed(log)
    first = asyncio.create_task(feed.wait_beyond(0))
    later = asyncio.create_task(feed.wait_beyond(events[1].position))
    await asyncio.sleep(0)
    feed.publish(events[:2])
    await asyncio.wait_for(first, TIMEOUT_S)
    assert not later.done()
    feed.publish(events[2:])
    await asyncio.wait_for(later, TIMEOUT_S)
    await asyncio.wait_for(feed.wait_beyond(0), TIMEOUT_S)


async def test_listeners_hear_each_batch_at_once(log: MemoryLog) -> None:
    feed = Feed(log)
    events = accounts(2)
    heard: list[tuple[int, Sequence[Event]]] = []
    feed.listen(lambda batch: heard.append((feed.head, batch)))
    feed.publish(events[:3])
    assert heard == [(events[2].position, events[:3])], "the head covers what a listener hears of"


async def test_a_failing_listener_harms_nobody(log: MemoryLog, caplog: pytest.LogCaptureFixture) -> None:
    """I11: neither the writer that publishes nor the other listeners."""
    feed = Feed(log)
    events = accounts(1)
    heard: list[Event] = []

    def fail(batch: Sequence[Event]) -> None:
        raise ZeroDivisionError

    feed.listen(fail)
    feed.listen(heard.extend)
    with caplog.at_level(logging.ERROR):
        feed.publish(events)
    assert heard == events
    assert "a listener failed" in caplog.text


async def test_events_out_of_order_are_a_bug(log: MemoryLog) -> None:
    """I3: an event published late would be lost to whoever is past its position."""
    feed = Feed(log)
    events = accounts(1)
    feed.publish(events[1:])
    with pytest.raises(AssertionError, match="was published after"):
        feed.publish(events[:1])


async def test_it_follows_a_log_that_others_write(medium: Medium) -> None:
    medium.faults.hide_positions()
    log, history = MemoryLog(medium), accounts(4)
    before = await record(log, history[:2])
    feed = Feed(log)
    await feed.start()
    heard: list[Event] = []
    feed.listen(heard.extend)
    following = asyncio.create_task(feed.follow())
    more = await record(MemoryLog(medium), history[2:])
    async with asyncio.timeout(TIMEOUT_S):
        while feed.head < more[-1].position:
            await feed.wait_beyond(feed.head)
    assert heard == more
    assert await feed.read(after=0, limit=100) == before + more
    await end(following)


class Warned(logging.Handler):
    """Tells when something was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.set()


async def test_it_goes_on_where_it_was_when_the_store_comes_back(medium: Medium) -> None:
    """I4: what was stored while the log could not be followed is found once, in order."""
    log, history = MemoryLog(medium), accounts(6)
    feed = Feed(log)
    await feed.start()
    heard: list[Event] = []
    feed.listen(heard.extend)
    following = asyncio.create_task(feed.follow())
    first = await record(log, history[:4])
    await asyncio.wait_for(feed.wait_beyond(first[-2].position), TIMEOUT_S)
    warned = Warned()
    logging.getLogger("projections.feed").addHandler(warned)
    medium.faults.go_away()
    await asyncio.wait_for(warned.heard.wait(), TIMEOUT_S)
    logging.getLogger("projections.feed").removeHandler(warned)
    medium.faults.heal()
    rest = await record(log, history[4:])
    await asyncio.wait_for(feed.wait_beyond(rest[-2].position), TIMEOUT_S)
    assert heard == first + rest
    await end(following)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_tries_come_less_and_less_often_up_to_a_bound() -> None:
    delays = [delay for delay, _ in zip(retry_delays(), range(9), strict=False)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (0.1, 5.0)
