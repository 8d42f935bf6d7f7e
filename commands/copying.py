"""A log copied into another, whatever the stores, and a digest that tells whether two logs hold the same.

Each stream is copied in its order. The order between streams is kept where something rests on it: an event of receipts
never comes before one of its conversation that it came after. Elsewhere the streams of a stretch may be put together,
since to append them one by one would take a commit for each event.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from domain.log import START, Append, Appended, Conflict, EventLog, NewEvent, RecordedEvent, StoreUnavailable

PAGE: Final = 1_000
BATCH_EVENTS: Final = 2_000
APPEND_BYTES_MAX: Final = 524_288
"""How much goes to one stream in one append, about: KurrentDB takes 1 MiB."""
_RECEIPTS: Final = "receipts-"
_CONVERSATION: Final = "conversation-"


class CopyFailed(Exception):
    """What is wrong, and what to do."""


class LogDigest:
    """Of the events of a log: which they are, and in which order those of each stream stand. The order between streams
    makes no difference, nor do positions: another store has others.

    The sum, modulo 2^256, of the SHA-256 of each event.
    """

    def __init__(self) -> None:
        self.events = 0
        self._sum = 0

    def add(self, event: RecordedEvent) -> None:
        digest = hashlib.sha256(f"{event.stream}\n{event.version}\n{event.topic}\n".encode())
        digest.update(event.data)
        self._sum += int.from_bytes(digest.digest(), "big")
        self.events += 1

    def hex(self) -> str:
        return f"{self._sum % 2**256:064x}"


class _Provenance(msgspec.Struct):
    """What a store may keep beside the event."""

    id: str
    cmd: str


_PROVENANCE: Final = msgspec.json.Decoder(_Provenance)


async def read_log(log: EventLog, *, upto: int) -> AsyncIterator[list[RecordedEvent]]:
    """Everything up to a position, page by page. Raises StoreUnavailable."""
    after = START
    while page := [event for event in await log.read_all(after=after, limit=PAGE) if event.position <= upto]:
        yield page
        after = page[-1].position


async def digest_log(log: EventLog, *, upto: int, on_events: Callable[[int], None] = lambda events: None) -> LogDigest:
    """`on_events` hears how many were read so far. Raises StoreUnavailable."""
    digest = LogDigest()
    async for page in read_log(log, upto=upto):
        for event in page:
            digest.add(event)
        on_events(digest.events)
    return digest


async def copy_log(
    source: EventLog, target: EventLog, *, upto: int, on_events: Callable[[int], None] = lambda events: None
) -> None:
    """Copies everything up to a position. What the target has already is left out, so that a copy which was broken off
    goes on; nobody else may write it meanwhile. Raises CopyFailed, StoreUnavailable."""
    batch, done = _Batch(), 0
    async for page in read_log(source, upto=upto):
        for event in page:
            if not batch.takes(event):
                await _append(target, batch)
                batch = _Batch()
            batch.add(event)
        done += len(page)
        on_events(done)
    await _append(target, batch)


class _Batch:
    def __init__(self) -> None:
        self._streams: dict[str, list[RecordedEvent]] = {}
        self._bytes: dict[str, int] = {}
        self._changed: set[str] = set()
        """Conversations with an event since the last one of their receipts."""
        self._events = 0

    def takes(self, event: RecordedEvent) -> bool:
        if self._events >= BATCH_EVENTS or self._bytes.get(event.stream, 0) >= APPEND_BYTES_MAX:
            return False
        if event.stream.startswith(_RECEIPTS) and event.stream in self._streams:
            return event.stream.removeprefix(_RECEIPTS) not in self._changed
        return True

    def add(self, event: RecordedEvent) -> None:
        if event.stream.startswith(_CONVERSATION):
            self._changed.add(event.stream.removeprefix(_CONVERSATION))
        self._streams.setdefault(event.stream, []).append(event)
        self._bytes[event.stream] = self._bytes.get(event.stream, 0) + len(event.data)
        self._events += 1

    def appends(self) -> list[Append]:
        return [
            Append(stream=stream, expected=events[0].version - 1, events=[_new(event) for event in events])
            for stream, events in self._streams.items()
        ]


def _new(event: RecordedEvent) -> NewEvent:
    provenance = _PROVENANCE.decode(event.data)
    return NewEvent(id=provenance.id, topic=event.topic, data=event.data, cause=provenance.cmd)


async def _append(target: EventLog, batch: _Batch) -> None:
    appends = batch.appends()
    if not appends:
        return
    for append, outcome in zip(appends, await target.append(appends), strict=True):
        match outcome:
            case Appended():
                pass
            case Conflict():
                await _append_rest(target, append, outcome)
            case _:
                raise StoreUnavailable(outcome.reason)


async def _append_rest(target: EventLog, append: Append, conflict: Conflict) -> None:
    """Where a part is there already, from a copy that was broken off."""
    last = append.expected + len(append.events)
    there = await target.read_stream(append.stream, after=append.expected, limit=len(append.events))
    if conflict.current < append.expected or [event.data for event in there] != [
        event.data for event in append.events[: len(there)]
    ]:
        raise CopyFailed(f"the log that is copied to holds other events in {append.stream}: it must be an empty one")
    if conflict.current > last:
        return
    rest = Append(stream=append.stream, expected=append.expected + len(there), events=append.events[len(there) :])
    if rest.events:
        [outcome] = await target.append([rest])
        if not isinstance(outcome, Appended):
            raise StoreUnavailable(f"{append.stream} could not be copied: {outcome}")
