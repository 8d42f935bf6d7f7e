"""The committed events, in order of position, decoded once: what every read model and the live pushes are made from.

The writer publishes what it has committed, where this process is the only writer of the store and the store tells the
positions. Everywhere else the feed follows the log (`follow`), and the writer publishes nothing.
"""

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final

from domain.codec import CODEC, Codec, Event
from domain.conversation import MessageSent
from domain.log import START, EventLog, RecordedEvent, StoreUnavailable

logger = logging.getLogger(__name__)

Listener = Callable[[Sequence[Event]], None]

_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0
_FOLLOW_MAX_S: Final = 1.0
"""Nobody gets a push meanwhile: a store that is back is to be noticed soon."""

_position_of = attrgetter("position")


def retry_delays() -> Iterator[float]:
    """How long to wait before each next try to reach a store that is away, in seconds: longer and longer, up to 5."""
    delay = _RETRY_FIRST_S
    while True:
        yield delay
        delay = min(2 * delay, _RETRY_MAX_S)


class Undecodable(Exception):
    """The next event of the log can't be decoded: a newer release wrote it, or its bytes are damaged."""

    def __init__(self, recorded: RecordedEvent, cause: Exception) -> None:
        super().__init__(f"the event at position {recorded.position} can't be decoded: {cause}")
        self.recorded = recorded
        self.cause = cause


class Feed:
    """The events up to `head`. The last ones are kept in memory: at least `recent_max`, at most twice as many, and
    fewer where their texts would be more than `recent_bytes_max`."""

    def __init__(
        self, log: EventLog, codec: Codec = CODEC, *, recent_max: int = 10_000, recent_bytes_max: int = 4_194_304
    ) -> None:
        self._log = log
        self._codec = codec
        self._recent_max = recent_max
        self._recent_bytes_max = recent_bytes_max
        self._recent_bytes = 0
        self._recent: list[Event] = []
        self._recent_since = START
        """Every event with a position greater than this one, up to the head, is in `_recent`."""
        self._listeners: list[Listener] = []
        self._moved = asyncio.Event()
        self.head = START
        """The position of the last event that was published: all events up to it can be read."""

    async def start(self) -> None:
        """Finds the log's head. Nobody may append before it has returned. Raises StoreUnavailable."""
        self.head = self._recent_since = await self._log.head()

    async def follow(self) -> None:
        """Publishes what the log gets from now on, whoever writes it, until cancelled. While the store is away it
        tries again, and goes on from the last position."""
        delays = retry_delays()
        while True:
            try:
                async for batch in self._log.subscribe(after=self.head):
                    self._publish_decoded(batch)
                    delays = retry_delays()
            except StoreUnavailable as error:
                logger.warning("the log can't be followed now: %s", error)
            await asyncio.sleep(min(next(delays), _FOLLOW_MAX_S))

    def publish(self, events: Sequence[Event]) -> None:
        """Hands on what was committed since the last call, in order of position. Gaps between positions are normal."""
        if not events:
            return
        # An event that came late would be lost to everyone who is past its position: better a loud bug.
        assert events[0].position > self.head, f"position {events[0].position} was published after {self.head}"
        self._recent.extend(events)
        self._recent_bytes += bytes_of(events)
        self._trim()
        self.head = events[-1].position
        self._moved.set()
        self._moved = asyncio.Event()
        for listener in self._listeners:
            try:
                listener(events)
            except Exception:
                # The events are committed: whoever fails here may not fail the writer.
                logger.exception("a listener failed on the events up to position %d", self.head)

    def listen(self, callback: Listener) -> None:
        """`callback` gets every batch within `publish`: for what must be fast, and never waits."""
        self._listeners.append(callback)

    async def read(self, *, after: int, limit: int) -> list[Event]:
        """The events after a position and up to the head, in order, at most `limit`; it ends before one that can't be
        decoded. Raises StoreUnavailable, and Undecodable where that one is the first."""
        if after >= self._recent_since:
            first = bisect_right(self._recent, after, key=_position_of)
            return self._recent[first : first + limit]
        head = self.head
        read = await self._log.read_all(after=after, limit=limit)
        return self._decode([recorded for recorded in read if recorded.position <= head])

    async def read_stream(self, stream: str, *, after: int, limit: int) -> list[Event]:
        """As `read`, of one stream, after a version."""
        return self._decode(await self._log.read_stream(stream, after=after, limit=limit))

    def holds(self, position: int) -> bool:
        """Whether all that comes after the position is in memory."""
        return position >= self._recent_since

    async def wait_beyond(self, position: int) -> None:
        """Returns when there is an event after the position."""
        while self.head <= position:
            await self._moved.wait()

    def _decode(self, read: Sequence[RecordedEvent]) -> list[Event]:
        events: list[Event] = []
        for recorded in read:
            try:
                events.append(self._codec.decode(recorded))
            except Exception as error:
                if not events:
                    raise Undecodable(recorded, error) from error
                break
        return events

    def _publish_decoded(self, batch: Sequence[RecordedEvent]) -> None:
        while batch:
            try:
                events = self._decode(batch)
            except Undecodable as error:
                logger.error("it is not published: %s", error)
                self._pass_over(batch[0].position)
                batch = batch[1:]
            else:
                self.publish(events)
                batch = batch[len(events) :]

    def _pass_over(self, position: int) -> None:
        """Whoever reads from before this position reads the log, and finds there what could not be decoded."""
        self._recent.clear()
        self._recent_bytes = 0
        self.head = self._recent_since = position
        self._moved.set()
        self._moved = asyncio.Event()

    def _trim(self) -> None:
        # Rarely and many at once: to take single events from the front of a list moves all the others each time.
        too_long = self._recent_bytes > self._recent_bytes_max
        if len(self._recent) < 2 * self._recent_max and not too_long:
            return
        surplus = (len(self._recent) + 1) // 2 if too_long else len(self._recent) - self._recent_max
        self._recent_since = self._recent[surplus - 1].position
        del self._recent[:surplus]
        self._recent_bytes = bytes_of(self._recent)


def bytes_of(events: Sequence[Event]) -> int:
    """Of the texts that may be long, about: of many events every eighth is looked at."""
    step = 8 if len(events) >= 64 else 1
    facts = [event.entry.e for event in events[::step]]
    return step * sum(len(fact.header) + len(fact.body.box) for fact in facts if isinstance(fact, MessageSent))
