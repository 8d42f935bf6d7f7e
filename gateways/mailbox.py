"""The mailbox: messages from device to device, kept until the device has said that it took them.

They are no part of the log, and nothing is derived from them: what they carry (keys, mostly) is of use to one device,
once. They stand in `mailbox.db`. `put` returns when they are on disk (fsync); what comes meanwhile is committed
together. All writing is done in a thread, with a connection of its own; the loop reads.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from domain.account import DeviceRevoked
from domain.codec import Event
from domain.ids import AccountId, DeviceId
from gateways.refusal import Refusal

_log = logging.getLogger("signet.mailbox")

WAITING_MAX: Final = 10_000
"""How many messages may wait for one device: then further ones are refused, and their senders are told."""
OF_ONE_MAX: Final = 500
"""How many of these may be of one account: nobody fills another's mailbox alone."""
TAKEN_LIFE_US: Final = 7 * 86_400_000_000
"""How long a sender may send the same once more without it arriving twice."""
PAGE: Final = 32
"""How many letters are read at once."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS mail (
    number INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, device TEXT NOT NULL, type TEXT NOT NULL,
    sender TEXT NOT NULL, content TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS mail_of ON mail (account, device, number);
CREATE INDEX IF NOT EXISTS mail_by ON mail (account, device, sender);
CREATE TABLE IF NOT EXISTS taken (
    account TEXT, device TEXT, type TEXT, transaction_id TEXT, at INTEGER NOT NULL, full TEXT NOT NULL,
    PRIMARY KEY (account, device, type, transaction_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS taken_at ON taken (at);
"""
_PUT: Final = "INSERT INTO mail VALUES (?, ?, ?, ?, ?, ?)"
_TAKE: Final = "INSERT INTO taken VALUES (?, ?, ?, ?, ?, ?)"
_TAKEN: Final = "SELECT full FROM taken WHERE account = ? AND device = ? AND type = ? AND transaction_id = ?"
_FORGET: Final = "DELETE FROM taken WHERE at < ?"
_DELETE: Final = "DELETE FROM mail WHERE account = ? AND device = ? AND number <= ?"
_COUNT: Final = "SELECT count(*) FROM mail WHERE account = ? AND device = ?"
_COUNT_OF: Final = "SELECT count(*) FROM mail WHERE account = ? AND device = ? AND sender = ?"
# Also after that letter was deleted: devices skip what has a number that they have passed.
_LAST: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'mail'"
_PAGE: Final = "SELECT number, type, sender, content FROM mail WHERE account = ? AND device = ? AND number > ? LIMIT ?"

Address = tuple[AccountId, DeviceId]

_DECODE: Final = msgspec.json.Decoder(list[Address]).decode


class MailboxError(Exception):
    """The file can't be used: what is wrong and what to do."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One message as it waits."""

    number: int
    """Grows; also over a loss of the file, where clocks don't go back."""
    type: str
    sender: AccountId
    content: str
    """JSON text."""


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """What a device sends at once: all of it that finds room, or nothing; and once, however often it is sent."""

    by: Address
    type: str
    transaction: str
    """With the type it is the parcel's name among all of the device."""
    contents: dict[Address, str]


class _Put(msgspec.Struct, frozen=True):
    parcel: Parcel
    done: "asyncio.Future[frozenset[Address]]"


