"""Events that a read model could not apply: parked with the reason, and with each the later events of its stream.

What is parked stands in the read model's own file, so rows, position and parked events are committed together, and a
model that is rebuilt in a new file tries everything anew. The events themselves stay in the log: a parked stream is one
row, whatever waits behind its first event, and a model parks at most `STREAMS_MAX` streams. More than that is no fault
of single events: the model stands still and says so.

A stream that rests on a parked one is held back with it, and fed after it. Receipts rest on their conversation: a read
mark needs the row of its member. The other way round nothing rests: marks only grow, so they may come late.

ParkingError
├── NotParked      the stream isn't parked
├── HeldBack       the stream waits behind another one, which is to be retried first
└── ParkedFull     the model may park no more
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from domain.codec import Event
from domain.ids import ConversationId, conversation_stream
from domain.log import RecordedEvent
from projections.database import Database, Row

STREAMS_MAX: Final = 1_000
REASON_CHARS_MAX: Final = 2_000

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS parked (
    stream TEXT PRIMARY KEY, version BIGINT NOT NULL, upto BIGINT NOT NULL, position BIGINT NOT NULL,
    topic TEXT, event TEXT, reason TEXT, at BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS skipped (
    stream TEXT NOT NULL, version BIGINT NOT NULL, position BIGINT NOT NULL,
    topic TEXT, event TEXT, reason TEXT NOT NULL, at BIGINT NOT NULL, skipped_at BIGINT NOT NULL,
    PRIMARY KEY (stream, version)
);
"""

_PARK: Final = "INSERT INTO parked VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS: Final = "stream, version, upto, position, topic, event, reason, at"
_UPTO: Final = "UPDATE parked SET upto = ? WHERE stream = ?"
_FAIL: Final = "UPDATE parked SET version = ?, position = ?, topic = ?, event = ?, reason = ?, at = ? WHERE stream = ?"
_MOVE: Final = "UPDATE parked SET version = ?, topic = NULL, event = NULL, reason = NULL WHERE stream = ?"
_SKIP: Final = """
INSERT INTO skipped SELECT stream, version, position, topic, event, reason, at, ? FROM parked WHERE stream = ?
"""
_SKIPPED: Final = """
SELECT stream, version, position, topic, event, reason, at, skipped_at FROM skipped ORDER BY position
"""


class ParkingError(Exception):
    """What an operator asked for can't be done: what is wrong and what to do."""


class NotParked(ParkingError):
    pass


class HeldBack(ParkingError):
    pass


