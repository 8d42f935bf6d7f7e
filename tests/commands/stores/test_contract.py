"""What every store of events must do: `domain.log`, sentence by sentence."""

import asyncio
from contextlib import aclosing
from itertools import pairwise
from time import perf_counter

import pytest

from commands.measures import Measured
from domain.log import (
    NO_STREAM,
    START,
    Append,
    Appended,
    Conflict,
    EventLog,
    NewEvent,
    RecordedEvent,
    StoreUnavailable,
    Unavailable,
)
from tests.commands.stores.appends import (
    datas,
    follow,
    must_append,
    must_be_repeated,
    new_append,
    new_event,
    new_stream,
    read_on,
    start_writer,
    write,
)
from tests.commands.stores.conftest import Store

# Append, and read back


async def test_what_was_appended_is_read_back(log: EventLog) -> None:
    stream = new_stream()
    append = new_append(stream, events=3)
    outcome = await must_append(log, append)
    events = await log.read_stream(stream, limit=10)
    assert outcome.version == 2
    assert datas(events) == datas(append.events)
    assert [(event.stream, event.version, event.topic) for event in events] == [
        (stream, version, "MessageSent") for version in range(3)
    ]


async def test_a_stream_grows_without_gaps(log: EventLog) -> None:
    stream = new_stream()
    assert (await must_append(log, new_append(stream))).version == 0
    assert (await must_append(log, new_append(stream, expected=0, events=2))).version == 2
    assert (await must_append(log, new_append(stream, expected=2))).version == 3
    assert [event.version for event in await log.read_stream(stream, limit=10)] == [0, 1, 2, 3]


async def test_positions_grow_and_are_those_of_the_answer(log: EventLog) -> None:
    before = await log.head()
    one, other = new_append(new_stream(), events=2), new_append(new_stream(), events=3)
    outcomes = await log.append([one, other])
    events = await read_on(log, {one.stream, other.stream}, after=before)
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert positions[0] > before
    assert await log.head() == positions[-1]
    for append, outcome in zip([one, other], outcomes, strict=True):
        assert isinstance(outcome, Appended)
        stored = [event.position for event in events if event.stream == append.stream]
        # Not every store tells them all; the last one is told.
        assert outcome.positions in (stored, None)
        assert outcome.positions is not None or outcome.last == stored[-1]


async def test_a_stream_and_the_log_tell_the_same(log: EventLog) -> None:
    before = await log.head()
    append = new_append(new_stream(), events=4)
    await must_append(log, append)
    assert await log.read_stream(append.stream, limit=10) == await read_on(log, {append.stream}, after=before)


async def test_outcomes_stand_in_the_order_of_the_batch(log: EventLog) -> None:
    batch = [new_append(new_stream(), events=1 + n % 5) for n in range(256)]
    outcomes = await log.append(batch)
    assert [outcome.version for outcome in outcomes if isinstance(outcome, Appended)] == [n % 5 for n in range(256)]
    for append in batch[::50]:
        assert datas(await log.read_stream(append.stream, limit=10)) == datas(append.events)


async def test_an_empty_batch(log: EventLog) -> None:
    before = await log.head()
    assert await log.append([]) == []
    assert await log.head() == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        "zażółć 🐿 \u202eשלום\u0000".encode(),
        bytes(range(256)),
        b"x" * (1 << 20),
    ],
    ids=["empty", "unicode", "binary", "1 MB"],
)
async def test_data_come_back_byte_for_byte(log: EventLog, data: bytes) -> None:
    stream = new_stream()
    event = NewEvent(id=new_event().id, topic="Gesendet·é", data=data)
    await must_append(log, Append(stream=stream, expected=NO_STREAM, events=[event]))
    [stored] = await log.read_stream(stream, limit=1)
    assert (stored.data, stored.topic) == (data, "Gesendet·é")
    assert type(stored.data) is bytes


# The expected version


