"""How committed events come from the writer to the feed: in order of position, and without a hole."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from domain.codec import Codec, Event
from domain.log import START, EventLog, StoreUnavailable

_log = logging.getLogger("signet.writer")
_PAGE: Final = 1_000


class HandOver:
    """An append whose outcome is unknown may stand in the log already, before others that are known to be stored. While
    there is such a one, what is handed over is read from the log."""

    def __init__(self, log: EventLog, codec: Codec, publish: Callable[[Sequence[Event]], None]) -> None:
        self._log = log
        self._codec = codec
        self._publish = publish
        self.position = START
        """Everything up to it was handed over."""
        self.behind = False
        """The log may hold more than was handed over."""

    async def give(self, events: Sequence[Event], *, doubtful: bool) -> None:
        """`events`: what the last append has stored, in order. `doubtful`: some append may be stored or not."""
        if doubtful or self.behind:
            self.behind = True
            await self._read_on(doubtful)
        elif events:
            self._give(events)

    async def _read_on(self, doubtful: bool) -> None:
        try:
            while page := await self._log.read_all(after=self.position, limit=_PAGE):
                self._give([self._codec.decode(recorded) for recorded in page])
        except StoreUnavailable as error:
            _log.warning("the store can't be read; what is committed is handed over later: %s", error)
        else:
            self.behind = doubtful

    def _give(self, events: Sequence[Event]) -> None:
        self.position = events[-1].position
        self._publish(events)
