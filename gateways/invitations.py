"""Invitations: with one, an account may be made where registration is not open. They are no part of the log; the file
`invitations.db` holds them, and the engine and `signet invite` both open it.

Only a hash of a code is stored: who reads the file can't register. A use is on disk (fsync) before the account is, and
belongs to that account for ever, so a registration that broke off is said again and uses up nothing more.
"""

import asyncio
import hashlib
import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from domain.ids import AccountId
from gateways.refusal import Refusal

_log = logging.getLogger("signet.invitations")

LOCK_TIMEOUT_S: Final = 5.0
_CODE_BYTES: Final = 16
_ID_BYTES: Final = 4
_SECOND: Final = 1_000_000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS invitations (
    id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, uses_max INTEGER NOT NULL, made_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, revoked INTEGER NOT NULL DEFAULT 0, note TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS uses (
    id TEXT NOT NULL, account TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (id, account)
) WITHOUT ROWID;
"""
_LIST: Final = """
SELECT id, uses_max, (SELECT count(*) FROM uses u WHERE u.id = i.id), made_at, expires_at, revoked, note
FROM invitations i
"""


class InvitationsError(Exception):
    """The file can't be used: what is wrong and what to do."""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one; its code is not."""

    id: str
    uses_max: int
    used: int
    made_at: int
    """Times in microseconds since 1970, UTC."""
    expires_at: int
    revoked: bool
    note: str

    def state(self, now: int) -> str:
        """`open`, or why nobody can use it any more."""
        if self.revoked:
            return "revoked"
        if self.used >= self.uses_max:
            return "used up"
        return "expired" if now >= self.expires_at else "open"


class Invitations:
    """The file. Each call opens it anew, so that any thread and process may; calls are rare. All raise
    InvitationsError."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        """`clock` gives microseconds since 1970, UTC."""
        self._path = path
        self._clock = clock

    def make(self, *, uses: int, life_s: int, note: str = "") -> tuple[str, Invitation]:
        """A new one, and its code, which is shown this once."""
        code, id_, now = secrets.token_hex(_CODE_BYTES), secrets.token_hex(_ID_BYTES), self._clock()
        row = (id_, _hash(code), uses, now, now + life_s * _SECOND, note)
        with self._open() as db:
            db.execute("INSERT INTO invitations VALUES (?, ?, ?, ?, ?, 0, ?)", row)
            return code, _one(db, id_)

    def list(self) -> list[Invitation]:
        """All, the oldest first."""
        with self._open() as db:
            return [_invitation(row) for row in db.execute(f"{_LIST} ORDER BY made_at, id")]

    def revoke(self, id_: str) -> Invitation | None:
        """Nobody can use it any more; who has used it stays. None where there is none of this id."""
        with self._open() as db:
            changed = db.execute("UPDATE invitations SET revoked = 1 WHERE id = ?", (id_,)).rowcount
            return _one(db, id_) if changed else None

    async def use(self, code: str, account: AccountId) -> None:
        """Gives the account one use of it; nothing changes where it has one already. It is never given back: where the
        registration is refused for good, the account exists. Raises Refusal: `bad_invitation`, `unavailable`."""
        try:
            await asyncio.to_thread(self._use, code, account)
        except InvitationsError as error:
            _log.error("%s", error)
            raise Refusal("unavailable", "the invitations can't be read now") from error

    def _use(self, code: str, account: AccountId) -> None:
        with self._open() as db:
            row = db.execute(f"{_LIST} WHERE hash = ?", (_hash(code),)).fetchone()
            if row is None:
                raise Refusal("bad_invitation", "there is none of this code")
            invitation = _invitation(row)
            key = (invitation.id, account)
            if db.execute("SELECT 1 FROM uses WHERE id = ? AND account = ?", key).fetchone():
                return
            now = self._clock()
            if (state := invitation.state(now)) != "open":
                raise Refusal("bad_invitation", f"it is {state}")
            db.execute("INSERT INTO uses VALUES (?, ?, ?)", (*key, now))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction, with the right to write from its beginning."""
        try:
            self._path.touch(mode=0o600, exist_ok=True)
            db = sqlite3.connect(self._path, isolation_level=None, timeout=LOCK_TIMEOUT_S)
            try:
                db.execute("PRAGMA synchronous=FULL")
                db.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                yield db
                db.execute("COMMIT")
            finally:
                db.close()
        except (sqlite3.Error, OSError) as error:
            raise InvitationsError(
                f"the invitations {self._path} can't be used: {error}. If the file is damaged, move it away: then "
                "there are none, and new ones can be made."
            ) from error


def _one(db: sqlite3.Connection, id_: str) -> Invitation:
    return _invitation(db.execute(f"{_LIST} WHERE id = ?", (id_,)).fetchone())


def _invitation(row: tuple[str, int, int, int, int, int, str]) -> Invitation:
    id_, uses_max, used, made_at, expires_at, revoked, note = row
    return Invitation(
        id=id_,
        uses_max=uses_max,
        used=used,
        made_at=made_at,
        expires_at=expires_at,
        revoked=bool(revoked),
        note=note,
    )


def _hash(code: str) -> bytes:
    # Codes are 128 random bits: a slow hash would add nothing.
    return hashlib.sha256(code.encode()).digest()