@pytest.mark.parametrize("expected", [NO_STREAM, 0, 1, 3, 5, 1_000])
async def test_another_expected_version_is_a_conflict(log: EventLog, expected: int) -> None:
    """Also one that is too high, although no event stands in its way. I3."""
    stream = new_stream()
    await must_append(log, new_append(stream, events=3))
    assert await log.append([new_append(stream, expected=expected)]) == [Conflict(expected=expected, current=2)]
    assert len(await log.read_stream(stream, limit=10)) == 3


async def test_a_stream_that_does_not_exist_has_no_version(log: EventLog) -> None:
    stream = new_stream()
    assert await log.append([new_append(stream, expected=0)]) == [Conflict(expected=0, current=NO_STREAM)]
    assert await log.read_stream(stream, limit=10) == []


async def test_a_conflict_is_of_all_events_of_the_append(log: EventLog) -> None:
    stream = new_stream()
    await must_append(log, new_append(stream))
    assert await log.append([new_append(stream, events=3)]) == [Conflict(expected=NO_STREAM, current=0)]
    assert len(await log.read_stream(stream, limit=10)) == 1


async def test_a_conflict_leaves_the_rest_of_the_batch_stored(log: EventLog) -> None:
    stale, ahead = new_stream(), new_stream()
    await must_append(log, new_append(stale, events=2))
    before = await log.head()
    fresh = [new_append(new_stream(), events=2) for _ in range(3)]
    outcomes = await log.append(
        [fresh[0], new_append(stale, expected=0), fresh[1], new_append(ahead, expected=7), fresh[2]]
    )
    assert outcomes[1] == Conflict(expected=0, current=1)
    assert outcomes[3] == Conflict(expected=7, current=NO_STREAM)
    assert [type(outcome) for outcome in outcomes[::2]] == [Appended] * 3
    streams = {append.stream for append in fresh} | {stale, ahead}
    assert datas(await read_on(log, streams, after=before)) == [d for append in fresh for d in datas(append.events)]


async def test_the_same_append_again_is_stored_once(log: EventLog) -> None:
    """I2: the way out of a lost answer. Some stores know the events by their ids; of the others the stream tells whose
    events stand there."""
    stream = new_stream()
    await must_append(log, new_append(stream))
    append = new_append(stream, expected=0, events=2)
    await must_append(log, append)
    await must_be_repeated(log, append)
    assert datas(await log.read_stream(stream, after=append.expected, limit=9)) == datas(append.events)
    await must_append(log, new_append(stream, expected=2))
    await must_be_repeated(log, append, current=3)
    assert len(await log.read_stream(stream, limit=9)) == 4


async def test_an_append_with_a_part_of_what_is_stored_is_refused(log: EventLog) -> None:
    stream = new_stream()
    append = new_append(stream, events=2)
    await must_append(log, append)
    more = Append(stream=stream, expected=NO_STREAM, events=[*append.events, new_event()])
    assert await log.append([more]) == [Conflict(expected=NO_STREAM, current=1)]
    assert len(await log.read_stream(stream, limit=9)) == 2


async def test_one_of_several_writers_wins(store: Store) -> None:
    logs = [store.open() for _ in range(4)]
    stream = new_stream()
    for version in range(20):
        appends = [new_append(stream, expected=version - 1) for _ in logs]
        answers = await asyncio.gather(*(log.append([append]) for log, append in zip(logs, appends, strict=True)))
        winners = [append for append, [outcome] in zip(appends, answers, strict=True) if isinstance(outcome, Appended)]
        assert [outcome for [outcome] in answers if isinstance(outcome, Conflict)] == [
            Conflict(expected=version - 1, current=version)
        ] * 3
        assert datas(await logs[0].read_stream(stream, after=version - 1, limit=9)) == datas(winners[0].events)
    for log in logs:
        await log.close()


# Reading


async def test_pages_of_a_stream(log: EventLog) -> None:
    stream = new_stream()
    await must_append(log, new_append(stream, events=5))
    everything = await log.read_stream(stream, limit=100)
    assert await log.read_stream(stream, limit=5) == everything
    assert await log.read_stream(stream, limit=2) == everything[:2]
    assert await log.read_stream(stream, after=1, limit=2) == everything[2:4]
    assert await log.read_stream(stream, after=3, limit=2) == everything[4:]
    assert await log.read_stream(stream, after=4, limit=2) == []
    assert await log.read_stream(stream, after=99, limit=2) == []
    assert await log.read_stream(stream, limit=0) == []


