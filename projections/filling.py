"""Fills one read model: a run of events goes into its rows, and what can't be applied is parked
(`projections/parking.py`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from domain.codec import Event
from projections.database import is_file_trouble
from projections.feed import Feed, Undecodable
from projections.parking import Failed, failed, undecodable
from projections.readmodel import ReadModel

logger = logging.getLogger(__name__)

Read = Callable[[int, int], Awaitable[Sequence[Event]]]
"""The events after a position, at most so many; it ends before one that can't be decoded. Raises StoreUnavailable, and
Undecodable where that one is the first."""


class Filler:
    """One for each model; whoever uses it is the only one to write the model meanwhile."""

    def __init__(self, model: ReadModel, clock: Callable[[], int]) -> None:
        """`clock` gives microseconds since 1970."""
        self.model = model
        self._clock = clock
        self.position = model.position
        """All events up to it are in the rows, or parked."""
        self.parked = model.parking.count()
        """How many streams are parked."""

    def look_anew(self) -> None:
        """At the rows: they may be those of an earlier position."""
        self.position = self.model.position
        self.count()

    def count(self) -> None:
        self.parked = self.model.parking.count()

    async def fill(self, read: Read, limit: int) -> int:
        """The next events after the position, at most `limit`: how many there were. Raises what `read` and the database
        raise; a part of them may be in the rows then."""
        try:
            events = await read(self.position, limit)
        except Undecodable as bad:
            self._park(undecodable(bad.recorded, bad.cause, self._clock()))
            return 1
        await self.apply(events)
        return len(events)

    async def apply(self, events: Sequence[Event]) -> None:
        """The events that follow the position."""
        while events:
            done, error = apply_until_failure(self._apply, events)
            if error is not None:
                self._park(failed(events[done], error, self._clock()))
                # Each one that is found has cost several transactions.
                await asyncio.sleep(0)
            events = events[done + 1 :]
        if self.parked:
            self.count()

    def _apply(self, events: Sequence[Event]) -> None:
        self.model.advance(events)
        self.position = events[-1].position

    def _park(self, failure: Failed) -> None:
        self.model.park(failure)
        self.position = failure.position
        self.count()
        logger.error("the read model %r has parked an event: %s", self.model.name, failure)


async def is_of_log(model: ReadModel, feed: Feed) -> bool:
    """Whether the log has the very event that the model has read last. Raises StoreUnavailable."""
    last = model.last
    if last is None:
        return True
    try:
        found = await feed.read_stream(last.stream, after=last.version - 1, limit=1)
    except Undecodable:
        return True  # A newer release has made the rows: what they are of can't be told.
    return bool(found) and found[0].entry.id == last.event


def apply_until_failure(
    apply: Callable[[Sequence[Event]], None], events: Sequence[Event], *, tries: int = 2
) -> tuple[int, Exception | None]:
    """Applies events, all at once or else by halves, up to the first that can't be applied alone: how many are in, and
    what the next one failed with. `apply` leaves out what is in already, so an event is tried twice: what came after
    the commit fails once only. Raises what is not an event's fault."""
    try:
        apply(events)
    except Exception as error:
        if is_file_trouble(error):
            raise
        if len(events) == 1:
            return (0, error) if tries == 1 else apply_until_failure(apply, events, tries=tries - 1)
        half = len(events) // 2
        done, failure = apply_until_failure(apply, events[:half])
        if failure is not None:
            return done, failure
        done, failure = apply_until_failure(apply, events[half:])
        return half + done, failure
    return len(events), None
