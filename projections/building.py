"""Fills a build of a read model from the log, beside the one that serves, and compares the two.

The comparison is made at one position: that of a snapshot of the rows that serve, up to which the build is filled, and
not beyond.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from domain.codec import Event
from domain.log import EventLog
from projections.database import Database
from projections.feed import Feed, bytes_of
from projections.filling import Filler, is_of_log
from projections.readmodel import ReadModel, hash_rows

BATCH_MAX: Final = 8_000
"""How many events are applied at once: of a thousand conversations, rows that are neighbours come together then, which
costs two thirds of batches of 2,000."""
BATCH_FIRST: Final = 1_000
BATCH_BYTES_MAX: Final = 16_777_216
"""Where texts are long, fewer are."""
NEAR: Final = 4_000
"""With fewer events to go, what comes meanwhile is soon caught up with."""

BEHIND_MAX_S: Final = 5.0
"""How long the comparison waits for rows that are behind: nobody may be there to fill them."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that serve and those of the build, at one position."""

    position: int
    hash_live: str
    hash_rebuilt: str

    @property
    def equal(self) -> bool:
        return self.hash_live == self.hash_rebuilt


class Builder:
    """Fills one model, which nobody else writes."""

    def __init__(
        self,
        log: EventLog,
        model: ReadModel,
        *,
        on_batch: Callable[["Builder"], None] = lambda builder: None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        """`on_batch` is called after each batch; `clock` gives microseconds since 1970."""
        self.model = model
        self._log = log
        self._feed = Feed(log)
        self._filler = Filler(model, clock)
        self._on_batch = on_batch
        self._batch = min(BATCH_FIRST, BATCH_MAX)
        self.events = 0
        """How many were read."""
        self.took_s = 0.0
        """How long that took, with what was made of them."""

    @property
    def position(self) -> int:
        return self._filler.position

    @property
    def parked(self) -> int:
        """How many streams have events that could not be applied."""
        return self._filler.parked

    async def is_of_this_log(self) -> bool:
        """Whether the rows that are there already come from it. Raises StoreUnavailable."""
        return self.position <= await self._log.head() and await is_of_log(self.model, self._feed)

    async def fill(self, upto: int) -> int:
        """With all events up to a position: gives how many there were. Raises StoreUnavailable, ParkedFull, and what
        the database raises."""
        began, before = time.perf_counter(), self.events
        await self._feed.start()
        while await self._filler.fill(partial(self._read, upto), self._batch):
            self._on_batch(self)
            if self.model.db.checkpoint_is_due():
                self.model.db.checkpoint()
            await asyncio.sleep(0)
        self.took_s += time.perf_counter() - began
        return self.events - before

    async def fill_to_head(self) -> None:
        """Until little has come meanwhile. Raises as `fill`."""
        while await self.fill(await self._log.head()) > NEAR:
            pass

    async def compare(self, live: Database) -> Compared | None:
        """With the rows that serve, by a connection that only reads. None: they are behind, and stay there. Raises as
        `fill`."""
        if not await self._is_reached(live):
            return None
        while await self.fill(position_of(live)) > NEAR:
            pass
        with live.snapshot():
            position = position_of(live)
            await self.fill(position)
            return Compared(
                position=position, hash_live=hash_rows(live, self.model.tables), hash_rebuilt=self.model.row_hash()
            )

    async def _is_reached(self, live: Database) -> bool:
        """Whether what serves comes to where the build is: this was filled before, up to the log's end."""
        give_up = time.monotonic() + BEHIND_MAX_S
        while position_of(live) < self.position:
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(0.05)
        return True

    async def _read(self, upto: int, after: int, limit: int) -> Sequence[Event]:
        events = [event for event in await self._feed.read(after=after, limit=limit) if event.position <= upto]
        self.events += len(events)
        if bytes_of(events) > BATCH_BYTES_MAX:
            self._batch = max(1, limit // 2)
        elif len(events) == limit and 2 * bytes_of(events) <= BATCH_BYTES_MAX:
            self._batch = min(BATCH_MAX, 2 * limit)
        return events


def position_of(db: Database) -> int:
    """Up to which events are in the rows."""
    [[position]] = db.query("SELECT position FROM readmodel")
    at: int = position
    return at
