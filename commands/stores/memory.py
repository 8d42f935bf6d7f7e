"""An event log in memory, for tests.

The events live in a `Medium`, which outlives the logs that are opened on it, as a disk outlives a process. It differs
from SQLite wherever the port lets it: positions have gaps, calls suspend, a subscriber hears of an event before its
writer does, and any part of a batch may fail (`Medium.faults`).
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from operator import attrgetter
from typing import Final, assert_never

from commands.stores.faults import Fate, Faults
from commands.stores.tail import Signal, tail
from domain.log import (
    NO_STREAM,
    START,
    Append,
    Appended,
    Conflict,
    Outcome,
    RecordedEvent,
    StoreUnavailable,
    Unavailable,
    Unknown,
)

POSITION_STEP: Final = 7

PAGE_MAX: Final = 256


class Medium:
    """What outlives a restart: the events, and the appends that are still on their way."""

    def __init__(self) -> None:
        self.stored = Signal()
        self.faults = Faults(self.stored)
        self.log: list[RecordedEvent] = []
        self.streams: dict[str, list[RecordedEvent]] = {}
        self._delayed: list[Append] = []

    def append(self, batch: Sequence[Append]) -> list[Outcome]:
        fates = self.faults.fates(batch)
        earlier, self._delayed = self._delayed, []
        outcomes = [self._meet(append, fates.get(append.stream)) for append in batch]
        self._arrive(earlier)
        return outcomes

    def settle(self) -> None:
        """Delayed appends arrive now."""
        delayed, self._delayed = self._delayed, []
        self._arrive(delayed)

    def _arrive(self, delayed: list[Append]) -> None:
        for append in delayed:
            self._store(append)
        self.stored.give()

    def _meet(self, append: Append, fate: Fate | None) -> Outcome:
        match fate:
            case None:
                return self._store(append)
            case Fate.REFUSED:
                return Unavailable(reason="the store refuses it")
            case Fate.REQUEST_LOST:
                pass
            case Fate.ANSWER_LOST:
                self._store(append)
            case Fate.DELAYED:
                self._delayed.append(append)
            case _:
                assert_never(fate)
        return Unknown(reason="the connection broke")

    def _store(self, append: Append) -> Appended | Conflict:
        stream = self.streams.get(append.stream, [])
        current = len(stream) - 1
        if current != append.expected:
            return Conflict(expected=append.expected, current=current)
        positions = [self._record(append, index) for index in range(len(append.events))]
        version = current + len(positions)
        return Appended(version=version, positions=None if self.faults.positions_hidden else positions)

    def _record(self, append: Append, index: int) -> int:
        new = append.events[index]
        event = RecordedEvent(
            position=(self.log[-1].position if self.log else START) + POSITION_STEP,
            stream=append.stream,
            version=append.expected + 1 + index,
            topic=new.topic,
            data=new.data,
        )
        self.log.append(event)
        self.streams.setdefault(append.stream, []).append(event)
        return event.position


class MemoryLog:
    """A connection to a medium."""

    def __init__(self, medium: Medium) -> None:
        self._medium = medium
        self._closed = False

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        faults = self._medium.faults
        await faults.before_storing()
        if (reason := self._broken()) is not None:
            return [Unavailable(reason=reason)] * len(batch)
        outcomes = self._medium.append(batch)
        await asyncio.sleep(0)  # Subscribers come first.
        await faults.before_answering()
        return outcomes

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        await self._reach()
        return self._medium.streams.get(stream, [])[after + 1 : after + 1 + limit]

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        await self._reach()
        first = bisect_right(self._medium.log, after, key=attrgetter("position"))
        return self._medium.log[first : first + limit]

    async def read_last(self, limit: int) -> list[RecordedEvent]:
        await self._reach()
        return self._medium.log[-limit:] if limit > 0 else []

    async def head(self) -> int:
        await self._reach()
        return self._medium.log[-1].position if self._medium.log else START

    def subscribe(self, *, after: int = START) -> AsyncGenerator[list[RecordedEvent], None]:
        return tail(lambda at: self.read_all(after=at, limit=PAGE_MAX), self._medium.stored, after=after)

    async def close(self) -> None:
        self._closed = True
        self._medium.stored.give()

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if (reason := self._broken()) is not None:
            raise StoreUnavailable(reason)

    def _broken(self) -> str | None:
        if self._closed:
            return "the log was closed"
        return "the store is away" if self._medium.faults.away else None
