"""What the adapters' subscriptions have in common: read on from a position, and sleep while there is nothing."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

from domain.log import RecordedEvent


class Signal:
    """Wakes everybody who waits, each time that it is given."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def give(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    def next(self) -> asyncio.Event:
        """Is set when the signal is given for the first time after this call."""
        return self._next


async def tail(
    read: Callable[[int], Awaitable[list[RecordedEvent]]],
    stored: Signal,
    *,
    after: int,
    poll_s: float | None = None,
) -> AsyncGenerator[list[RecordedEvent], None]:
    """All that `read` gives after a position, for ever. It is asked again when `stored` is given, or every `poll_s`
    seconds where others may write whom the signal doesn't tell of."""
    while True:
        # Taken before the read: an event that is stored between the read and the wait must wake us.
        news = stored.next()
        batch = await read(after)
        if batch:
            after = batch[-1].position
            yield batch
        else:
            await _wait(news, poll_s)


async def _wait(news: asyncio.Event, poll_s: float | None) -> None:
    try:
        async with asyncio.timeout(poll_s):
            await news.wait()
    except TimeoutError:
        pass
