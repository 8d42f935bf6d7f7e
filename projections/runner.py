"""Feeds one read model: events in batches, the rows and the position in one transaction.

The steps of a batch: wait for an event after the model's position, gather what comes within `gather_ms` (or at once,
where somebody waits for the model), read the batch, write it, and wake those who wait for a position that is reached.

What can go wrong:

    an event can't be applied     found by halving the batch, and parked (`projections/filling.py`); the rest goes on
    the store can't be read,      half of the batch is tried again, after 0.1 s and then less and less often, up to
    the rows can't be written     every 5 s; from the `TRIES_IN_SILENCE`th failure on, whoever waits for the model is
                                  told
    a checkpoint fails            it is tried again after `CHECKPOINT_PAUSE_S`
    the database's connection     it is made anew, and the batches go on after the position that is found there: what
    is lost                       the server had not on disk yet when it died, is fed again; it is tried every second
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from domain.codec import Event
from domain.log import StoreUnavailable
from projections.database import DATABASE_ERRORS, is_file_trouble
from projections.feed import Feed, Undecodable, retry_delays
from projections.filling import Filler, apply_until_failure, is_of_log
from projections.parking import Failed, HeldBack, NotParked, Parked, ParkedFull, failed, rests_on, undecodable
from projections.readmodel import OtherLog, ReadModel, ReadModelStopped, TrackingAhead

logger = logging.getLogger(__name__)

TRIES_IN_SILENCE: Final = 3
"""What is over by then, some 0.3 s later, nobody needs to know of."""
RECONNECT_MAX_S: Final = 1.0
"""Nobody can read meanwhile: a server that is back is to be noticed soon."""
CHECKPOINT_PAUSE_S: Final = 30.0
_EXPECTED: Final = (StoreUnavailable, ParkedFull, TrackingAhead, OtherLog)
"""They say all themselves, without a traceback."""


class Retried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a parked stream, and of those that waited behind it."""

    applied: int
    """So many events are in the rows now."""
    parked: list[Parked]
    """What is still parked of them."""


