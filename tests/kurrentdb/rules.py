"""Whether an append, a deletion or a tombstone may happen: pure rules, taken from a node's own (IndexWriter.cs)."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.kurrentdb.book import Book, Stream

NO_STREAM: Final = -1
ANY: Final = -2
EXISTS: Final = -4


class Accepted(NamedTuple):
    """It is to be written."""


class Repeated(NamedTuple):
    """All of it is there already."""

    last: int
    """The version of its last event."""


class WrongVersion(NamedTuple):
    actual: int
    """NO_STREAM where there is none."""


class Deleted(NamedTuple):
    """The stream is gone, for now or for ever."""


Verdict = Accepted | Repeated | WrongVersion | Deleted


def check_append(book: Book, stream: Stream, expected: int, ids: Sequence[bytes]) -> Verdict:
    if stream.is_tombstoned:
        return Deleted()
    if expected == EXISTS:
        if stream.is_deleted:
            return Deleted()
        if stream.last < 0 and book.stream(f"$${stream.name}").last < 0:
            return WrongVersion(NO_STREAM)
    if expected in (ANY, EXISTS):
        return _check_recent(book, stream, ids)
    if expected < stream.last:
        return _check_earlier(book, stream, expected, ids)
    return Accepted() if expected == stream.last else WrongVersion(stream.last)


def check_delete(book: Book, stream: Stream, expected: int) -> Verdict:
    """As an append of an event that nobody has appended. What never was can't be deleted."""
    if stream.last < 0 and book.stream(f"$${stream.name}").last < 0 and not stream.is_tombstoned:
        return WrongVersion(NO_STREAM)
    return check_tombstone(book, stream, expected)


def check_tombstone(book: Book, stream: Stream, expected: int) -> Verdict:
    return check_append(book, stream, expected, [b""])


def _check_recent(book: Book, stream: Stream, ids: Sequence[bytes]) -> Verdict:
    """Without a version only what was appended since the node started is known again."""
    versions = [book.recent_version(stream, id) for id in ids]
    if not versions or versions[0] is None:
        return Accepted()
    return WrongVersion(stream.last) if versions[-1] is None or None in versions else Repeated(versions[-1])


def _check_earlier(book: Book, stream: Stream, expected: int, ids: Sequence[bytes]) -> Verdict:
    """With a version the events are looked up at the places that they would have got."""
    matches = [book.id_at(stream, version) == id for version, id in enumerate(ids, start=expected + 1)]
    if matches and all(matches):
        return Repeated(expected + len(ids))
    if expected == NO_STREAM and stream.is_deleted and not any(matches[:1]):
        return Accepted()
    return WrongVersion(stream.last)
