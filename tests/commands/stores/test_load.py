"""Every store under load: many writers, a long log."""

import asyncio
from contextlib import aclosing
from itertools import pairwise

import pytest

from domain.log import EventLog, RecordedEvent
from tests.commands.stores.appends import follow, must_append, new_append, new_stream, read_on, start_writer
from tests.commands.stores.conftest import Store


@pytest.mark.slow
async def test_8_writing_processes_for_3_seconds(shared_store: Store) -> None:
    """I3, I4: a reader at the tail misses nothing, and nothing comes late."""
    await read_beside_8_writers(shared_store, seconds=3)


@pytest.mark.soak
@pytest.mark.parametrize("run", range(20))
async def test_8_writing_processes_for_10_seconds(shared_store: Store, run: int) -> None:
    """I3, I4."""
    print(
        f"run {run + 1} of 20: {await read_beside_8_writers(shared_store, seconds=10)} events, each once and in order"
    )


async def read_beside_8_writers(store: Store, *, seconds: float) -> int:
    """The writers are killed, which leaves some appends half way. Gives how many events the reader has seen."""
    assert store.url is not None
    reader = store.open()
    before = await reader.head()
    streams = {new_stream() for _ in range(8)}
    last = new_append(new_stream())
    seen: list[RecordedEvent] = []
    async with asyncio.timeout(60 + seconds), aclosing(reader.subscribe(after=before)) as batches:
        writers = [await start_writer(store.url, stream, 1_000_000) for stream in streams]
        try:
            end = asyncio.get_running_loop().time() + seconds
            async for batch in batches:
                seen += [event for event in batch if event.stream in streams]
                if asyncio.get_running_loop().time() > end and {event.stream for event in seen} == streams:
                    break
            assert [writer.returncode for writer in writers] == [None] * 8  # each append of theirs has succeeded
        finally:
            for writer in writers:
                writer.kill()
                await writer.communicate()
        await must_append(reader, last)
        streams.add(last.stream)
        batch = []
        while last.stream not in {event.stream for event in batch}:
            batch = [event for event in await anext(batches) if event.stream in streams]
            seen += batch
    # What a killed writer had sent may be stored after the last append.
    stored = [each for each in await read_on(reader, streams, after=before) if each.position <= seen[-1].position]
    assert len(seen) == len(stored)
    assert all(one == other for one, other in zip(seen, stored, strict=True))
    positions = [event.position for event in seen]
    assert all(one < other for one, other in pairwise(positions))
    for stream in streams:
        versions = [event.version for event in seen if event.stream == stream]
        assert all(version == number for number, version in enumerate(versions))
    await reader.close()
    return len(seen)


@pytest.mark.soak
async def test_a_reader_catches_up_with_100_000_events(log: EventLog) -> None:
    """I4: from the start of a long log, while it goes on growing."""
    before, streams, chunk = await log.head(), [new_stream() for _ in range(10)], 500
    for expected in range(-1, 9_999, chunk):
        for stream in streams:
            await must_append(log, new_append(stream, expected=expected, events=chunk))
    reading = asyncio.create_task(follow(log, set(streams), 101_000, after=before, patience_s=600))
    for number in range(100):
        for stream in streams:
            await must_append(log, new_append(stream, expected=9_999 + number))
    seen = await reading
    assert len(seen) == 101_000
    for stream in streams:
        versions = [event.version for event in seen if event.stream == stream]
        assert versions == list(range(10_100))
