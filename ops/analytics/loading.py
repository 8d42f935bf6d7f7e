"""`signet analytics load`."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Annotated, Any, Final

import msgspec
import typer
import uvloop
from rich.progress import Progress, TaskID

from domain.log import EventLog, StoreUnavailable
from ops.analytics.loader import Loader, OnBlock
from ops.analytics.opening import opened_log, settings_of
from ops.analytics.place import loader_name, only_loader
from ops.analytics.schema import Mark
from ops.analytics.warehouse import WarehouseUnavailable
from ops.datafolder import DISK_MIN_BYTES, free_bytes
from ops.errors import OpsError
from ops.garbage import calm_garbage_collector
from ops.options import DataOption, JsonOption
from ops.progress import progress_bar
from ops.settings import Settings
from projections.feed import retry_delays

ROOM_MIN_BYTES: Final = 2 * DISK_MIN_BYTES


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    position: int
    """All events up to it are in the tables."""
    events: int
    """How many these are."""
    added: int
    """By this load."""
    deleted_rows: int
    """Of a load that was broken off before; they were loaded anew."""
    unreadable: int
    """Events that this release does not know, of those that were added: they are in the table `events` alone."""
    seconds: float
    """What it took to load what was there at first."""
    events_per_s: int
    """In that time."""


def load(
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C or SIGTERM")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Delete the tables first")] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Load the log's events into ClickHouse's tables, each exactly once; from where the last load ended.

    It reads beside the running engine, which is not disturbed. Broken off at any moment (Ctrl-C, kill -9), the next
    load goes on, and nothing is doubled or missing: `signet analytics verify` shows it. While --follow is at work,
    questions can be asked.

    Examples: `signet analytics load` · `signet analytics load --follow` · `signet analytics load --anew --json`
    """
    settings = settings_of(data)
    calm_garbage_collector()
    with progress_bar("events") as bar, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        loaded = runner.run(_load(settings, bar, follow=follow, anew=anew))
    print(msgspec.json.encode(loaded).decode() if json else _told(loaded))


async def _load(settings: Settings, bar: Progress, *, follow: bool, anew: bool) -> Loaded:
    async with opened_log(settings) as log:
        task = bar.add_task("loading", total=await log.head())
        reached = Mark()

        def advance(mark: Mark) -> None:
            nonlocal reached
            reached = mark
            _advance(bar, task, mark)

        work = _Work(settings, log, advance)
        loaded = await work.load(anew=anew)
        if follow:
            bar.update(task, description="following")
            with _told_to_stop() as stop:
                await _until(stop, work.follow())
        return _upto(loaded, reached)


class _Work:
    def __init__(self, settings: Settings, log: EventLog, on_block: OnBlock) -> None:
        self._settings = settings
        self._log = log
        self._on_block = on_block

    async def load(self, *, anew: bool) -> Loaded:
        async with self._loader(anew=anew) as loader:
            before, began = loader.mark.events, time.perf_counter()
            await loader.load()
            seconds = time.perf_counter() - began
            added = loader.mark.events - before
            return Loaded(
                position=loader.mark.position, events=loader.mark.events, added=added, deleted_rows=loader.deleted,
                unreadable=loader.unreadable,
                seconds=round(seconds, 3), events_per_s=round(added / seconds),
            )  # fmt: skip

    async def follow(self) -> None:
        """Until cancelled: whatever goes away is waited for."""
        delays = retry_delays()
        while True:
            try:
                async with self._loader() as loader:
                    await loader.load()
                    delays = retry_delays()
                    await loader.follow()
            except (WarehouseUnavailable, StoreUnavailable) as error:
                print(f"signet: {error}; trying again", file=sys.stderr)
                await asyncio.sleep(next(delays))

    @asynccontextmanager
    async def _loader(self, *, anew: bool = False) -> AsyncIterator[Loader]:
        with (
            only_loader(self._settings, anew=anew) as warehouse,
            closing(
                Loader(
                    self._log, warehouse, self._on_block, name=loader_name(self._settings), check_room=self._check_room
                )
            ) as loader,
        ):
            await loader.begin(anew=anew)
            yield loader

    def _check_room(self) -> None:
        """The log may be on the same disk, and needs it more."""
        if not self._settings.analytics and free_bytes(self._settings.data) < ROOM_MIN_BYTES:
            raise OpsError(
                f"there is too little room on the disk of {self._settings.data} to load more: less than "
                f"{ROOM_MIN_BYTES // 10**6} MB. What is loaded stays; make room, and load again."
            )


def _upto(loaded: Loaded, mark: Mark) -> Loaded:
    """With what came while it followed."""
    came = max(0, mark.events - loaded.events)
    return msgspec.structs.replace(
        loaded, position=max(mark.position, loaded.position), events=loaded.events + came, added=loaded.added + came
    )


def _advance(bar: Progress, task: TaskID, mark: Mark) -> None:
    shown = bar.tasks[task]
    bar.update(task, total=max(shown.total or 0, mark.position), completed=mark.position, done=mark.events)


@contextmanager
def _told_to_stop() -> Iterator[asyncio.Event]:
    """The first signal lets the block end that is under way; the second ends this process, which loses nothing."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def told(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, told, each)
    try:
        yield stop
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Cancels the work when it is time; what it raises is raised."""
    working, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    working.cancel()
    await asyncio.gather(stopped, return_exceptions=True)
    with suppress(asyncio.CancelledError):
        await working


def _told(loaded: Loaded) -> str:
    unknown = (
        f"\n{loaded.unreadable:,} events are of a newer release, or damaged: they are in the table `events` alone"
        if loaded.unreadable
        else ""
    )
    again = f"; {loaded.deleted_rows:,} rows of a load that was broken off were replaced" if loaded.deleted_rows else ""
    return (
        f"{loaded.added:,} events loaded in {loaded.seconds:.1f} s ({loaded.events_per_s:,} a second){again}\n"
        f"the tables hold {loaded.events:,} events, up to position {loaded.position:,}{unknown}"
    )
