"""Reads of a stream and of the whole log, in both directions; each ends."""

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, Final

import grpc

from tests.kurrentdb.filters import Allows, make_filter
from tests.kurrentdb.log import Log
from tests.kurrentdb.replies import abort_deleted
from tests.kurrentdb.sending import Sending

PAGE: Final = 500
_FORWARDS: Final = 0


async def read_stream(log: Log, options: Any, sending: Sending, context: Any) -> None:
    """What its metadata hides is left out; a version beyond the end gives nothing."""
    await sending.begin()
    name = options.stream.stream_identifier.stream_name.decode()
    stream = log.book.stream(name)
    if stream.is_tombstoned:
        await abort_deleted(context, name)
    last = stream.last_before(log.shown)
    if last < 0 or stream.is_deleted:
        await sending.not_found(name)
        return
    first = log.book.first_shown(stream, last)
    start, count = options.stream.WhichOneof("revision_option"), options.count
    if options.read_direction == _FORWARDS:
        given = {"start": 0, "end": last + 1, "revision": options.stream.revision}[start]
        versions = range(max(given, first), last + 1)[:count]
    else:
        given = {"start": -1, "end": last, "revision": options.stream.revision}[start]
        versions = range(min(given, last), first - 1, -1)[:count]
    for at in range(0, len(versions), PAGE):
        ordinals = [stream.ordinals[version] for version in versions[at : at + PAGE]]
        await sending.events(log.messages(ordinals))


async def read_all(log: Log, options: Any, sending: Sending, context: Any) -> None:
    """Forwards with the event at the position, backwards without it."""
    await sending.begin()
    start = options.all.WhichOneof("all_option")
    position = options.all.position.commit_position
    if start == "position" and not is_position(log, position):
        await context.abort(grpc.StatusCode.UNKNOWN, "Unexpected FilteredReadAllResult: InvalidPosition")
    if start == "position" and position > log.end:
        return
    is_forwards = options.read_direction == _FORWARDS
    if start == "position":
        at = min(bisect_left(log.book.positions, position), log.shown)
    else:
        at = 0 if start == "start" else log.shown
    ordinals = range(at, log.shown) if is_forwards else range(at - 1, -1, -1)
    left = options.count
    for page in pages(log, ordinals, make_filter(options)):
        await sending.events(log.messages(page[:left]))
        left -= len(page)
        if left <= 0:
            break
        if not page:
            await asyncio.sleep(0)  # a filter that hides all must not hold up the other calls


def is_position(log: Log, position: int) -> bool:
    """Whether a record starts there, or none can yet."""
    if position >= log.end or position in log.blanks:
        return True
    found = bisect_left(log.book.positions, position)
    return found < len(log.book) and log.book.positions[found] == position


def pages(log: Log, ordinals: range, allows: Allows | None, size: int = PAGE) -> Iterator[Sequence[int]]:
    """Of each `size` ordinals those that the filter allows."""
    owners, types = log.book.owners, log.book.types
    for at in range(0, len(ordinals), size):
        page = ordinals[at : at + size]
        yield page if allows is None else [each for each in page if allows(owners[each], types[each])]
