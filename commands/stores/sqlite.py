"""The event log in a SQLite file: the embedded default.

Positions are rowids. SQLite lets in one writing transaction at a time and nothing is ever deleted, so they are given in
the order of the commits, and a reader never meets one late.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final, Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

import apsw

from commands.measures import SECONDS, Histogram
from commands.stores.pace import Pace
from commands.stores.sqlite_recorder import CommitFailed, Recorder
from commands.stores.tail import Signal, tail
from domain.log import (
    NO_STREAM,
    START,
    Append,
    Outcome,
    RecordedEvent,
    StoreError,
    StoreUnavailable,
    Unavailable,
    Unknown,
)

LOCK_TIMEOUT_S: Final = 5.0
"""How long another process may hold the lock before an append or a read gives up."""

LOCK_RETRY_S: Final = 0.002

POLL_S: Final = 0.1
"""How often a subscription looks for what other processes wrote."""

PAGE_MAX: Final = 256
"""The most events that a subscription reads at once: about half a millisecond of the loop."""

WAL_PAGES_MAX: Final = 1_024
"""By how many pages of 4 KiB the write-ahead log grows before it is moved into the file. A commit that meets a larger
move waits longer for the disk."""

CHECKPOINT_LOCK_S: Final = 0.02
"""How long the end of a checkpoint waits for readers in other processes, while appends wait for it."""

T = TypeVar("T")

_REMEDIES: Final = {
    apsw.SQLITE_BUSY: "another process holds its lock: end that process, or wait for it",
    apsw.SQLITE_CANTOPEN: "check that the folder exists, and that this user may read and write there",
    apsw.SQLITE_CORRUPT: "restore it from a backup",
    apsw.SQLITE_ERROR: "it may be the database of another program: name another path",
    apsw.SQLITE_FULL: "make room on the disk",
    apsw.SQLITE_IOERR: "check the disk and the system's log",
    apsw.SQLITE_NOTADB: "name another path, or move this file away",
    apsw.SQLITE_READONLY: "give this user the right to write the file and its folder",
}

_log = logging.getLogger(__name__)


def open_sqlite(url: str, *, read_only: bool = False) -> "SqliteLog":
    """Opens `sqlite:///absolute/path/to/log.db`, and makes the file where there is none, but not where it is only to be
    read. Raises StoreError."""
    path = path_of(url)
    _check_place(path, read_only=read_only)
    log = SqliteLog(path, read_only=read_only)
    try:
        log.prepare()
    except apsw.Error as error:
        log.recorder.close()
        raise StoreError(_explain(path, error)) from error
    return log


class SqliteLog:
    """Commits and reads in place, in the loop's thread, which costs less than handing over to another; where the disk
    is slow, commits run in a thread (`commands.stores.pace`). Beside that it suspends only while another process holds
    the lock, and for the end of a checkpoint."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Only `open_sqlite` makes one."""
        self.recorder = Recorder(f"file:{quote(str(path))}?mode={'ro' if read_only else 'rwc'}")
        self._path = path
        self._read_only = read_only
        self._stored = Signal()
        self._wal_pages_left = 0
        """How many the last move had to leave in the write-ahead log, for a reader in another process."""
        self._free = asyncio.Event()
        """Neither a commit nor the end of a checkpoint runs in a thread."""
        self._free.set()
        self._pace = Pace()
        self.commits = Histogram(SECONDS)
        """How long each took, wherever it ran."""
        self._committer = ThreadPoolExecutor(1, "commit")  # Of its own: behind other work a commit would wait.
        self._checkpointing: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Makes the table where it is missing, and reads from it. Raises apsw.Error."""
        if not self._read_only:
            self.recorder.create_table()
        self.recorder.read_all(START, 1)

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        if self._checkpointing is not None:
            await asyncio.sleep(0)  # Where whoever appends never suspends, the checkpoint must get its turn, too.
        try:
            outcomes = await self._when_unlocked(lambda: self.recorder.insert(batch), self._free)
            if self._pace.in_thread:
                took = await self._alone(self._committer, partial(_timed, self.recorder.commit))
            else:
                took = _timed(self.recorder.commit)
            self._pace.add(took)
            self.commits.observe(took)
        except CommitFailed as failed:
            return [self._commit_failed(failed)] * len(batch)
        except apsw.Error as error:
            return [Unavailable(reason=_explain(self._path, error))] * len(batch)
        self._stored.give()
        self._checkpoint_when_due()
        return outcomes

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        return await self._page(lambda: self.recorder.read_stream(stream, after, limit), limit)

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        return await self._page(lambda: self.recorder.read_all(after, limit), limit)

    async def read_last(self, limit: int) -> list[RecordedEvent]:
        return await self._page(lambda: self.recorder.read_last(limit), limit)

    async def head(self) -> int:
        return await self._read(self.recorder.head)

    def subscribe(self, *, after: int = START) -> AsyncGenerator[list[RecordedEvent], None]:
        return tail(lambda at: self.read_all(after=at, limit=PAGE_MAX), self._stored, after=after, poll_s=POLL_S)

    async def close(self) -> None:
        if self._checkpointing is not None:
            await asyncio.wait([self._checkpointing])
        if not self._read_only:
            await self._checkpoint("TRUNCATE")
        self._committer.shutdown()
        self.recorder.close()
        self._stored.give()  # Subscriptions meet the closed file, and end.

    async def _alone(self, executor: ThreadPoolExecutor | None, work: Callable[[], T]) -> T:
        """In a thread, while no append begins."""
        while not self._free.is_set():
            await self._free.wait()
        self._free.clear()
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        finally:
            self._free.set()

    async def _page(self, read: Callable[[], list[RecordedEvent]], limit: int) -> list[RecordedEvent]:
        events = await self._read(read)
        if len(events) == limit:
            await asyncio.sleep(0)  # There is more: whoever reads page by page gives the loop its turn in between.
        return events

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await self._when_unlocked(read)
        except apsw.Error as error:
            raise StoreUnavailable(_explain(self._path, error)) from error

    async def _when_unlocked(self, work: Callable[[], T], free: asyncio.Event | None = None) -> T:
        give_up = monotonic() + LOCK_TIMEOUT_S
        while True:
            while free is not None and not free.is_set():
                await free.wait()
            try:
                return work()
            except apsw.BusyError:
                if monotonic() > give_up:
                    raise
            await asyncio.sleep(LOCK_RETRY_S)

    def _commit_failed(self, failed: CommitFailed) -> Outcome:
        reason = _explain(self._path, failed.__cause__)
        # A full disk shows at the frames themselves, the last of which makes them valid. All else may be the fsync.
        if _code(failed.__cause__) in (apsw.SQLITE_BUSY, apsw.SQLITE_FULL):
            return Unavailable(reason=reason)
        return Unknown(reason=reason)

    def _checkpoint_when_due(self) -> None:
        if self.recorder.wal_pages - self._wal_pages_left >= WAL_PAGES_MAX and self._checkpointing is None:
            self._checkpointing = asyncio.create_task(self._checkpoint("RESTART"))

    async def _checkpoint(self, last: Literal["RESTART", "TRUNCATE"]) -> None:
        """Most of it beside the writer, and then what came in meanwhile, so that little is left to be moved while
        appends wait. The write-ahead log is written again from its beginning then, not cut: an fsync that need not
        record a longer file costs half. A failure is only told: nothing is lost by a long write-ahead log."""
        checkpoint = partial(self.recorder.checkpoint, lock_timeout_s=CHECKPOINT_LOCK_S)
        try:
            for _ in range(2):
                await asyncio.to_thread(checkpoint, "PASSIVE")
            await self._alone(None, partial(checkpoint, last))
        except apsw.Error as error:
            _log.warning("the write-ahead log could not be moved into the file: %s", _explain(self._path, error))
        self._wal_pages_left = self.recorder.wal_pages
        self._checkpointing = None


def _timed(work: Callable[[], None]) -> float:
    """The seconds that it took."""
    begin = perf_counter()
    work()
    return perf_counter() - begin


def path_of(url: str) -> Path:
    """The file that the URL names. Raises StoreError."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc or not parts.path.strip("/") or parts.fragment:
        raise StoreError(f"{url!r} names no file: write sqlite:///absolute/path/to/log.db")
    if parts.query:
        raise StoreError(f"{url!r} has an option, and none is known here: leave out ?{parts.query}")
    return Path("/" + unquote(parts.path).lstrip("/"))


def _check_place(path: Path, *, read_only: bool) -> None:
    if path.is_dir():
        raise StoreError(f"{path} is a folder: name a file in it, such as {path / 'log.db'}")
    if read_only and not path.exists():
        raise StoreError(f"there is no event log at {path}: correct the path, or start the engine, which makes it")
    if not path.parent.is_dir():
        raise StoreError(f"the folder {path.parent} does not exist: make it, or correct the path")
    as_the_kernel_does = os.access in os.supports_effective_ids
    if not read_only and path.exists() and not os.access(path, os.W_OK, effective_ids=as_the_kernel_does):
        # SQLite would open it, and refuse every append.
        raise StoreError(f"this user may not write {path}: change its rights")


def _explain(path: Path, error: BaseException | None) -> str:
    remedy = _REMEDIES.get(_code(error))
    return f"the event log {path}: {error}" + (f" ({remedy})" if remedy else "")


def _code(error: BaseException | None) -> int:
    """SQLite's primary result code; 0 where the binding itself complains."""
    return int(getattr(error, "result", 0)) & 0xFF
