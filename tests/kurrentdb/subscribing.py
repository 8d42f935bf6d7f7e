"""Subscriptions to a stream and to the whole log: what is there already, then what comes; they don't end."""

import uuid
from bisect import bisect_right
from typing import Any, Final

import grpc

from tests.kurrentdb.filters import checkpoint_interval, make_filter
from tests.kurrentdb.log import Log
from tests.kurrentdb.reading import PAGE, is_position, pages
from tests.kurrentdb.replies import abort_deleted
from tests.kurrentdb.sending import Sending

_BEHIND: Final = 500
"""Whoever has more than this to catch up with is told when it has."""


async def subscribe_to_stream(log: Log, options: Any, sending: Sending, context: Any) -> None:
    """From after the version; also of a stream that is yet to come."""
    name = options.stream.stream_identifier.stream_name.decode()
    stream = log.book.stream(name)
    start = options.stream.WhichOneof("revision_option")
    last = stream.last_before(log.shown)
    version = {"start": 0, "end": last + 1, "revision": options.stream.revision + 1}[start]
    await sending.confirmation(str(uuid.uuid4()))
    is_live = False
    while True:
        if stream.is_tombstoned:
            await abort_deleted(context, name)
        shown = log.shown
        last = stream.last_before(shown)
        if not stream.is_deleted:
            version = max(version, min(log.book.first_shown(stream, last), last + 1))
        is_live = is_live and last - version < _BEHIND
        while version <= last:
            upto = min(last + 1, version + PAGE)
            await sending.events(log.messages(stream.ordinals[version:upto]))
            version = upto
        if shown < log.shown:
            continue
        if not is_live:
            await sending.caught_up()
            is_live = True
        await log.more_than(shown)


async def subscribe_to_all(log: Log, options: Any, sending: Sending, context: Any) -> None:
    """From after the position; one that is beyond the end hides what comes before it."""
    start, position = options.all.WhichOneof("all_option"), options.all.position.commit_position
    if start == "position" and not is_position(log, position):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Trying to read from an invalid position.")
    last = log.book.positions[log.shown - 1] if log.shown else -1
    after = {"start": -1, "end": last, "position": position}[start]
    await sending.confirmation(str(uuid.uuid4()))
    await _follow(log, after, options, sending)


async def _follow(log: Log, after: int, options: Any, sending: Sending) -> None:
    allows = make_filter(options)
    interval = checkpoint_interval(options) if allows else PAGE
    at, unmarked, is_live = 0, 0, False
    while True:
        shown = log.shown
        at = max(at, min(shown, bisect_right(log.book.positions, after)))
        is_live = is_live and shown - at < _BEHIND
        while at < shown:
            step = min(shown - at, PAGE, interval - unmarked)
            for page in pages(log, range(at, at + step), allows):
                await sending.events(log.messages(page))
            at += step
            unmarked += step
            if unmarked >= interval:
                unmarked = 0
                if allows:
                    await sending.checkpoint(log.book.positions[at - 1])
        if shown < log.shown:
            continue
        if not is_live:
            if allows and unmarked:
                unmarked = 0
                await sending.checkpoint(log.book.positions[at - 1])
            await sending.caught_up()
            is_live = True
        await log.more_than(shown)
