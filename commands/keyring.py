"""The keyring: the keys that seal personal fields. It lies outside the log, and whoever destroys a key here erases
what it sealed everywhere, backups of the log included.

The port is `Keyring`; `FileKeyring` is a file of its own beside the log. A key is on disk (fsync) before it is used.
"""

import os
import sqlite3
from pathlib import Path
from typing import Final, Protocol

from nacl.bindings import crypto_secretbox_KEYBYTES

from commands.ids import new_uuid

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS keys (
        name TEXT PRIMARY KEY, subject TEXT NOT NULL, period TEXT NOT NULL, key BLOB NOT NULL, UNIQUE (subject, period)
    )
"""


class KeyringError(Exception):
    """The keyring can't be used: what is wrong and what to do."""


class SealingKey:
    """A key and the opaque name under which events refer to it."""

    __slots__ = ("key", "name")

    def __init__(self, name: str, key: bytes) -> None:
        self.name = name
        self.key = key


class Keyring(Protocol):
    def current(self, subject: str, period: str) -> SealingKey:
        """The key of a subject (an account) for a period (a month, `2026-11`); made, and stored durably, where there
        is none yet."""
        ...

    def find(self, name: str) -> bytes | None:
        """The key of that name; None where it was destroyed."""
        ...


class MemoryKeyring:
    """For tests: forgets everything."""

    def __init__(self) -> None:
        self._current: dict[tuple[str, str], SealingKey] = {}
        self._by_name: dict[str, bytes] = {}

    def current(self, subject: str, period: str) -> SealingKey:
        known = self._current.get((subject, period))
        if known is None:
            known = SealingKey(new_uuid(), os.urandom(crypto_secretbox_KEYBYTES))
            self._current[subject, period] = known
            self._by_name[known.name] = known.key
        return known

    def find(self, name: str) -> bytes | None:
        return self._by_name.get(name)


class FileKeyring:
    """The keyring in an SQLite file of mode 0600. What it has handed out stays in memory, `cached_max` keys of each
    kind; where that many are held, all are dropped and read again as they are needed."""

    def __init__(self, path: Path, *, read_only: bool = False, cached_max: int = 100_000) -> None:
        """`read_only`: beside the process that owns it. Raises KeyringError where the file is no keyring or can't be
        read."""
        self._cached_max = cached_max
        self._current: dict[tuple[str, str], SealingKey] = {}
        self._by_name: dict[str, bytes] = {}
        try:
            if read_only:
                self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
                self._db.execute("SELECT 1 FROM keys")
                return
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            raise KeyringError(
                f"the keyring {path} can't be read ({error}); restore it from its own backup: without it the sealed "
                "texts can't be read"
            ) from error

    def current(self, subject: str, period: str) -> SealingKey:
        known = self._current.get((subject, period))
        if known is None:
            known = self._load(subject, period) or self._make(subject, period)
            self._remember(subject, period, known)
        return known

    def find(self, name: str) -> bytes | None:
        key = self._by_name.get(name)
        if key is None:
            row = self._db.execute("SELECT key FROM keys WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            key = bytes(row[0])
            self._remember_name(name, key)
        return key

    def close(self) -> None:
        self._db.close()

    def _load(self, subject: str, period: str) -> SealingKey | None:
        row = self._db.execute(
            "SELECT name, key FROM keys WHERE subject = ? AND period = ?", (subject, period)
        ).fetchone()
        return None if row is None else SealingKey(row[0], bytes(row[1]))

    def _make(self, subject: str, period: str) -> SealingKey:
        made = SealingKey(new_uuid(), os.urandom(crypto_secretbox_KEYBYTES))
        # Autocommit: the statement returns after its fsync.
        self._db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (made.name, subject, period, made.key))
        return made

    def _remember(self, subject: str, period: str, key: SealingKey) -> None:
        if len(self._current) >= self._cached_max:
            self._current.clear()
        self._current[subject, period] = key
        self._remember_name(key.name, key.key)

    def _remember_name(self, name: str, key: bytes) -> None:
        if len(self._by_name) >= self._cached_max:
            self._by_name.clear()
        self._by_name[name] = key
