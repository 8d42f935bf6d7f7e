"""The keyring: the keys that seal personal fields. It lies outside the log, and whoever destroys a key here erases
what it sealed everywhere, backups of the log included.

The port is `Keyring`; `FileKeyring` is a file of its own beside the log. A new key is made in memory, and stands among
the `unsaved` until `save` has brought it to the disk (fsync): the writer saves all new keys of a batch at once, and
before it decides any command that was sealed with one.
"""

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import apsw
from nacl.bindings import crypto_secretbox_KEYBYTES

from commands.ids import new_uuid
from commands.keyring_backup import remedy
from domain.errors import KeyringUnavailable

UNSAVED_MAX: Final = 10_000
"""How many keys wait for the disk at most: while it fails, everybody who comes would add one."""

LOCK_TIMEOUT_MS: Final = 2_000
"""How long another process may hold the file before a save gives up."""

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS keys (
        name TEXT PRIMARY KEY, subject TEXT NOT NULL, period TEXT NOT NULL, key BLOB NOT NULL, UNIQUE (subject, period)
    )
"""
# A commit that failed at the disk may show its rows later, and is tried again.
_INSERT: Final = "INSERT INTO keys VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING"


class KeyringError(Exception):
    """The keyring can't be used: what is wrong and what to do. Raised at opening."""


class _Row(NamedTuple):
    name: str
    subject: str
    period: str
    key: bytes


class SealingKey:
    """A key and the opaque name under which events refer to it."""

    __slots__ = ("key", "name")

    def __init__(self, name: str, key: bytes) -> None:
        self.name = name
        self.key = key


class Keyring(Protocol):
    @property
    def unsaved(self) -> Mapping[str, object]:
        """The names of the keys that are not on disk yet: nothing that they sealed may be stored."""
        ...

    def current(self, subject: str, period: str) -> SealingKey:
        """The key of a subject (an account) for a period (a month, `2026-11`); made where there is none yet. Raises
        KeyringUnavailable."""
        ...

    async def save(self) -> None:
        """Returns when all keys that were unsaved are on disk. Raises KeyringUnavailable: they are unsaved still."""
        ...

    def find(self, name: str) -> bytes | None:
        """The key of that name; None where there is none: it was destroyed, or lost. Raises KeyringUnavailable."""
        ...


class MemoryKeyring:
    """For tests: forgets everything."""

    unsaved: Final[Mapping[str, object]] = {}

    def __init__(self) -> None:
        self._current: dict[tuple[str, str], SealingKey] = {}
        self._by_name: dict[str, bytes] = {}

    def current(self, subject: str, period: str) -> SealingKey:
        known = self._current.get((subject, period))
        if known is None:
            known = _new_key()
            self._current[subject, period] = known
            self._by_name[known.name] = known.key
        return known

    async def save(self) -> None:
        pass

    def find(self, name: str) -> bytes | None:
        return self._by_name.get(name)


class FileKeyring:
    """The keyring in an SQLite file of mode 0600. What it has handed out stays in memory, `cached_max` keys of each
    kind; where that many are held, all are dropped and read again as they are needed.

    It reads in the loop's thread, on a connection of its own, and saves in another one.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, must_exist: bool = False, cached_max: int = 100_000
    ) -> None:
        """`read_only`: beside the process that owns it. `must_exist`: the log holds events, so there was one. Raises
        KeyringError where the file is missing, damaged or no keyring, or can't be read."""
        self._path = path
        self._cached_max = cached_max
        self._current: dict[tuple[str, str], SealingKey] = {}
        self._by_name: dict[str, bytes] = {}
        self.unsaved: dict[str, _Row] = {}
        if must_exist and not path.exists():
            raise KeyringError(f"the keyring {path} is missing, and the log is not empty: {remedy(path)}")
        try:
            self._db = _open_beside(path) if read_only else _open(path)
        except (apsw.Error, OSError) as error:
            raise KeyringError(f"the keyring {path} can't be read ({error}): {remedy(path)}") from error

    def current(self, subject: str, period: str) -> SealingKey:
        known = self._current.get((subject, period))
        if known is None:
            known = self._load(subject, period) or self._make(subject, period)
            self._remember(subject, period, known)
        return known

    async def save(self) -> None:
        rows = dict(self.unsaved)
        if not rows:
            return
        try:
            await asyncio.to_thread(_insert, self._path, rows.values())
        except apsw.Error as error:
            raise self._unavailable(error) from error
        for name in rows:
            self.unsaved.pop(name, None)

    def find(self, name: str) -> bytes | None:
        key = self._by_name.get(name)
        if key is None:
            row = self._query("SELECT key FROM keys WHERE name = ?", name)
            if row is None:
                return None
            key = bytes(row[0])
            self._remember_name(name, key)
        return key

    def close(self) -> None:
        self._db.close()

    def _load(self, subject: str, period: str) -> SealingKey | None:
        row = self._query("SELECT name, key FROM keys WHERE subject = ? AND period = ?", subject, period)
        return None if row is None else SealingKey(row[0], bytes(row[1]))

    def _make(self, subject: str, period: str) -> SealingKey:
        if len(self.unsaved) >= UNSAVED_MAX:
            raise KeyringUnavailable(f"the keyring {self._path} has {UNSAVED_MAX} keys that it could not save yet")
        made = _new_key()
        self.unsaved[made.name] = _Row(made.name, subject, period, made.key)
        return made

    def _query(self, sql: str, *params: str) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._db.execute(sql, params).fetchone()
        except apsw.Error as error:
            raise self._unavailable(error) from error
        return row

    def _unavailable(self, error: apsw.Error) -> KeyringUnavailable:
        return KeyringUnavailable(f"the keyring {self._path} can't be used now: {error}")

    def _remember(self, subject: str, period: str, key: SealingKey) -> None:
        if len(self._current) >= self._cached_max:
            self._current = {(row.subject, row.period): SealingKey(row.name, row.key) for row in self.unsaved.values()}
        self._current[subject, period] = key
        self._remember_name(key.name, key.key)

    def _remember_name(self, name: str, key: bytes) -> None:
        if len(self._by_name) >= self._cached_max:
            self._by_name = {row.name: row.key for row in self.unsaved.values()}
        self._by_name[name] = key


def create_keyring(path: Path) -> None:
    """An empty one, where there is none. Raises KeyringError."""
    if path.exists():
        raise KeyringError(f"there is a keyring at {path} already: move it away first")
    FileKeyring(path).close()


def _new_key() -> SealingKey:
    return SealingKey(new_uuid(), os.urandom(crypto_secretbox_KEYBYTES))


def _open_beside(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    db.execute("SELECT 1 FROM keys")
    return db


def _open(path: Path) -> apsw.Connection:
    """Makes the file where it is missing; one that is damaged raises apsw.Error."""
    path.touch(mode=0o600, exist_ok=True)
    db = _connect(path)
    db.execute("PRAGMA journal_mode=WAL")
    [[found]] = db.execute("PRAGMA quick_check(1)")
    if found != "ok":
        db.close()
        raise apsw.CorruptError(found)
    db.execute(_SCHEMA)
    return db


def _connect(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(LOCK_TIMEOUT_MS)
    db.execute("PRAGMA synchronous=FULL")  # An fsync for each commit: some builds of SQLite come with less.
    db.execute("PRAGMA fullfsync=ON")  # macOS: a plain fsync stops at the disk's own cache.
    return db


def _insert(path: Path, rows: Iterable["_Row"]) -> None:
    """In one transaction, which is one fsync. What fails is rolled back as the connection closes."""
    with closing(_connect(path)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(_INSERT, rows)
        db.execute("COMMIT")
