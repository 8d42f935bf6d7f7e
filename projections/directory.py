"""The read model `directory`: accounts with their sealed names, and their devices with their public keys."""

from collections.abc import Sequence
from typing import Final, assert_never, cast

import msgspec

from domain.account import AccountEvent, AccountRegistered, DeviceLinked, DeviceRevoked, ProfileChanged
from domain.codec import Event
from domain.entry import Sealed
from domain.ids import AccountId, DeviceId
from domain.keys import DeviceKeysPublished, FallbackKeyPublished, OneTimeKeyClaimed, OneTimeKeysPublished
from projections.database import Row
from projections.readmodel import ReadModel, Table

_PREFIX: Final = "account-"

_SCHEMA: Final = """
CREATE TABLE accounts (account TEXT PRIMARY KEY, name_key TEXT NOT NULL, name BLOB NOT NULL);
CREATE TABLE devices (
    account TEXT NOT NULL, device TEXT NOT NULL, key TEXT NOT NULL, active INTEGER NOT NULL, linked_at BIGINT NOT NULL,
    linked_by TEXT, PRIMARY KEY (account, device)
);
"""

_SET_NAME: Final = """
INSERT INTO accounts VALUES (?, ?, ?)
ON CONFLICT (account) DO UPDATE SET name_key = excluded.name_key, name = excluded.name
"""
_LINK: Final = "INSERT INTO devices VALUES (?, ?, ?, 1, ?, ?)"
_REVOKE: Final = "UPDATE devices SET active = 0 WHERE account = ? AND device = ?"
_DEVICES: Final = "SELECT account, device, key, active, linked_at, linked_by FROM devices WHERE account = ?"


class DeviceRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    account: AccountId
    device: DeviceId
    key: str
    """Ed25519 public key, unpadded base64."""
    active: bool
    """False once it was revoked."""
    linked_at: int
    """Microseconds since 1970."""
    by: DeviceId | None
    """The device that let it in; None for the first one."""


class Directory(ReadModel):
    name = "directory"
    version = 2
    schema = _SCHEMA
    tables = (Table("accounts", ("account",)), Table("devices", ("account", "device")))

    def apply(self, events: Sequence[Event]) -> None:
        # One by one, since the order counts; accounts change rarely.
        for event in events:
            if event.stream.startswith(_PREFIX):
                account = AccountId(event.stream[len(_PREFIX) :])
                self._apply_one(account, event.entry.at, cast(AccountEvent, event.entry.e))

    async def exists(self, account: AccountId) -> bool:
        return await self.name_of(account) is not None

    async def name_of(self, account: AccountId) -> Sealed | None:
        """None: there is no such account."""
        row = self.db.query_one("SELECT name_key, name FROM accounts WHERE account = ?", (account,))
        return None if row is None else Sealed(key=row[0], box=row[1])

    async def device(self, account: AccountId, device: DeviceId) -> DeviceRow | None:
        """None: it was never linked."""
        row = self.db.query_one(f"{_DEVICES} AND device = ?", (account, device))
        return None if row is None else _device(row)

    async def devices(self, account: AccountId) -> list[DeviceRow]:
        """All that ever were linked, in the order of their linking."""
        return [_device(row) for row in self.db.query(f"{_DEVICES} ORDER BY linked_at, device", (account,))]

    def _apply_one(self, account: AccountId, at: int, event: AccountEvent) -> None:
        match event:
            case AccountRegistered() | ProfileChanged():
                self.db.execute(_SET_NAME, (account, event.name.key, event.name.box))
            case DeviceLinked():
                self.db.execute(_LINK, (account, event.device, event.key, at, event.by))
            case DeviceRevoked():
                self.db.execute(_REVOKE, (account, event.device))
            case DeviceKeysPublished() | OneTimeKeysPublished() | FallbackKeyPublished() | OneTimeKeyClaimed():
                pass  # they are in the read model `attestations`
            case _:
                assert_never(event)


def _device(row: Row) -> DeviceRow:
    account, device, key, active, linked_at, linked_by = row
    return DeviceRow(account=account, device=device, key=key, active=bool(active), linked_at=linked_at, by=linked_by)