async def test_pages_of_the_log(log: EventLog) -> None:
    before = await log.head()
    await log.append([new_append(new_stream(), events=2) for _ in range(3)])
    everything = await log.read_all(after=before, limit=100)
    assert len(everything) == 6
    assert await log.read_all(after=before, limit=4) == everything[:4]
    assert await log.read_all(after=everything[3].position, limit=4) == everything[4:]
    assert await log.read_all(after=everything[3].position, limit=1) == [everything[4]]
    assert await log.read_all(after=everything[5].position, limit=4) == []
    assert await log.read_all(after=before, limit=0) == []


async def test_the_last_events_of_the_log(log: EventLog) -> None:
    append, other = new_append(new_stream(), events=4), new_append(new_stream())
    await must_append(log, append)
    await must_append(log, other)
    assert datas(await log.read_last(3)) == [*datas(append.events[2:]), *datas(other.events)]
    [last] = await log.read_last(1)
    assert last == (await log.read_stream(other.stream, limit=1))[0]
    assert last.position == await log.head()
    assert await log.read_last(0) == []


async def test_an_empty_store(store: Store) -> None:
    log = store.open()
    if store.fresh:
        assert await log.head() == START
        assert await log.read_all(limit=10) == []
    append = new_append(new_stream())
    first = asyncio.create_task(follow(log, {append.stream}, 1, after=await log.head()))
    await asyncio.sleep(0)
    await log.append([append])
    assert datas(await first) == datas(append.events)
    assert await log.head() > START
    await log.close()


async def test_a_stream_of_20_000_events(log: EventLog) -> None:
    stream, chunk = new_stream(), 1_000
    for first in range(0, 20_000, chunk):
        await must_append(log, new_append(stream, expected=first - 1, events=chunk))
    versions: list[int] = []
    while page := await log.read_stream(stream, after=len(versions) - 1, limit=500):
        versions += [event.version for event in page]
    assert versions == list(range(20_000))
    assert [event.version for event in await log.read_stream(stream, after=19_997, limit=500)] == [19_998, 19_999]


# Subscriptions


async def test_subscribing_from_the_start_the_middle_and_the_head(store: Store, log: EventLog) -> None:
    stream = new_stream()
    start = START if store.fresh else await log.head()
    await must_append(log, new_append(stream, events=600))
    events = await log.read_stream(stream, limit=600)
    assert await follow(log, {stream}, 600, after=start) == events
    assert await follow(log, {stream}, 300, after=events[299].position) == events[300:]

    from_head = asyncio.create_task(follow(log, {stream}, 2, after=await log.head()))
    await must_append(log, new_append(stream, expected=599, events=2))
    assert [event.version for event in await from_head] == [600, 601]


async def test_a_subscription_wakes_for_each_append(log: EventLog) -> None:
    stream = new_stream()
    async with asyncio.timeout(30), aclosing(log.subscribe(after=await log.head())) as batches:
        for version in range(50):
            waiting = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0)
            await must_append(log, new_append(stream, expected=version - 1))
            assert [event.version for event in await waiting] == [version]


async def test_a_subscription_hears_of_what_another_log_stored(store: Store) -> None:
    here, there = store.open(), store.open()
    append = new_append(new_stream(), events=2)
    seen = asyncio.create_task(follow(here, {append.stream}, 2, after=await here.head()))
    await there.append([append])
    assert datas(await seen) == datas(append.events)
    await here.close()
    await there.close()


async def test_a_subscription_that_is_closed_while_it_waits(log: EventLog) -> None:
    batches = log.subscribe(after=await log.head())
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await batches.aclose()
    await must_append(log, new_append(new_stream()))


# Order beside writers


def assert_each_once_in_order(seen: list[RecordedEvent], streams: set[str], count: int) -> None:
    positions = [event.position for event in seen]
    assert all(one < other for one, other in pairwise(positions))
    for stream in streams:
        assert [event.version for event in seen if event.stream == stream] == list(range(count))


