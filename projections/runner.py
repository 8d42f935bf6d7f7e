"""Feeds one read model: events in batches, the rows and the position in one transaction.

The steps of a batch: wait for an event after the model's position, gather what comes within `gather_ms` (or at once,
where somebody waits for the model), read the batch, write it, and wake those who wait for a position that is reached.
"""

import asyncio
import logging
from collections.abc import Sequence

from domain.codec import Event
from domain.log import StoreUnavailable
from projections.feed import Feed, retry_delays
from projections.readmodel import ReadModel, ReadModelStopped, TrackingAhead

logger = logging.getLogger(__name__)


class _Poisonous(Exception):
    """One event can't be applied; the model stands right before it."""

    def __init__(self, event: Event) -> None:
        self.event = event


class Runner:
    """`run` is to be a task of its own; it ends when it is cancelled, or when the model fails."""

    def __init__(self, feed: Feed, model: ReadModel, *, batch_max: int = 500, gather_ms: int = 100) -> None:
        """The feed has been started. Raises TrackingAhead."""
        self._feed = feed
        self._model = model
        self._batch_max = batch_max
        self._gather_s = gather_ms / 1_000
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._hurry = asyncio.Event()
        """Is set while somebody waits."""
        self.position = model.position
        """All events up to it are in the rows."""
        self.stopped: str | None = None
        """Why the model stopped; None while it runs."""
        if self.position > feed.head:
            raise TrackingAhead(
                f"the read model {model.name!r} stands at position {self.position}, and the log ends at {feed.head}:"
                f" the log was restored from an older copy. Delete {model.db.path}: it is rebuilt from the log."
            )

    async def run(self) -> None:
        self.stopped = None
        try:
            behind = self._feed.head > self.position
            while True:
                if not behind:
                    await self._gather()
                self._apply(await self._read())
                self._wake()
                if self._model.db.checkpoint_is_due():
                    await asyncio.to_thread(self._model.db.checkpoint)
                # Asked before the loop goes on: what is published meanwhile is gathered, or a batch would be tiny.
                behind = self._feed.head > self.position
                # A model that has much to catch up on lets the others have the loop between its batches.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self._give_up(f"the read model {self._model.name!r} was shut down at position {self.position}")
            raise
        except Exception as error:
            self._give_up(f"the read model {self._model.name!r} stopped at position {self.position}: {_reason(error)}")
            logger.error(self.stopped, exc_info=error)

    async def wait(self, position: int) -> None:
        """Returns when the model is at least there; meanwhile it gathers nothing. Raises ReadModelStopped."""
        if self.position >= position:
            return
        if self.stopped is not None:
            raise ReadModelStopped(self.stopped)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = position
        self._hurry.set()
        try:
            await waiter
        finally:
            self._waiters.pop(waiter, None)

    async def _gather(self) -> None:
        await self._feed.wait_beyond(self.position)
        try:
            async with asyncio.timeout(self._gather_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _read(self) -> list[Event]:
        for delay in retry_delays():
            try:
                events = await self._feed.read(after=self.position, limit=self._batch_max)
            except StoreUnavailable as error:
                logger.warning("the read model %r can't read the log now: %s", self._model.name, error)
                await asyncio.sleep(delay)
            else:
                assert events, f"the log has nothing after {self.position}, though it went up to {self._feed.head}"
                return events
        raise AssertionError("the delays never end")

    def _apply(self, events: Sequence[Event]) -> None:
        """Where a batch fails it is halved, until everything before the poisonous event is in."""
        try:
            self._model.advance(events)
        except Exception as error:
            if len(events) == 1:
                raise _Poisonous(events[0]) from error
            half = len(events) // 2
            self._apply(events[:half])
            self._apply(events[half:])
        else:
            self.position = events[-1].position

    def _wake(self) -> None:
        for waiter, position in list(self._waiters.items()):
            if position <= self.position:
                del self._waiters[waiter]
                if not waiter.done():
                    waiter.set_result(None)
        if not self._waiters:
            self._hurry.clear()

    def _give_up(self, reason: str) -> None:
        self.stopped = reason
        self._wake()  # A part of the batch may be in.
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ReadModelStopped(reason))
        self._waiters.clear()


def _reason(error: Exception) -> str:
    if not isinstance(error, _Poisonous):
        return f"{error!r}"
    event = error.event
    what = type(event.entry.e).__name__
    return f"{what} at position {event.position} ({event.stream}, version {event.version}): {error.__cause__!r}"