class Runner:
    """`run` is to be a task of its own; it ends only when it is cancelled."""

    def __init__(
        self,
        feed: Feed,
        model: ReadModel,
        *,
        batch_max: int = 500,
        gather_ms: int = 100,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        """The feed has been started. `clock` gives microseconds since 1970."""
        self._feed = feed
        self._filler = Filler(model, clock)
        self._batch_max = batch_max
        self._batch = batch_max
        """How many events are tried at once."""
        self._gather_s = gather_ms / 1_000
        self._clock = clock
        self._waiters: dict[asyncio.Future[None], int] = {}
        self._hurry = asyncio.Event()
        """Is set while somebody waits."""
        self._writing = asyncio.Lock()
        """Held by whoever writes the file: the runner, a checkpoint, or an operator's retry."""
        self._behind = False
        self._idle: asyncio.Timeout | None = None
        """While it waits for events."""
        model.db.on_lost = self._hear_of_loss
        self._checkpoint_from = 0.0
        self.tries = 0
        """How often the batch at hand has failed."""
        self.stopped: str | None = None
        """Why the model stands still; None while it goes on, or has just begun to try again."""
        self._checked = False
        """Whether the rows are known to be of this log."""

    @property
    def model(self) -> ReadModel:
        """The one that serves now: not to be kept, since another may take its place."""
        return self._filler.model

    @property
    def position(self) -> int:
        """All events up to it are in the rows, or parked."""
        return self._filler.position

    @property
    def parked(self) -> int:
        """How many streams are parked."""
        return self._filler.parked

    async def check(self) -> None:
        """Whether the rows are of this log: `run` asks first, and whoever starts the engine may ask before. Raises
        TrackingAhead, OtherLog, StoreUnavailable."""
        name, remedy = self.model.name, self.model.db.remedy
        if self.position > self._feed.head:
            raise TrackingAhead(
                f"the read model {name!r} stands at position {self.position}, and the log ends at {self._feed.head}: it"
                f" was restored from an older copy, or is another one. Name the right one by SIGNET_EVENTS; or, where"
                f" it is to be kept, {remedy}: it is rebuilt from the log."
            )
        if not await is_of_log(self.model, self._feed):
            raise OtherLog(
                f"the read model {name!r} was made from another log: this one lacks its last event. Name the right log"
                f" by SIGNET_EVENTS; or, where it is to be kept, {remedy}: it is rebuilt from the log."
            )
        self._checked = True

    async def run(self) -> None:
        self.stopped = None
        self._behind = self._feed.head > self.position
        delays = retry_delays()
        try:
            while True:
                try:
                    await self._step()
                except Exception as error:
                    self._fail(error)
                    delay = next(delays)
                    await asyncio.sleep(min(delay, RECONNECT_MAX_S) if self.model.db.lost else delay)
                else:
                    if self.tries:
                        self._recover()
                        delays = retry_delays()
        except asyncio.CancelledError:
            self._stop(f"the read model {self.model.name!r} was shut down at position {self.position}")
            raise

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

    @property
    def connected(self) -> bool:
        """Whether the rows can be reached."""
        return not self.model.db.lost

    def is_parked(self, *streams: str) -> bool:
        """Whether the rows lack the later events of one of these streams."""
        return self.parked > 0 and any(self.model.parking.get(stream) is not None for stream in streams)

    async def retry(self, stream: str) -> Retried:
        """Applies what is parked of a stream, in order, up to an event that fails again; then likewise what was held
        back for this stream. Raises NotParked, HeldBack, StoreUnavailable."""
        applied, parked = 0, []
        streams = [stream]
        while streams:
            current = streams.pop(0)
            applied += await self._retry_one(current)
            if (still := self.model.parking.get(current)) is not None:
                parked.append(still)
            else:
                streams += self.model.parking.behind(current)
        return Retried(applied=applied, parked=parked)

    async def skip(self, stream: str) -> Retried:
        """Drops the event that a stream is parked for, until the model is rebuilt, and retries the others. Raises what
        `retry` does."""
        async with self._writing:
            parked = self._parked(stream)
            if parked.reason is not None:
                logger.info("the read model %r goes on without an event: %s", self.model.name, parked)
                with self.model.db.transaction():
                    self.model.parking.skip(parked, self._clock())
                self._filler.count()
        if self.model.parking.get(stream) is None:
            behind = [await self.retry(each) for each in self.model.parking.behind(stream)]
            return Retried(
                applied=sum(each.applied for each in behind), parked=[one for each in behind for one in each.parked]
            )
        return await self.retry(stream)

    async def replace(self, model: ReadModel, decide: Callable[[], None]) -> ReadModel:
        """Another one, that of another build or version, takes the place of the model: it catches up with it, then
        `decide` puts that on record, then it serves. Gives the one that served until now, which somebody may still read
        from. Raises what the log, the new database and `decide` raise; then nothing has changed."""
        filler = Filler(model, self._clock)
        # It may have been filled from the log, which knows events sooner than the feed does.
        await self._feed.wait_beyond(filler.position - 1)
        while filler.position < self.position:
            await filler.fill(self._read, self._batch_max)
            await asyncio.sleep(0)
        async with self._writing:
            while filler.position < self.position:
                await filler.fill(self._read, self._batch_max)
            decide()
            before, self._filler = self._filler.model, filler
            before.db.on_lost = _nothing
            model.db.on_lost = self._hear_of_loss
            self._checked = False
            self._wake()
        with suppress(*DATABASE_ERRORS):  # it is lost, and so is its lock
            before.db.stop_writing()
        return before

    # A batch

    async def _step(self) -> None:
        lost = self.model.db.lost
        if lost or not self._checked:
            if lost:
                await self._reconnect()
            await self.check()
            return  # It is all right again, even if no event comes for long.
        if not self._behind:
            await self._gather()
            if self.model.db.lost:
                return
        # What fails is tried again at once, without gathering.
        self._behind = True
        async with self._writing:
            try:
                await self._filler.fill(self._read, self._batch)
            except Exception:
                self._batch = max(1, self._batch // 2)  # It may be too much at once for a database that is slow.
                raise
            self._batch = min(self._batch_max, self._batch + self._batch // 8 + 1)
            self._wake()
            await self._checkpoint()
        # Asked before the loop goes on: what is published meanwhile is gathered, or a batch would be tiny.
        self._behind = self._feed.head > self.position
        # A model that has much to catch up on lets the others have the loop between its batches.
        await asyncio.sleep(0)

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(None) as self._idle:
                await self._feed.wait_beyond(self.position)
        except TimeoutError:
            return  # The connection is lost.
        finally:
            self._idle = None
        try:
            async with asyncio.timeout(self._gather_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    def _hear_of_loss(self) -> None:
        if self._idle is not None:
            self._idle.reschedule(asyncio.get_running_loop().time())

    async def _reconnect(self) -> None:
        async with self._writing:
            await self.model.db.reconnect()
            # Nobody else has had the loop since then: whoever reads finds the position that belongs to the rows.
            self.model.make_tables()
            self._filler.look_anew()
        self._behind = self._feed.head > self.position
        self._checked = False
        logger.warning("the read model %r is connected again, at position %d", self.model.name, self.position)

    async def _read(self, after: int, limit: int) -> Sequence[Event]:
        events = await self._feed.read(after=after, limit=limit)
        assert events, f"the log has nothing after {after}, though it went up to {self._feed.head}"
        return events

    async def _checkpoint(self) -> None:
        """A failure stops nothing: the write-ahead log grows until it succeeds."""
        loop = asyncio.get_running_loop()
        if not self.model.db.checkpoint_is_due() or loop.time() < self._checkpoint_from:
            return
        try:
            await asyncio.to_thread(self.model.db.checkpoint)
        except Exception as error:
            self._checkpoint_from = loop.time() + CHECKPOINT_PAUSE_S
            logger.warning("a checkpoint of the read model %r failed, and is made later: %r", self.model.name, error)

    # Standing still

    def _fail(self, error: Exception) -> None:
        self.tries += 1
        name, position = self.model.name, self.position
        # The 1st, 2nd, 4th, 8th … time.
        if self.tries.bit_count() == 1:
            expected = isinstance(error, _EXPECTED) or is_file_trouble(error)
            logger.warning(
                "the read model %r stands at position %d (try %d): %r", name, position, self.tries, error,
                exc_info=None if expected else error,
            )  # fmt: skip
        self._wake()  # A part of the batch may be in.
        if self.tries >= TRIES_IN_SILENCE:
            self._stop(f"the read model {name!r} stands at position {position}, and tries again: {error!r}")

    def _recover(self) -> None:
        logger.warning("the read model %r goes on after %d failures", self.model.name, self.tries)
        self.tries = 0
        self.stopped = None

    def _stop(self, reason: str) -> None:
        self.stopped = reason
        self._wake()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ReadModelStopped(reason))
        self._waiters.clear()

    def _wake(self) -> None:
        for waiter, position in list(self._waiters.items()):
            if position <= self.position:
                del self._waiters[waiter]
                if not waiter.done():
                    waiter.set_result(None)
        if not self._waiters:
            self._hurry.clear()

    # Parked streams

    async def _retry_one(self, stream: str) -> int:
        """Page by page, so that the runner can go on in between."""
        applied = 0
        while True:
            async with self._writing:
                parked = self._parked(stream)
                done, failure = await self._retry_page(parked)
                self._filler.count()
            applied += done
            if failure is not None or self.model.parking.get(stream) is None:
                return applied

    async def _retry_page(self, parked: Parked) -> tuple[int, Failed | None]:
        limit = min(self._batch_max, parked.upto - parked.version + 1)
        failure: Failed | None = None
        try:
            events = await self._feed.read_stream(parked.stream, after=parked.version - 1, limit=limit)
            assert events, f"the log lacks version {parked.version} of {parked.stream}"
            done, error = apply_until_failure(self.model.catch_up, events)
            if error is not None:
                failure = failed(events[done], error, self._clock())
        except Undecodable as bad:
            done, failure = 0, undecodable(bad.recorded, bad.cause, self._clock())
        if failure is not None:
            with self.model.db.transaction():
                self.model.parking.fail(failure)
        return done, failure

    def _parked(self, stream: str) -> Parked:
        """Raises NotParked, HeldBack."""
        name = self.model.name
        parked = self.model.parking.get(stream)
        if parked is None:
            raise NotParked(f"{stream} is not parked by the read model {name!r}")
        first = rests_on(stream)
        if first is not None and self.model.parking.get(first) is not None:
            raise HeldBack(f"{stream} waits behind {first} in the read model {name!r}: retry that one")
        return parked


def _nothing() -> None:
    pass
