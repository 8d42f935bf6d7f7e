"""The read model `attestations`: what devices attest, by which others check them: their keys for encryption, who has
let them in, and, signed, how far they have come in each conversation.

The server stores signatures and answers with them; whoever reads them here verifies them (the client, and auditors).
Of a device's receipts two are kept for each conversation: the one with its greatest delivered mark, and the one with
its greatest read mark.
"""

from collections.abc import Sequence
from typing import Final, assert_never, cast

import msgspec

from domain.account import AccountEvent, AccountRegistered, DeviceLinked, DeviceRevoked, ProfileChanged
from domain.codec import Event
from domain.ids import AccountId, ConversationId, DeviceId
from domain.keys import DeviceKeysPublished, FallbackKeyPublished, OneTimeKeyClaimed, OneTimeKeysPublished
from domain.receipts import Receipt, ReceiptsAdvanced
from projections.database import Row
from projections.readmodel import ReadModel, Table

_ACCOUNT: Final = "account-"
_RECEIPTS: Final = "receipts-"

_SCHEMA: Final = """
CREATE TABLE devices (
    account TEXT NOT NULL, device TEXT NOT NULL, key TEXT NOT NULL, linked_by TEXT, link_signature TEXT NOT NULL,
    keys TEXT, one_time_keys INTEGER NOT NULL, fallback_unused INTEGER NOT NULL, active INTEGER NOT NULL,
    PRIMARY KEY (account, device)
);
CREATE TABLE lists (account TEXT PRIMARY KEY, version BIGINT NOT NULL);
CREATE TABLE statements (
    conversation TEXT NOT NULL, account TEXT NOT NULL, device TEXT NOT NULL, about TEXT NOT NULL,
    mark BIGINT NOT NULL, statement TEXT NOT NULL, PRIMARY KEY (conversation, account, device, about)
) WITHOUT ROWID;
"""

_LINK: Final = "INSERT INTO devices VALUES (?, ?, ?, ?, ?, NULL, 0, 0, 1)"
_REVOKE: Final = "UPDATE devices SET active = 0 WHERE account = ? AND device = ?"
_SET_KEYS: Final = "UPDATE devices SET keys = ? WHERE account = ? AND device = ?"
_SET_LEFT: Final = "UPDATE devices SET one_time_keys = ? WHERE account = ? AND device = ?"
_SET_FALLBACK: Final = "UPDATE devices SET fallback_unused = ? WHERE account = ? AND device = ?"
_SET_VERSION: Final = """
INSERT INTO lists VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET version = excluded.version
"""
_STATE: Final = """
INSERT INTO statements VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (conversation, account, device, about) DO UPDATE SET
    mark = CASE WHEN excluded.mark > statements.mark THEN excluded.mark ELSE statements.mark END,
    statement = CASE WHEN excluded.mark > statements.mark THEN excluded.statement ELSE statements.statement END
"""
_DEVICES: Final = """
SELECT device, key, linked_by, link_signature, keys, active FROM devices WHERE account = ? ORDER BY device
"""
_COUNTS: Final = """
SELECT one_time_keys, fallback_unused, keys IS NOT NULL FROM devices WHERE account = ? AND device = ?
"""
_STATEMENTS: Final = """
SELECT DISTINCT account, device, statement FROM statements WHERE conversation = ? ORDER BY account, device, statement
"""

_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(Receipt).decode


class AttestedDevice(msgspec.Struct, frozen=True, kw_only=True):
    device: DeviceId
    key: str
    """Ed25519 public key, unpadded base64."""
    linked_by: DeviceId | None
    link_signature: str
    """By `linked_by` over `payloads.link_payload`; by the first one itself over its registration."""
    keys: str | None
    """Its identity keys as signed JSON; None: it has published none."""
    active: bool


class KeyCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device has left to be handed out."""

    one_time_keys: int = 0
    fallback_unused: bool = False
    published: bool = False
    """It has published its identity keys."""


class Attestations(ReadModel):
    name = "attestations"
    version = 1
    schema = _SCHEMA
    tables = (
        Table("devices", ("account", "device")),
        Table("lists", ("account",)),
        Table("statements", ("conversation", "account", "device", "about")),
    )

    def apply(self, events: Sequence[Event]) -> None:
        # One by one, since the order counts.
        statements: list[tuple[str | int, ...]] = []
        for event in events:
            if event.stream.startswith(_ACCOUNT):
                account = AccountId(event.stream[len(_ACCOUNT) :])
                self._apply_account(account, event.version, cast(AccountEvent, event.entry.e))
            elif event.stream.startswith(_RECEIPTS):
                conversation = event.stream[len(_RECEIPTS) :]
                advanced = cast(ReceiptsAdvanced, event.entry.e)
                statements += [row for receipt in advanced.receipts for row in _rows(conversation, receipt)]
        if statements:
            self.db.executemany(_STATE, statements)

    async def devices(self, account: AccountId) -> list[AttestedDevice]:
        """All that ever were linked."""
        return [
            AttestedDevice(
                device=device,
                key=key,
                linked_by=linked_by,
                link_signature=link_signature,
                keys=keys,
                active=bool(active),
            )
            for device, key, linked_by, link_signature, keys, active in self.db.query(_DEVICES, (account,))
        ]

    async def list_version(self, account: AccountId) -> int:
        """That of the account's event that changed its list last; -1 where no device has published keys."""
        row = self.db.query_one("SELECT version FROM lists WHERE account = ?", (account,))
        return -1 if row is None else row[0]

    async def counts(self, account: AccountId, device: DeviceId) -> KeyCounts:
        row = self.db.query_one(_COUNTS, (account, device))
        return KeyCounts() if row is None else _counts(row)

    async def statements(self, conversation: ConversationId) -> list[Receipt]:
        """The signed receipts of all devices that tell how far each has come."""
        return [_DECODE(text) for _, _, text in self.db.query(_STATEMENTS, (conversation,))]

    def _apply_account(self, account: AccountId, version: int, event: AccountEvent) -> None:
        match event:
            case DeviceLinked():
                self.db.execute(_LINK, (account, event.device, event.key, event.by, event.signature))
            case DeviceRevoked():
                self.db.execute(_REVOKE, (account, event.device))
                self.db.execute(_SET_VERSION, (account, version))
            case DeviceKeysPublished():
                self.db.execute(_SET_KEYS, (event.keys, account, event.device))
                self.db.execute(_SET_VERSION, (account, version))
            case OneTimeKeysPublished():
                self.db.execute(_SET_LEFT, (event.left, account, event.device))
            case FallbackKeyPublished():
                self.db.execute(_SET_FALLBACK, (1, account, event.device))
            case OneTimeKeyClaimed(fallback=True):
                self.db.execute(_SET_FALLBACK, (0, account, event.device))
            case OneTimeKeyClaimed():
                self.db.execute(_SET_LEFT, (event.left, account, event.device))
            case AccountRegistered() | ProfileChanged():
                pass
            case _:
                assert_never(event)


def _rows(conversation: str, receipt: Receipt) -> list[tuple[str | int, ...]]:
    if receipt.signature is None:
        return []
    text = _ENCODE(receipt).decode()
    who = (conversation, receipt.account, receipt.device)
    marks = (("delivered", receipt.delivered), ("read", receipt.read))
    return [(*who, about, mark, text) for about, mark in marks if mark]


def _counts(row: Row) -> KeyCounts:
    one_time_keys, fallback_unused, published = row
    return KeyCounts(one_time_keys=one_time_keys, fallback_unused=bool(fallback_unused), published=bool(published))
