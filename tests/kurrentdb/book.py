"""What a node knows of its log without reading it: where each event is, and what each stream holds and hides."""

import time
from array import array
from bisect import bisect_left
from typing import Final

from tests.kurrentdb import metadata
from tests.kurrentdb.metadata import Meta
from tests.kurrentdb.records import TOMBSTONE, TOMBSTONE_VERSION, Record

_RECENT_MAX: Final = 50_000
"""How many ids are remembered for appends without a version: what a node's cache of 8 MB holds, about."""


class Stream:
    """Versions are places in `ordinals`; an ordinal is an event's place in the log."""

    __slots__ = ("is_tombstoned", "meta", "name", "ordinals", "raw_meta")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ordinals = array("Q")
        self.is_tombstoned = False
        self.raw_meta = metadata.NOTHING
        # A node keeps the last metadata of a stream only.
        self.meta = Meta(max_count=1) if name.startswith("$$") else Meta()

    @property
    def last(self) -> int:
        """-1: it has no event."""
        return len(self.ordinals) - 1

    @property
    def is_deleted(self) -> bool:
        """Without a tombstone: it may come back, and then its versions go on."""
        return self.meta.truncate_before == metadata.DELETED

    def last_before(self, ordinal: int) -> int:
        return bisect_left(self.ordinals, ordinal) - 1


class Book:
    """Events are known by their ordinals; the lists are one value for each."""

    def __init__(self) -> None:
        self.positions = array("Q")
        self.lengths = array("I")
        self.created = array("Q")
        self.owners: list[Stream] = []
        self.types: list[str] = []
        self._ids = bytearray()
        self._streams: dict[str, Stream] = {}
        self._types: dict[str, str] = {}
        self._recent: dict[bytes, tuple[Stream, int]] = {}

    def __len__(self) -> int:
        return len(self.positions)

    def stream(self, name: str) -> Stream:
        """Also one that has no event."""
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = Stream(name)
        return found

    def id_at(self, stream: Stream, version: int) -> bytes | None:
        if version > stream.last:
            return None
        at = 16 * stream.ordinals[version]
        return bytes(self._ids[at : at + 16])

    def recent_version(self, stream: Stream, id: bytes) -> int | None:
        """Of an event that was appended since the node started."""
        known, version = self._recent.get(id, (None, -1))
        return version if known is stream else None

    def add(self, record: Record, *, is_recent: bool) -> None:
        stream, event = self.stream(record.stream), record.event
        if record.version == TOMBSTONE_VERSION:
            stream.is_tombstoned = True
        else:
            assert record.version == stream.last + 1, "versions have no gaps"
            stream.ordinals.append(len(self))
        self.positions.append(record.position)
        self.lengths.append(record.length)
        self.created.append(record.created)
        self.owners.append(stream)
        self.types.append(self._types.setdefault(event.type, event.type))
        self._ids += event.id
        if event.type == metadata.METADATA and stream.name.startswith("$$"):
            self._set_meta(self.stream(stream.name[2:]), event.data)
        if is_recent and event.type != TOMBSTONE:
            self._recent[event.id] = (stream, record.version)
            if len(self._recent) > _RECENT_MAX:
                del self._recent[next(iter(self._recent))]

    def first_shown(self, stream: Stream, last: int) -> int:
        """The first version that reads of it show, where `last` is its last one; more than that: they show none."""
        meta = stream.meta
        first = meta.truncate_before
        if meta.max_count is not None:
            first = max(first, last - meta.max_count + 1)
        if meta.max_age_s is not None:
            oldest = int((time.time() - meta.max_age_s) * 10**7)
            while first <= last and self.created[stream.ordinals[first]] < oldest:
                first += 1
        return first

    def _set_meta(self, stream: Stream, raw: bytes) -> None:
        said = metadata.parse(raw)
        stream.raw_meta = metadata.NOTHING if said is None else raw
        if not stream.name.startswith("$$"):
            stream.meta = said or Meta()
