"""The double's log: one append-only file, written and synced before anything is answered or shown.

What is asked for while a sync runs shares the next one. Readers see only what is synced; events are shown before the
append that brought them is answered, as a node does.
"""

import asyncio
import fcntl
import logging
import mmap
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.kurrentdb import records
from tests.kurrentdb.book import Book, Stream
from tests.kurrentdb.metadata import DELETED, METADATA, NOTHING, with_truncate_before
from tests.kurrentdb.records import Frame, Proposed
from tests.kurrentdb.rules import (
    Accepted,
    Deleted,
    Repeated,
    Verdict,
    WrongVersion,
    check_append,
    check_delete,
    check_tombstone,
)

FILE: Final = "log"
_PAGE_BYTES: Final = 1 << 20

_log = logging.getLogger(__name__)


class Done(NamedTuple):
    """It is in the log."""

    position: int
    """Of the last event; 0 where reads don't show it any more."""
    version: int
    """The stream's last one, or of a repeated append its own last one; -1: the stream has no event."""


Outcome = Done | WrongVersion | Deleted
_Write = Callable[[Frame], Outcome]
"""Decides, and adds to the frame what is to be written. A frame that nothing was added to is dropped."""


class Log:
    def __init__(self, folder: Path) -> None:
        """OSError where another process has it open."""
        folder.mkdir(parents=True, exist_ok=True)
        self.book = Book()
        self.blanks = {0}
        """Positions of records that hold no event."""
        self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.end = self._recover()
        self.shown = len(self.book)
        """How many events readers may see."""
        self._grown = asyncio.Event()
        self._asked: list[tuple[_Write, asyncio.Future[Outcome]]] = []
        self._wakened = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, "disk")

    def _recover(self) -> int:
        size = os.fstat(self._file).st_size
        end = len(records.MAGIC)
        if size < end:
            os.pwrite(self._file, records.MAGIC, 0)
            os.fsync(self._file)
            return end
        with mmap.mmap(self._file, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            assert bytes(data[:end]) == records.MAGIC, "not a log of the double"
            for start, after, held in records.frames(data):
                for record in held:
                    self.book.add(record, is_recent=False)
                if not held:
                    self.blanks.add(start)
                end = after
        os.ftruncate(self._file, end)
        return end

    async def append(self, stream: str, expected: int, events: Sequence[Proposed]) -> Outcome:
        return await self._ask(lambda frame: self._append(frame, self.book.stream(stream), expected, events))

    async def delete(self, stream: str, expected: int) -> Outcome:
        return await self._ask(lambda frame: self._delete(frame, self.book.stream(stream), expected))

    async def tombstone(self, stream: str, expected: int) -> Outcome:
        return await self._ask(lambda frame: self._tombstone(frame, self.book.stream(stream), expected))

    async def more_than(self, ordinal: int) -> None:
        """Returns once so many events, and one more, are shown."""
        while self.shown <= ordinal:
            await self._grown.wait()

    def messages(self, ordinals: Sequence[int]) -> Iterator[bytes]:
        """The serialized ReadResp of each."""
        book = self.book
        if len(ordinals) > 1 and ordinals[-1] - ordinals[0] == len(ordinals) - 1:
            start = book.positions[ordinals[0]]
            end = records.message_at(book.positions[ordinals[-1]]) + book.lengths[ordinals[-1]]
            if end - start <= _PAGE_BYTES:
                page = os.pread(self._file, end - start, start)
                for ordinal in ordinals:
                    at = records.message_at(book.positions[ordinal]) - start
                    yield page[at : at + book.lengths[ordinal]]
                return
        for ordinal in ordinals:
            yield os.pread(self._file, book.lengths[ordinal], records.message_at(book.positions[ordinal]))

    async def run(self) -> None:
        """Writes what is asked for, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wakened.wait()
            self._wakened.clear()
            asked, self._asked = self._asked, []
            start, parts, outcomes = self.end, list[bytes](), list[Outcome]()
            for write, _ in asked:
                frame = Frame(self.end)
                outcomes.append(write(frame))
                if self.end != frame.start:
                    parts.append(frame.encode())
            if parts:
                try:
                    await loop.run_in_executor(self._disk, self._store, b"".join(parts), start)
                except OSError:
                    # The book is ahead of the file: only a new start mends that.
                    _log.exception("can't write the log")
                    os._exit(1)
            self.shown = len(self.book)
            grown, self._grown = self._grown, asyncio.Event()
            grown.set()
            for (_, answer), outcome in zip(asked, outcomes, strict=True):
                if not answer.done():
                    answer.set_result(outcome)

    def close(self) -> None:
        self._disk.shutdown()
        os.close(self._file)

    def _ask(self, write: _Write) -> "asyncio.Future[Outcome]":
        answer = asyncio.get_running_loop().create_future()
        self._asked.append((write, answer))
        self._wakened.set()
        return answer

    def _store(self, data: bytes, at: int) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self._file, left, at)
            left, at = left[written:], at + written
        os.fdatasync(self._file)

    def _append(self, frame: Frame, stream: Stream, expected: int, events: Sequence[Proposed]) -> Outcome:
        verdict = check_append(self.book, stream, expected, [event.id for event in events])
        if not isinstance(verdict, Accepted):
            return self._refuse(stream, verdict)
        was_deleted, position = stream.is_deleted, frame.start
        for event in events:
            position = self._add(frame, stream.name, stream.last + 1, event)
        if not events:
            self.blanks.add(position)
        if was_deleted:
            raw = with_truncate_before(stream.raw_meta, stream.last + 1 - len(events))
            self._add_metadata(frame, stream, raw)
        self.end = frame.end
        return Done(position, stream.last)

    def _delete(self, frame: Frame, stream: Stream, expected: int) -> Outcome:
        verdict = check_delete(self.book, stream, expected)
        if not isinstance(verdict, Accepted):
            return self._refuse(stream, verdict)
        position = self._add_metadata(frame, stream, with_truncate_before(NOTHING, DELETED))
        self.end = frame.end
        return Done(position, stream.last)

    def _tombstone(self, frame: Frame, stream: Stream, expected: int) -> Outcome:
        verdict = check_tombstone(self.book, stream, expected)
        if not isinstance(verdict, Accepted):
            return self._refuse(stream, verdict)
        event = Proposed(uuid.uuid4().bytes, records.TOMBSTONE, records.BYTES, b"", b"")
        position = self._add(frame, stream.name, records.TOMBSTONE_VERSION, event)
        self.end = frame.end
        return Done(position, stream.last)

    def _add(self, frame: Frame, stream: str, version: int, event: Proposed) -> int:
        record = frame.add(stream, version, event)
        self.book.add(record, is_recent=True)
        return record.position

    def _add_metadata(self, frame: Frame, stream: Stream, raw: bytes) -> int:
        meta_stream = self.book.stream(f"$${stream.name}")
        event = Proposed(uuid.uuid4().bytes, METADATA, records.JSON, b"", raw)
        return self._add(frame, meta_stream.name, meta_stream.last + 1, event)

    def _refuse(self, stream: Stream, verdict: Verdict) -> Outcome:
        """Of what is not to be written."""
        if not isinstance(verdict, Repeated):
            assert not isinstance(verdict, Accepted)
            return verdict
        is_shown = verdict.last >= self.book.first_shown(stream, stream.last)
        position = self.book.positions[stream.ordinals[verdict.last]] if is_shown else 0
        return Done(position, verdict.last)
