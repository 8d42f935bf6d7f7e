"""Snapshots of the writer's states: a cache beside the log, so that a state is not folded from its stream's beginning.

It may be thrown away at any time, and is never believed. A snapshot holds only for the code that made it (a fingerprint
of its source), as long as its bytes fit their digest, and where the log still has the very event at which it was made.
The bytes are made in the loop, where nothing changes the state meanwhile; everything that writes runs in a thread.

A conversation's recent command ids are left out: they are most of its bytes, and an id from before the snapshot is
looked up as any other that lies far back (`Recent.blank`).
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

import apsw
import msgspec

from domain import account, codec, conversation, entry, keys, media, receipts, recent
from domain.conversation import Conversation
from domain.recent import Recent

EVENTS_MIN: Final = 500
"""After how many events a state is worth another snapshot: they are folded in some 3 ms."""

BYTES_PER_EVENT: Final = 64
"""A large state gets them less often, so that making and writing them cost no more than this many bytes an event."""

WAITING_MAX: Final = 256
"""How many may wait for the disk; more are left out, and made later."""

S = TypeVar("S")

_SCHEMA: Final = (
    "CREATE TABLE snapshots (stream TEXT PRIMARY KEY, version INTEGER NOT NULL, event TEXT NOT NULL,"
    " state BLOB NOT NULL, digest BLOB NOT NULL)",
    "CREATE TABLE code (fingerprint TEXT NOT NULL)",
)
_FIND: Final = "SELECT version, event, state, digest FROM snapshots WHERE stream=?"
_PUT: Final = "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)"
_DAMAGES: Final = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.SQLError)
_log = logging.getLogger("signet.writer")


class Snapshot(NamedTuple, Generic[S]):
    version: int
    event: str
    """The id of the event at that version."""
    state: S
    due: int
    """The version from which on the next one is to be made."""


class _Row(NamedTuple):
    stream: str
    version: int
    event: str
    state: bytes
    digest: bytes


class Snapshots:
    """In an SQLite file of their own. Whatever fails here is told in the server's log, and costs only time."""

    def __init__(self, path: Path, *, events_min: int = EVENTS_MIN) -> None:
        self.events_min = events_min
        self._path = path
        self._decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._waiting: dict[str, _Row] = {}
        self._writing: asyncio.Task[None] | None = None
        self._db = _open(path)

    def find(self, stream: str, state_type: type[S]) -> Snapshot[S] | None:
        """The last one of the stream; None where there is none that can be used."""
        row = self._waiting.get(stream) or self._read(stream)
        if row is None or row.digest != _digest(row):
            return None
        try:
            state = self._decoder(state_type).decode(row.state)
        except msgspec.MsgspecError:
            return None
        return Snapshot(row.version, row.event, state, self._due(row))

    def put(self, stream: str, version: int, event: str, state: Any) -> int:
        """`event`: the id of the event at that version. Gives the version from which on the next one is to be made."""
        row = _Row(stream, version, event, self._encode(_kept(state)), b"")
        if len(self._waiting) < WAITING_MAX or stream in self._waiting:
            self._waiting[stream] = row._replace(digest=_digest(row))
            if self._writing is None:
                self._writing = asyncio.create_task(self._write())
        return self._due(row)

    async def close(self) -> None:
        """Returns when what waits is written."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._db is not None:
            self._db.close()
            self._db = None

    def _due(self, row: _Row) -> int:
        return row.version + max(self.events_min, len(row.state) // BYTES_PER_EVENT)

    def _decoder(self, state_type: type[S]) -> "msgspec.msgpack.Decoder[S]":
        known = self._decoders.get(state_type)
        if known is None:
            known = self._decoders[state_type] = msgspec.msgpack.Decoder(state_type)
        return known

    def _read(self, stream: str) -> _Row | None:
        if self._db is None:
            return None
        try:
            rows: list[Any] = self._db.execute(_FIND, (stream,)).fetchall()
        except apsw.Error as error:
            self._tell(error)
            self._give_up_if_damaged(error)
            return None
        return _Row(stream, *rows[0]) if rows else None

    async def _write(self) -> None:
        while self._waiting:
            rows = list(self._waiting.values())
            try:
                await asyncio.to_thread(_put, self._path, rows)
            except apsw.Error as error:
                self._tell(error)
                self._give_up_if_damaged(error)
            for row in rows:
                if self._waiting[row.stream] is row:
                    del self._waiting[row.stream]
        self._writing = None
        if self._db is None:
            self._db = _open(self._path, anew=True)

    def _give_up_if_damaged(self, error: apsw.Error) -> None:
        """A new file comes when nobody writes the old one any more."""
        if self._db is not None and isinstance(error, _DAMAGES):
            self._db.close()
            self._db = None
            if self._writing is None:
                self._db = _open(self._path, anew=True)

    def _tell(self, error: apsw.Error) -> None:
        _log.warning("the snapshots %s can't be used (%s); it goes on without, only slower", self._path, error)


def _kept(state: Any) -> Any:
    if isinstance(state, Conversation):
        return msgspec.structs.replace(state, recent=Recent.blank(state.seq))
    return state


def _digest(row: _Row) -> bytes:
    head = f"{row.stream} {row.version} {row.event} ".encode()
    return hashlib.blake2b(head + row.state, digest_size=16).digest()


def _open(path: Path, *, anew: bool = False) -> apsw.Connection | None:
    """Made where it is missing, of other code, or no database at all. None where that can't be."""
    try:
        return (None if anew else _usable(path)) or _make(path)
    except (apsw.Error, OSError) as error:
        _log.warning("there are no snapshots, so starting takes longer: %s: %s", path, error)
        return None


def _usable(path: Path) -> apsw.Connection | None:
    if not path.exists():
        return None
    db = apsw.Connection(str(path))
    with contextlib.suppress(apsw.Error):
        if db.execute("SELECT fingerprint FROM code").fetchall() == [(fingerprint(),)]:
            return db
    db.close()
    return None


def _make(path: Path) -> apsw.Connection:
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        file.unlink(missing_ok=True)
    path.touch(mode=0o600)
    db = _connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    with db:
        for statement in _SCHEMA:
            db.execute(statement)
        db.execute("INSERT INTO code VALUES (?)", (fingerprint(),))
    return db


def _connect(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(1_000)
    db.execute("PRAGMA synchronous=NORMAL")
    return db


def _put(path: Path, rows: Iterable[_Row]) -> None:
    with contextlib.closing(_connect(path)) as db, db:
        db.executemany(_PUT, rows)


def fingerprint() -> str:
    """Changes with any change of the code that makes states of events, or snapshots of states."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for module in (account, codec, conversation, entry, keys, media, receipts, recent):
        assert module.__file__ is not None
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()
