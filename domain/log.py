"""The port of the event log: what the engine asks of a store, whichever it is. The adapters stand in commands/stores/.

The log is one sequence of events, told apart into streams. Within a stream an event has a *version* (0, 1, 2, …,
without gaps); in the whole log it has a *position*, which only grows and may have gaps. Positions never leave the
server's own book-keeping: whatever is kept by others is made of versions.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Final, Protocol

import msgspec

NO_STREAM: Final = -1
"""The expected version of a stream that doesn't exist yet."""

START: Final = 0
"""The position before the first event; that of every event is greater."""


class NewEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event that nobody has recorded yet."""

    id: str
    """A uuid. An append that is tried again carries the same one."""
    topic: str
    data: bytes
    cause: str = ""
    """The id of the command that caused it, for stores that keep it beside the event."""


class RecordedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event as it stands in the log."""

    position: int
    stream: str
    version: int
    topic: str
    data: bytes


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be appended to one stream: all of it or nothing."""

    stream: str
    expected: int
    """The version of the stream's last event, or NO_STREAM. There is no "any": a retry would not be safe."""
    events: Sequence[NewEvent]
    """At least one."""


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """The events are on disk, and survive a power cut."""

    version: int
    """The stream's version now."""
    positions: Sequence[int] | None = None
    """The position of each event, where the store tells them all."""
    last: int | None = None
    """That of the last event, where the store tells this alone."""


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was stored of this append: the stream is not where it was expected to be."""

    expected: int
    current: int


class Unavailable(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was stored of this append, and nothing will be: the store could not be reached, or refused it."""

    reason: str


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """The connection broke, or the time ran out: the append may be stored already, or be stored yet, or never.

    The way out is the very same append again (ids and expected version), until the answer is Appended or Conflict;
    after a Conflict the stream itself says whose events stand there.
    """

    reason: str


Outcome = Appended | Conflict | Unavailable | Unknown


class StoreError(Exception):
    """The store can't be used: what is wrong and what to do. Raised at opening, for a wrong URL, rights or version."""


class NoLog(StoreError):
    """There is none yet, and whoever only reads doesn't make it: an engine that starts does."""


class StoreUnavailable(StoreError):
    """A read could not be answered now; it may be later."""


class LogWentBack(StoreError):
    """The log ends before what was read of it: it is another one, or an older backup. Nothing may be added to it."""


class EventLog(Protocol):
    """A store of events. Every method may be called while others run; `append` is called by one writer at a time for
    each stream, but several processes may write the same store, and the expected version decides between them."""

    async def append(self, batch: Sequence[Append]) -> list[Outcome]:
        """Appends to several streams, each named once in the batch; the outcomes stand in the batch's order.

        Atomic for one stream only: any part of the batch may be stored and the rest not. It never raises for what may
        happen to a store; `Unavailable` and `Unknown` say it. It may finish without suspending.
        """
        ...

    async def read_stream(self, stream: str, *, after: int = NO_STREAM, limit: int) -> list[RecordedEvent]:
        """The events of a stream with a version greater than `after`, in order, at most `limit`. A stream that
        doesn't exist has none. Raises StoreUnavailable."""
        ...

    async def read_all(self, *, after: int = START, limit: int) -> list[RecordedEvent]:
        """The events of the log with a position greater than `after`, in order of position, at most `limit`. `after` is
        START or a position that the log has told. No event ever appears later at a position that a reader has passed.
        Raises StoreUnavailable."""
        ...

    async def read_last(self, limit: int) -> list[RecordedEvent]:
        """The last events of the log, at most `limit`, in order of position. Raises StoreUnavailable."""
        ...

    async def head(self) -> int:
        """The position of the last event, START while there is none. Raises StoreUnavailable."""
        ...

    def subscribe(self, *, after: int = START) -> AsyncGenerator[list[RecordedEvent], None]:
        """All events with a position greater than `after`, those to come included, in batches that are never empty.
        Wakes when an event is stored, without waiting for a timer where the store is in this process. Ends by
        StoreUnavailable where the store breaks; the reader subscribes again from the last position that it handled.
        Ends by LogWentBack, or StoreUnavailable, where there is no such position any more.
        Close the iterator (`aclose`) to end it."""
        ...

    async def close(self) -> None:
        """Lets go of files and connections; nothing is lost by not calling it."""
        ...