class Mailbox:
    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        """`clock` gives microseconds since 1970, UTC. Raises MailboxError."""
        self._clock = clock
        self._puts: list[_Put] = []
        self._taken: dict[Address, int] = {}
        """Up to where each device has said that it took its mail, and it is not deleted yet."""
        self._writing: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[Address], None]] = []
        try:
            self._writer = _open(path)
            self._reader = _open(path)
        except (apsw.Error, OSError) as error:
            raise MailboxError(f"can't open {path}: {error}; move it away, and what waits in it is lost") from error
        self._last: int = self._one(_LAST)

    async def close(self) -> None:
        """Returns when what was given to it is on disk."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._writer.close()
        self._reader.close()

    def listen(self, heard: Callable[[Address], None]) -> None:
        """`heard` is called with each device for which something new waits; it must be fast."""
        self._listeners.append(heard)

    async def put(self, parcel: Parcel) -> frozenset[Address]:
        """Returns when the parcel is on disk, and gives the devices whose mailboxes were full when it first came.
        Raises Refusal(`unavailable`)."""
        done: asyncio.Future[frozenset[Address]] = asyncio.get_running_loop().create_future()
        self._puts.append(_Put(parcel, done))
        self._start_writing()
        return await done

    def took(self, address: Address, upto: int) -> None:
        """The device has it on its own disk. Lost in a crash, it is said again when the device gets its mail again."""
        self._taken[address] = max(upto, self._taken.get(address, 0))
        self._start_writing()

    def page(self, address: Address, *, after: int) -> list[Letter]:
        """What waits, in order; at most `PAGE`. Raises Refusal(`unavailable`)."""
        try:
            rows: list[Any] = self._reader.execute(_PAGE, (*address, after, PAGE)).fetchall()
        except apsw.Error as error:
            raise _unavailable(error) from error
        return [
            Letter(number=number, type=type_, sender=sender, content=content) for number, type_, sender, content in rows
        ]

    def hear(self, events: Sequence[Event]) -> None:
        """The feed's events: a device that is revoked gets nothing any more."""
        for event in events:
            if isinstance(event.entry.e, DeviceRevoked):
                account = AccountId(event.stream.partition("-")[2])
                self.took((account, event.entry.e.device), 2**62)

    # Inside

    def _start_writing(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        failed = False
        while self._puts or (self._taken and not failed):
            puts, self._puts = self._puts, []
            taken, self._taken = self._taken, {}
            try:
                full = await asyncio.to_thread(self._commit, puts, taken)
            except Exception as error:  # whatever it is, nobody may wait for ever
                failed = True
                _refuse_all(puts, error)
                # With the next that is written: the mail of a revoked device is to go, and nobody says so again.
                for address, upto in taken.items():
                    self._taken[address] = max(upto, self._taken.get(address, 0))
                continue
            failed = False
            for each, refused in zip(puts, full, strict=True):
                if not each.done.done():
                    each.done.set_result(refused)
                self._tell(each.parcel.contents.keys() - refused)
        self._writing = None

    def _tell(self, addresses: set[Address]) -> None:
        for address in addresses:
            for heard in self._listeners:
                try:
                    heard(address)
                except Exception:
                    _log.exception("a connection could not be told of its mail")

    # In the thread

    def _commit(self, puts: Sequence[_Put], taken: Mapping[Address, int]) -> list[frozenset[Address]]:
        now = self._clock()
        with self._writer:
            full = [self._store(each.parcel, now) for each in puts]
            self._writer.executemany(_DELETE, [(*address, upto) for address, upto in taken.items()])
            self._writer.execute(_FORGET, (now - TAKEN_LIFE_US,))
        return full

    def _store(self, parcel: Parcel, now: int) -> frozenset[Address]:
        name = (*parcel.by, parcel.type, parcel.transaction)
        before: Any = self._writer.execute(_TAKEN, name).fetchall()
        if before:
            return frozenset(_DECODE(before[0][0]))
        full = set()
        for address, content in parcel.contents.items():
            if self._is_full(address, parcel.by[0]):
                full.add(address)
                continue
            self._last = max(self._last + 1, now)
            self._writer.execute(_PUT, (self._last, *address, parcel.type, parcel.by[0], content))
        self._writer.execute(_TAKE, (*name, now, msgspec.json.encode(full).decode()))
        return frozenset(full)

    def _is_full(self, address: Address, sender: AccountId) -> bool:
        of_one: Any = self._writer.execute(_COUNT_OF, (*address, sender)).fetchall()
        waiting: Any = self._writer.execute(_COUNT, address).fetchall()
        return bool(of_one[0][0] >= OF_ONE_MAX or waiting[0][0] >= WAITING_MAX)

    def _one(self, sql: str) -> Any:
        return self._reader.execute(sql).fetchall()[0][0]


def _refuse_all(puts: Sequence[_Put], error: Exception) -> None:
    _log.error("the mailbox could not be written: %s", error, exc_info=not isinstance(error, apsw.Error))
    for each in puts:
        if not each.done.done():
            each.done.set_exception(_unavailable(error))


def _unavailable(error: Exception) -> Refusal:
    return Refusal("unavailable", f"the mailbox: {error}")


def _open(path: Path) -> apsw.Connection:
    path.touch(mode=0o600, exist_ok=True)
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5_000)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(_SCHEMA)
    return db
