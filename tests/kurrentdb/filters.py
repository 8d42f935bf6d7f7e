"""Which events a read of $all is for."""

import re
from collections.abc import Callable
from typing import Any

from tests.kurrentdb.book import Stream

Allows = Callable[[Stream, str], bool]
"""Of an event's stream and type."""


def make_filter(options: Any) -> Allows | None:
    """From ReadReq.Options; None: each event."""
    if options.WhichOneof("filter_option") != "filter":
        return None
    by = options.filter.WhichOneof("filter")
    expression = getattr(options.filter, by)
    matches, known = _matcher(expression.regex, tuple(expression.prefix)), dict[Any, bool]()

    def by_type(_: Stream, type: str) -> bool:
        found = known.get(type)
        if found is None:
            found = known[type] = matches(type)
        return found

    def by_stream(stream: Stream, _: str) -> bool:
        found = known.get(stream)
        if found is None:
            found = known[stream] = matches(stream.name)
        return found

    return by_type if by == "event_type" else by_stream


def checkpoint_interval(options: Any) -> int:
    """After so many events that were looked at, a filtered subscription tells how far it is."""
    return (options.filter.max or 32) * (options.filter.checkpointIntervalMultiplier or 1)


def _matcher(regex: str, prefixes: tuple[str, ...]) -> Callable[[str], bool]:
    if not regex:
        return lambda text: text.startswith(prefixes)
    pattern = re.compile(regex)
    return lambda text: pattern.search(text) is not None