class ParkedFull(ParkingError):
    pass


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """An event that could not be applied, and why."""

    stream: str
    version: int
    position: int
    topic: str
    event: str | None
    """Its id; None where it can't be decoded."""
    reason: str
    at: int
    """When it failed, microseconds since 1970."""


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A stream whose later events are not in the rows."""

    stream: str
    version: int
    """The first that is not in the rows."""
    upto: int
    """The last one that was held back: so many wait, in order."""
    position: int
    """Of the event that failed last, or was the first to be held back."""
    topic: str | None
    event: str | None
    """The id of the event that failed."""
    reason: str | None
    """Why it failed. None: it was not tried yet, since it waits behind the stream that it rests on, or the event before
    it was dropped."""
    at: int
    """When it failed; or, where it was not tried, when it was recorded. Microseconds since 1970."""


class Skipped(Failed, frozen=True, kw_only=True):
    """An event that an operator has dropped: the rows are without it until the model is rebuilt."""

    skipped_at: int


def failed(event: Event, error: BaseException, at: int) -> Failed:
    return Failed(
        stream=event.stream,
        version=event.version,
        position=event.position,
        topic=type(event.entry.e).__name__,
        event=event.entry.id,
        reason=_reason(error),
        at=at,
    )


def undecodable(recorded: RecordedEvent, error: BaseException, at: int) -> Failed:
    return Failed(
        stream=recorded.stream,
        version=recorded.version,
        position=recorded.position,
        topic=recorded.topic,
        event=None,
        reason=_reason(error),
        at=at,
    )


def _reason(error: BaseException) -> str:
    # What could not be stored as a text may be quoted in the reason, so that must be one that always can.
    return repr(error).encode("utf-8", "backslashreplace").decode()[:REASON_CHARS_MAX]


def rests_on(stream: str) -> str | None:
    """The stream that must be in the rows first."""
    category, _, uuid = stream.partition("-")
    return conversation_stream(ConversationId(uuid)) if category == "receipts" else None


class Parking:
    """The parked streams of one read model. What changes them runs within the model's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # Reading

    def all(self) -> list[Parked]:
        """In the order in which they were parked."""
        return [_parked(row) for row in self._db.query(f"SELECT {_COLUMNS} FROM parked ORDER BY position")]

    def get(self, stream: str) -> Parked | None:
        row = self._db.query_one(f"SELECT {_COLUMNS} FROM parked WHERE stream = ?", (stream,))
        return None if row is None else _parked(row)

    def behind(self, stream: str) -> list[str]:
        """The streams that are held back for this one alone."""
        return [each.stream for each in self.all() if each.reason is None and rests_on(each.stream) == stream]

    def skipped(self) -> list[Skipped]:
        return [_skipped(row) for row in self._db.query(_SKIPPED)]

    def count(self) -> int:
        """How many streams are parked."""
        count: int = self._db.query("SELECT count(*) FROM parked")[0][0]
        return count

    def lacking(self) -> set[str]:
        """The streams of which events are not in the rows: they are parked, or one was skipped."""
        return {stream for (stream,) in self._db.query("SELECT stream FROM parked UNION SELECT stream FROM skipped")}

    def skips(self, stream: str) -> bool:
        """Whether an event of the stream was dropped, and so is missing among the rows."""
        return self._db.query_one("SELECT 1 FROM skipped WHERE stream = ?", (stream,)) is not None

    # Parking

    def hold_back(self, events: Sequence[Event]) -> list[Event]:
        """The events that may be applied; the others are noted as held back."""
        parked = {row[0] for row in self._db.query("SELECT stream FROM parked")}
        last: dict[str, int] = {}
        free = []
        for event in events:
            if event.stream in parked:
                last[event.stream] = event.version
            elif rests_on(event.stream) in parked:
                self._hold(event.stream, event.version, event.position, event.entry.at)
                parked.add(event.stream)
            else:
                free.append(event)
        self._db.executemany(_UPTO, [(upto, stream) for stream, upto in last.items()])
        return free

    def park(self, failure: Failed) -> None:
        """Raises ParkedFull."""
        stream, first = failure.stream, rests_on(failure.stream)
        if self.get(stream) is not None:
            self._db.execute(_UPTO, (failure.version, stream))
        elif first is not None and self.get(first) is not None:
            self._hold(stream, failure.version, failure.position, failure.at)
        elif self.count() >= STREAMS_MAX:
            raise ParkedFull(
                f"{STREAMS_MAX} streams are parked already, so this is no fault of single events:"
                f" {failure.topic} at position {failure.position}: {failure.reason}"
            )
        else:
            self._db.execute(
                _PARK,
                (stream, failure.version, failure.version, failure.position, failure.topic, failure.event,
                 failure.reason, failure.at),
            )  # fmt: skip

    # Letting go

    def fail(self, failure: Failed) -> None:
        """The stream's first event is this one now."""
        self._db.execute(
            _FAIL,
            (failure.version, failure.position, failure.topic, failure.event, failure.reason, failure.at,
             failure.stream),
        )  # fmt: skip

    def move(self, stream: str, version: int) -> None:
        """What stood before the version is done; where nothing is left, the stream is no longer parked."""
        self._db.execute(_MOVE, (version, stream))
        self._db.execute("DELETE FROM parked WHERE stream = ? AND version > upto", (stream,))

    def skip(self, parked: Parked, at: int) -> None:
        self._db.execute(_SKIP, (at, parked.stream))
        self.move(parked.stream, parked.version + 1)

    def _hold(self, stream: str, version: int, position: int, at: int) -> None:
        self._db.execute(_PARK, (stream, version, version, position, None, None, None, at))


def _parked(row: Row) -> Parked:
    stream, version, upto, position, topic, event, reason, at = row
    return Parked(
        stream=stream, version=version, upto=upto, position=position, topic=topic, event=event, reason=reason, at=at
    )


def _skipped(row: Row) -> Skipped:
    stream, version, position, topic, event, reason, at, skipped_at = row
    return Skipped(
        stream=stream, version=version, position=position, topic=topic, event=event, reason=reason, at=at,
        skipped_at=skipped_at,
    )  # fmt: skip
