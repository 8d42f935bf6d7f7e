"""Appends to write, and what a reader saw of them."""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

from domain.log import NO_STREAM, Append, Appended, Conflict, EventLog, NewEvent, RecordedEvent, StoreUnavailable

ROOT = Path(__file__).parents[3]


def new_stream() -> str:
    return f"conversation-{uuid4()}"


def new_event(text: str = "") -> NewEvent:
    """Its data name its id, as every entry in the log does."""
    event_id = str(uuid4())
    return NewEvent(id=event_id, topic="MessageSent", data=json.dumps({"id": event_id, "text": text}).encode())


def new_append(stream: str, *, expected: int = NO_STREAM, events: int = 1) -> Append:
    return Append(stream=stream, expected=expected, events=[new_event(str(n)) for n in range(events)])


def datas(events: Sequence[NewEvent | RecordedEvent]) -> list[bytes]:
    return [event.data for event in events]


async def must_append(log: EventLog, append: Append) -> Appended:
    """The outcome of an append that must succeed."""
    [outcome] = await log.append([append])
    assert isinstance(outcome, Appended), outcome
    return outcome


async def must_be_repeated(log: EventLog, append: Append, *, current: int | None = None) -> None:
    """The append is stored already: the store says so, or that the stream has gone on."""
    last = append.expected + len(append.events)
    [outcome] = await log.append([append])
    if isinstance(outcome, Appended):
        assert outcome.version == last
    else:
        assert outcome == Conflict(expected=append.expected, current=last if current is None else current)


async def append_until_known(log: EventLog, append: Append) -> Appended | Conflict:
    """As the port says: the very same append again."""
    async with asyncio.timeout(30):
        while True:
            [outcome] = await log.append([append])
            if isinstance(outcome, Appended | Conflict):
                return outcome


async def read_until_answered(log: EventLog, stream: str) -> list[RecordedEvent]:
    async with asyncio.timeout(30):
        while True:
            try:
                return await log.read_stream(stream, limit=100)
            except StoreUnavailable:
                await asyncio.sleep(0)


async def write(log: EventLog, stream: str, count: int) -> None:
    """Events one by one, each as soon as the one before is stored."""
    for version in range(count):
        await must_append(log, new_append(stream, expected=version - 1))
        await asyncio.sleep(0)


async def follow(
    log: EventLog, streams: set[str], count: int, *, after: int, patience_s: float = 60
) -> list[RecordedEvent]:
    """The first `count` events of these streams that a subscription brings."""
    seen: list[RecordedEvent] = []
    async with asyncio.timeout(patience_s), aclosing(log.subscribe(after=after)) as batches:
        async for batch in batches:
            assert batch
            seen += [event for event in batch if event.stream in streams]
            if len(seen) >= count:
                break
    return seen


async def read_on(log: EventLog, streams: set[str], *, after: int) -> list[RecordedEvent]:
    """All events of these streams after a position, read page by page."""
    seen: list[RecordedEvent] = []
    while page := await log.read_all(after=after, limit=100):
        seen += [event for event in page if event.stream in streams]
        after = page[-1].position
    return seen


async def start_writer(url: str, stream: str, count: int) -> asyncio.subprocess.Process:
    """A process that does `write`, and prints a line for each acknowledged event."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, stream, str(count), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


async def _main(url: str, stream: str, count: int) -> None:
    from commands.stores import open_log

    log = open_log(url)
    for version in range(count):
        outcome = await must_append(log, new_append(stream, expected=version - 1))
        print(outcome.version, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
