"""A device's store: one SQLite file with everything that the device holds, and one owner.

The file is locked for as long as it is open: a second process is refused, since two would acknowledge for each other
what only one of them has. Items stand in it in their wire form, in order of seq.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from signet_client import wire
from signet_client.crypto.box import Box
from signet_client.errors import StoreFailed, StoreInUse
from signet_client.records import Batch, Conversation, Held, Marks, Outgoing, Profile, Upload, UploadFile
from signet_client.schema import SCHEMA, SCHEMA_VERSION

_PUT_ITEM: Final = "INSERT INTO items VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_PUT_MARKS: Final = """INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET cursor = excluded.cursor,
    read = excluded.read, tick_delivered = excluded.tick_delivered, tick_read = excluded.tick_read,
    undelivered = excluded.undelivered"""
_PUT_CONVERSATION: Final = """INSERT INTO conversations VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    kind = excluded.kind, protection = excluded.protection, title = excluded.title, peer = excluded.peer"""
_PUT_MEMBER: Final = "INSERT INTO members VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET role = excluded.role"
_PUT_OUTGOING: Final = """
INSERT INTO outbox (id, conversation, header, body, signature, clear, counts) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING"""
_LOSE: Final = """
INSERT INTO lost
SELECT conversation, seq, json_extract(json_extract(CAST(item AS TEXT), '$.header'), '$.id'), item, clear
FROM items WHERE conversation = ? AND seq > ? ON CONFLICT DO NOTHING"""
_ITEMS: Final = """
SELECT i.item, i.clear, u.reason FROM items i
LEFT JOIN undecrypted u ON u.conversation = i.conversation AND u.seq = i.seq AND u.repaired = 0
WHERE i.conversation = ?"""
_MOST_RECENT: Final = """SELECT conversation FROM marks ORDER BY (SELECT json_extract(CAST(item AS TEXT), '$.at')
    FROM items WHERE items.conversation = marks.conversation ORDER BY seq DESC LIMIT 1) DESC"""

_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE_ITEM: Final = msgspec.json.Decoder(wire.Item).decode
_DECODE_UPLOAD: Final = msgspec.json.Decoder(Upload).decode
_DECODE_FILE: Final = msgspec.json.Decoder(UploadFile).decode
_DECODE_SEQS: Final = msgspec.json.Decoder(set[int]).decode


class Store:
    """Every method that writes is one transaction, on disk when it returns (but for `durable=False`), and so is
    whatever `write` was given before. They raise StoreFailed, and from then on always."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Opens the store, or makes an empty one. `durable=False` leaves it to the operating system when to write: a
        crash of the machine may lose what was acknowledged, a crash of the process does not. Raises StoreInUse."""
        self.path = path
        self._account = ""
        """The device's, as far as it is known."""
        self._failed: StoreFailed | None = None
        """Why nothing is written any more: what somebody has in memory may be ahead of the file."""
        self.box: Box | None = None
        """What seals the texts of encrypted messages; None: there are none yet."""
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
        except sqlite3.Error as error:
            raise StoreFailed(f"can't open {path}: {error}") from error
        try:
            self._set_up(durable)
        except sqlite3.OperationalError as error:
            self._db.close()
            if "locked" in str(error):
                raise StoreInUse(f"{path} is open in another process; close it first") from error
            raise StoreFailed(f"can't open {path}: {error}") from error
        except sqlite3.Error as error:
            self._db.close()
            raise StoreFailed(f"{path} is not a store of this client: {error}") from error

    def _set_up(self, durable: bool) -> None:
        # Exclusive before the first access: the lock is then held until the file is closed, and the WAL needs no
        # shared memory.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        self._db.execute("BEGIN EXCLUSIVE")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        for since, schema in enumerate(SCHEMA):
            if version <= since:
                for statement in schema.split(";"):
                    self._db.execute(statement)
        if version < SCHEMA_VERSION:
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._db.execute("COMMIT")
        if version > SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"it was written by a newer client (version {version})")

    def close(self) -> None:
        self._db.close()

    # Writing bit by bit

    def write(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Seen at once by whoever asks this store; on disk with the next transaction that ends, or by `settle`."""
        self._check()
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN")
            self._db.execute(sql, parameters)
        except sqlite3.Error as error:
            raise self._fail(error) from error

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _fail(self, error: sqlite3.Error) -> StoreFailed:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._failed = StoreFailed(f"can't write {self.path}: {error}")
        return self._failed

    def settle(self) -> None:
        """What was written is on disk."""
        if self._db.in_transaction:
            with self._transaction():
                pass

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._check()
        try:
            if not self._db.in_transaction:
                self._db.execute("BEGIN")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._fail(error) from error
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def query(self, sql: str, parameters: Sequence[object] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreFailed(f"can't read {self.path}: {error}") from error

    # The device

    def profile(self) -> Profile | None:
        rows = self.query("SELECT profile FROM device")
        if not rows:
            return None
        profile = msgspec.json.decode(rows[0][0], type=Profile)
        self._account = profile.account
        return profile

    def identity(self) -> bytes:
        """The sealed identity; only where there is a profile."""
        identity: bytes = self.query("SELECT identity FROM device")[0][0]
        return identity

    def put_identity(self, identity: bytes) -> None:
        """Sealed; committed with what comes next."""
        self.write("UPDATE device SET identity = ?", (identity,))

    def put_device(self, profile: Profile, identity: bytes) -> None:
        with self._transaction():
            self._db.execute(
                """INSERT INTO device VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET profile = excluded.profile,
                identity = excluded.identity""",
                (_ENCODE(profile).decode(), identity),
            )
        self._account = profile.account

    # What comes in

    def commit(self, batch: Batch) -> None:
        """Stores all of a batch or nothing."""
        with self._transaction():
            if batch.items:
                self._db.executemany(_PUT_ITEM, [(item.c, item.seq, _ENCODE(item), None) for item in batch.items])
            for (conversation, seq), clear in batch.clear.items():
                sql = "UPDATE items SET clear = ? WHERE conversation = ? AND seq = ?"
                self._db.execute(sql, (self._sealed(clear), conversation, seq))
            # After the texts: one of them may have been taken back by what came with it.
            for item in batch.items:
                if isinstance(item, wire.Change):
                    self._apply_change(item)
            for conversation, target, retraction in batch.retracted:
                self._blank(conversation, target, retraction)
            if batch.conversations:
                self._db.executemany(_PUT_CONVERSATION, [msgspec.structs.astuple(it) for it in batch.conversations])
            if batch.marks:
                self._db.executemany(_PUT_MARKS, [_marks_row(*pair) for pair in batch.marks.items()])
            if batch.sent:
                self._db.executemany("DELETE FROM outbox WHERE id = ?", [(id_,) for id_ in batch.sent])
            if batch.found:
                self._db.executemany("DELETE FROM lost WHERE id = ?", [(id_,) for id_ in batch.found])
            for id_, code in batch.refused:
                self._db.execute("UPDATE outbox SET refused = ? WHERE id = ?", (code, id_))

    def _apply_change(self, change: wire.Change) -> None:
        match change.what:
            case "started" | "added" | "removed" | "left" | "role":
                self._follow_members(change)
            case "retracted":
                self._blank(change.c, change.target or 0, change.seq)
            case "title":
                pass

    def _follow_members(self, change: wire.Change) -> None:
        if change.what == "added" and self._account in change.accounts:
            # Who came and went while the account was no member, it does not see.
            self._db.execute("DELETE FROM members WHERE conversation = ?", (change.c,))
        elif change.what == "started" or self.members(change.c):
            joined = zip(change.accounts, change.roles, strict=False)
            self._db.executemany(_PUT_MEMBER, [(change.c, account, role) for account, role in joined])
            gone = [(change.c, account) for account in change.accounts if change.what in ("removed", "left")]
            self._db.executemany("DELETE FROM members WHERE conversation = ? AND account = ?", gone)

    def _blank(self, conversation: str, target: int, retraction: int) -> None:
        item = self.item(conversation, target)
        if isinstance(item, wire.Message):
            blank = msgspec.structs.replace(item, body=None, retracted=retraction)
            self._db.execute(
                "UPDATE items SET item = ?, clear = NULL WHERE conversation = ? AND seq = ?",
                (_ENCODE(blank), item.c, item.seq),
            )

    # What a restored server has lost

    def epoch(self) -> str:
        """The server's, as it was last taken in; empty: none was."""
        rows = self.query("SELECT value FROM facts WHERE name = 'epoch'")
        return str(rows[0][0]) if rows else ""

    def go_back(self, epoch: str, marks: Mapping[str, Marks], outbox: Sequence[Outgoing]) -> None:
        """The server has lost what lies beyond these cursors: it is kept apart, and `outbox` takes the place of what
        was to be sent."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO facts VALUES ('epoch', ?) ON CONFLICT DO UPDATE SET value = excluded.value", (epoch,)
            )
            for conversation, each in marks.items():
                beyond = (conversation, each.cursor)
                self._db.execute(_LOSE, beyond)
                # What comes again as it was is no replay; whether it is a new message, its id says.
                for table in ("items", "seen", "undecrypted"):
                    self._db.execute(f"DELETE FROM {table} WHERE conversation = ? AND seq > ?", beyond)
                self._db.execute("DELETE FROM members WHERE conversation = ?", (conversation,))
                self._db.execute(_PUT_MARKS, _marks_row(conversation, each))
            # Versions count the events of accounts, which are counted anew from the backup on.
            self._db.execute("DELETE FROM lists")
            if marks:
                self._db.execute("DELETE FROM outbox WHERE refused IS NULL")
                self._db.executemany(_PUT_OUTGOING, [self._outgoing_row(message) for message in outbox])

    def lost(self, conversation: str) -> list[Held]:
        """Ascending."""
        sql = "SELECT item, clear, NULL FROM lost WHERE conversation = ? ORDER BY seq"
        return [self._held(row) for row in self.query(sql, (conversation,))]

    def lost_messages(self) -> dict[str, int]:
        """The ids of all of them, and the seqs that they had."""
        return dict(self.query("SELECT id, seq FROM lost WHERE id IS NOT NULL"))

    # What is held

    def marks(self) -> dict[str, Marks]:
        rows = self.query("SELECT conversation, cursor, read, tick_delivered, tick_read, undelivered FROM marks")
        return {
            conversation: Marks(
                cursor=cursor,
                read=read,
                tick_delivered=delivered,
                tick_read=tick_read,
                undelivered=_DECODE_SEQS(undelivered),
            )
            for conversation, cursor, read, delivered, tick_read, undelivered in rows
        }

    def most_recent(self) -> list[str]:
        """The conversations that have marks, that with the latest item first."""
        return [conversation for (conversation,) in self.query(_MOST_RECENT)]

    def knows(self, conversation: str) -> bool:
        """What a conversation is."""
        return bool(self.query("SELECT 1 FROM conversations WHERE conversation = ?", (conversation,)))

    def conversations(self) -> list[Conversation]:
        rows = self.query("SELECT conversation, kind, protection, title, peer FROM conversations")
        return [
            Conversation(conversation=conversation, kind=kind, protection=protection, title=title, peer=peer)
            for conversation, kind, protection, title, peer in rows
        ]

    def item(self, conversation: str, seq: int) -> wire.Item | None:
        rows = self.query("SELECT item FROM items WHERE conversation = ? AND seq = ?", (conversation, seq))
        return _DECODE_ITEM(rows[0][0]) if rows else None

    def items(self, conversation: str, *, after: int, limit: int) -> list[wire.Item]:
        """Ascending, from the first seq greater than `after` on."""
        return [held.item for held in self.held(conversation, after=after, limit=limit)]

    def held(self, conversation: str, *, after: int, limit: int) -> list[Held]:
        """As `items`, with what they say."""
        rows = self.query(f"{_ITEMS} AND i.seq > ? ORDER BY i.seq LIMIT ?", (conversation, after, limit))
        return [self._held(row) for row in rows]

    def last_held(self, conversation: str, *, before: int, limit: int) -> list[Held]:
        """Ascending; the last ones with a seq smaller than `before`."""
        rows = self.query(f"{_ITEMS} AND i.seq < ? ORDER BY i.seq DESC LIMIT ?", (conversation, before, limit))
        return [self._held(row) for row in reversed(rows)]

    def changes(self, conversation: str, *, after: int) -> list[wire.Change]:
        """What changed with a greater seq than `after`, ascending."""
        sql = """SELECT item FROM items
            WHERE conversation = ? AND seq > ? AND json_extract(CAST(item AS TEXT), '$.t') = 'change' ORDER BY seq"""
        items = [_DECODE_ITEM(item) for (item,) in self.query(sql, (conversation, after))]
        return [item for item in items if isinstance(item, wire.Change)]

    def last_own(self, conversation: str, device: str, *, upto: int) -> int:
        """The seq of the last message, at most `upto`, that this account has sent by this device; 0: there is none."""
        sql = """SELECT coalesce(max(seq), 0) FROM items WHERE conversation = ? AND seq <= ?
            AND json_extract(CAST(item AS TEXT), '$.t') = 'message'
            AND json_extract(json_extract(CAST(item AS TEXT), '$.header'), '$.s') = ?
            AND json_extract(json_extract(CAST(item AS TEXT), '$.header'), '$.d') = ?"""
        return int(self.query(sql, (conversation, upto, self._account, device))[0][0])

    def _held(self, row: Sequence[Any]) -> Held:
        item, clear, reason = row
        return Held(_DECODE_ITEM(item), None if clear is None else self._opened(clear), reason)

    def _sealed(self, clear: str) -> bytes:
        assert self.box is not None, "a store of encrypted messages has a key"
        return self.box.seal(clear.encode())

    def _opened(self, sealed: bytes) -> str:
        assert self.box is not None, "a store of encrypted messages has a key"
        return self.box.open(sealed).decode()

    # Members and names, as far as they were asked for or seen

    def members(self, conversation: str) -> dict[str, wire.Role]:
        """Empty where they are not known."""
        return dict(self.query("SELECT account, role FROM members WHERE conversation = ?", (conversation,)))

    def put_members(self, conversation: str, members: dict[str, wire.Role]) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM members WHERE conversation = ?", (conversation,))
            rows = [(conversation, account, role) for account, role in members.items()]
            self._db.executemany(_PUT_MEMBER, rows)

    def name(self, account: str) -> str | None:
        rows = self.query("SELECT name FROM names WHERE account = ?", (account,))
        return rows[0][0] if rows else None

    def put_name(self, account: str, name: str) -> None:
        with self._transaction():
            self._db.execute(
                "INSERT INTO names VALUES (?, ?) ON CONFLICT DO UPDATE SET name = excluded.name", (account, name)
            )

    # What goes out

    def put_outgoing(self, message: Outgoing) -> None:
        """Committed with what comes next."""
        self.write(_PUT_OUTGOING, self._outgoing_row(message))

    def put_encrypted(self, message: Outgoing) -> None:
        """The bytes that go out, or that there are none any more; committed with what comes next."""
        sql = "UPDATE outbox SET header = ?, body = ?, signature = ? WHERE id = ?"
        self.write(sql, (message.header, message.body, message.signature, message.id))

    def put_upload(self, upload: Upload) -> None:
        """Where its message was in the outbox, it is there no more."""
        with self._transaction():
            sealed = self._sealed(_ENCODE(upload).decode())
            self._db.execute("INSERT INTO uploads (message, upload) VALUES (?, ?)", (upload.message, sealed))
            self._db.execute("DELETE FROM outbox WHERE id = ?", (upload.message,))

    def uploads(self) -> list[Upload]:
        """In the order in which they were made."""
        rows = self.query("SELECT upload FROM uploads ORDER BY position")
        return [_DECODE_UPLOAD(self._opened(upload)) for (upload,) in rows]

    def put_uploaded(self, file: UploadFile) -> None:
        """The server has it; committed with what comes next."""
        self.write("INSERT OR REPLACE INTO uploaded VALUES (?, ?)", (file.media, _ENCODE(file).decode()))

    def uploaded(self, media: str) -> UploadFile | None:
        """How it was reserved; None where it was not uploaded by this device."""
        rows = self.query("SELECT file FROM uploaded WHERE media = ?", (media,))
        return _DECODE_FILE(rows[0][0]) if rows else None

    def drop_upload(self, message: str) -> None:
        """Committed with what comes next."""
        self.write("DELETE FROM uploads WHERE message = ?", (message,))

    def outbox(self) -> list[Outgoing]:
        """In the order in which they were made; those refused for good included."""
        sql = """SELECT id, conversation, header, body, signature, clear, counts, refused
            FROM outbox ORDER BY position"""
        return [
            Outgoing(
                id=id_,
                conversation=conversation,
                header=header,
                body=body,
                signature=signature,
                clear=None if clear is None else self._opened(clear),
                counts=bool(counts),
                refused=refused,
            )
            for id_, conversation, header, body, signature, clear, counts, refused in self.query(sql)
        ]

    def _outgoing_row(self, message: Outgoing) -> tuple[object, ...]:
        clear = None if message.clear is None else self._sealed(message.clear)
        return (
            message.id, message.conversation, message.header, message.body, message.signature, clear, message.counts,
        )  # fmt: skip

    def discard(self, id_: str) -> None:
        """Takes a refused message out of the outbox."""
        with self._transaction():
            self._db.execute("DELETE FROM outbox WHERE id = ? AND refused IS NOT NULL", (id_,))


def _marks_row(conversation: str, marks: Marks) -> tuple[str, int, int, int, int, str]:
    undelivered = _ENCODE(marks.undelivered).decode() if marks.undelivered else "[]"
    return conversation, marks.cursor, marks.read, marks.tick_delivered, marks.tick_read, undelivered
