"""Reading the log by conversation and by account, in an order that each store of the same events gives.

Positions don't order anything here: a log that was copied into another store keeps each stream's order, not that
between streams. Events go by `recorded_at`, which never falls within a stream, then by stream and version.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

import apsw

from domain.codec import CODEC, Event
from domain.ids import AccountId, ConversationId, account_stream, conversation_stream, receipts_stream
from domain.log import NO_STREAM, START, EventLog, RecordedEvent

_STREAM_PAGE: Final = 500
_LOG_PAGE: Final = 2_000

_FOUND: Final = """
CREATE TABLE found (
    at INTEGER, stream TEXT, version INTEGER, position INTEGER, topic TEXT, data BLOB, PRIMARY KEY (at, stream, version)
) WITHOUT ROWID
"""


async def read_whole(log: EventLog, stream: str) -> AsyncIterator[RecordedEvent]:
    version = NO_STREAM
    while page := await log.read_stream(stream, after=version, limit=_STREAM_PAGE):
        for recorded in page:
            yield recorded
        version = page[-1].version


async def read_log(log: EventLog, seen: Callable[[int], None]) -> AsyncIterator[RecordedEvent]:
    """All that is in the log now. `seen` hears up to which position it was read, and how far the log goes is asked
    before: with an engine that goes on writing there would be no end."""
    position, head = START, await log.head()
    while position < head and (page := await log.read_all(after=position, limit=_LOG_PAGE)):
        for recorded in page:
            if recorded.position <= head:
                yield recorded
        position = page[-1].position
        seen(position)


async def conversation_events(log: EventLog, conversation: ConversationId) -> AsyncIterator[Event]:
    """The conversation and its receipts, merged; at the same microsecond the conversation comes first."""
    streams = [read_whole(log, conversation_stream(conversation)), read_whole(log, receipts_stream(conversation))]
    heads = [await _next(stream) for stream in streams]
    while waiting := [(head.entry.at, number) for number, head in enumerate(heads) if head is not None]:
        _, number = min(waiting)
        event = heads[number]
        assert event is not None
        yield event
        heads[number] = await _next(streams[number])


async def _next(stream: AsyncIterator[RecordedEvent]) -> Event | None:
    recorded = await anext(stream, None)
    return None if recorded is None else CODEC.decode(recorded)


async def account_events(log: EventLog, account: AccountId, seen: Callable[[int], None]) -> AsyncIterator[Event]:
    """The account's own stream, and whatever names it: one pass over the log. An id stands in the JSON as it is, so its
    bytes are looked for before anything is decoded. What is found is put into order in a temporary database, which lies
    on the disk where it is large and goes with this process."""
    own, name = account_stream(account), account.encode()
    found = apsw.Connection("")
    try:
        found.execute(_FOUND)
        with found:
            async for recorded in read_log(log, seen):
                if name in recorded.data or recorded.stream == own:
                    _put(found, recorded)
        for _, stream, version, position, topic, data in found.execute("SELECT * FROM found ORDER BY 1, 2, 3"):
            yield CODEC.decode(RecordedEvent(position=position, stream=stream, version=version, topic=topic, data=data))
    finally:
        found.close()


def _put(found: apsw.Connection, recorded: RecordedEvent) -> None:
    at = CODEC.decode(recorded).entry.at
    row = (at, recorded.stream, recorded.version, recorded.position, recorded.topic, recorded.data)
    found.execute("INSERT INTO found VALUES (?, ?, ?, ?, ?, ?)", row)