@pytest.mark.parametrize("logs", [1, 8])
async def test_a_reader_beside_8_writers_sees_every_event_once_and_none_late(store: Store, logs: int) -> None:
    """I3, I4: nothing appears at a position that the reader has passed."""
    writers = [store.open() for _ in range(logs)]
    reader = store.open()
    before = await reader.head()
    streams = [new_stream() for _ in range(8)]
    seen = asyncio.create_task(follow(reader, set(streams), 8 * 40, after=before))
    await asyncio.gather(*(write(writers[n % logs], stream, 40) for n, stream in enumerate(streams)))
    assert_each_once_in_order(await seen, set(streams), 40)
    assert await seen == await read_on(reader, set(streams), after=before)
    for log in [*writers, reader]:
        await log.close()


async def test_a_reader_beside_8_writing_processes_sees_every_event_once_and_none_late(shared_store: Store) -> None:
    """I3, I4."""
    assert shared_store.url is not None
    reader = shared_store.open()
    before = await reader.head()
    streams = [new_stream() for _ in range(8)]
    seen = asyncio.create_task(follow(reader, set(streams), 8 * 40, after=before))
    writers = [await start_writer(shared_store.url, stream, 40) for stream in streams]
    await asyncio.gather(*(writer.communicate() for writer in writers))
    assert [writer.returncode for writer in writers] == [0] * 8
    assert_each_once_in_order(await seen, set(streams), 40)
    assert await seen == await read_on(reader, set(streams), after=before)
    await reader.close()


# Restart and close


async def test_everything_is_there_after_a_restart(store: Store) -> None:
    """I1."""
    log = store.open()
    append = new_append(new_stream(), events=3)
    await log.append([append])
    head, events = await log.head(), await log.read_stream(append.stream, limit=10)
    await log.close()

    log = store.open()
    assert await log.head() == head
    assert await log.read_stream(append.stream, limit=10) == events
    await must_be_repeated(log, append)
    [more] = await log.append([new_append(append.stream, expected=2)])
    assert isinstance(more, Appended)
    assert await log.head() > head
    await log.close()


async def test_a_log_that_was_not_closed_has_lost_nothing(shared_store: Store) -> None:
    """I1: the process is killed as soon as it has said that an event is stored."""
    assert shared_store.url is not None
    stream = new_stream()
    writer = await start_writer(shared_store.url, stream, 100_000)
    assert writer.stdout is not None
    async with asyncio.timeout(30):
        acknowledged = [int(await writer.stdout.readline()) for _ in range(25)]
        writer.kill()
        rest = await writer.stdout.read()
        acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith(b"\n")]
        await writer.wait()

    log = shared_store.open()
    versions = [event.version for event in await log.read_stream(stream, limit=100_000)]
    assert versions[: len(acknowledged)] == acknowledged == list(range(len(acknowledged)))
    assert len(versions) - len(acknowledged) in (0, 1)
    await log.close()


async def test_it_tells_how_long_its_commits_take(log: EventLog) -> None:
    if not isinstance(log, Measured):
        return  # Stores in memory have none.
    began = perf_counter()
    for _ in range(3):
        await must_append(log, new_append(new_stream()))
    assert sum(log.commits.counts) == 3
    assert 0 < log.commits.total <= perf_counter() - began


async def test_after_close(store: Store) -> None:
    log = store.open()
    stream = new_stream()
    await log.append([new_append(stream)])
    subscription = log.subscribe(after=await log.head())
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    await log.close()
    await log.close()

    async with asyncio.timeout(10):
        with pytest.raises(StoreUnavailable):
            await waiting
    with pytest.raises(StoreUnavailable):
        await log.read_stream(stream, limit=1)
    with pytest.raises(StoreUnavailable):
        await log.read_all(limit=1)
    with pytest.raises(StoreUnavailable):
        await log.head()
    [outcome] = await log.append([new_append(stream, expected=0)])
    assert isinstance(outcome, Unavailable)
