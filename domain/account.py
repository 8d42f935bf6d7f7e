"""Accounts and their devices: state, events, commands, `decide`, `evolve`.

A device is known by its Ed25519 key. The first one registers the account; every other one is let in by a device that
is already in, which signs the newcomer's key. A revoked device never comes back under the same name. What a device
publishes so that others can encrypt to it stands in domain/keys.py.
"""

from typing import assert_never

import msgspec

from domain.entry import Entry, Sealed
from domain.errors import DeviceExists, DeviceNotActive, IdTaken, NoKeysLeft, NoSuchAccount, NoSuchDevice
from domain.ids import AccountId, CommandId, DeviceId
from domain.keys import (
    ClaimKey,
    DeviceKeysPublished,
    FallbackKeyPublished,
    KeyEvent,
    Keys,
    OneTimeKeyClaimed,
    OneTimeKeysPublished,
    PublishKeys,
    decide_claim,
    decide_publish,
    evolve_keys,
)
from domain.recent import First

# Events


class AccountRegistered(msgspec.Struct, frozen=True, kw_only=True):
    name: Sealed


class DeviceLinked(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    device: DeviceId
    key: str
    """Ed25519 public key, unpadded base64."""
    by: DeviceId | None = None
    """The device that let it in; None for the first one."""
    signature: str
    """By `by` over the new key; the first device's own over its registration."""


class DeviceRevoked(msgspec.Struct, frozen=True, kw_only=True):
    device: DeviceId
    by: DeviceId


class ProfileChanged(msgspec.Struct, frozen=True, kw_only=True):
    name: Sealed


AccountEvent = AccountRegistered | DeviceLinked | DeviceRevoked | ProfileChanged | KeyEvent

# Commands


class RegisterAccount(msgspec.Struct, frozen=True, kw_only=True):
    id: CommandId
    account: AccountId
    name: Sealed
    device: DeviceId
    key: str
    signature: str


class LinkDevice(msgspec.Struct, frozen=True, kw_only=True):
    id: CommandId
    account: AccountId
    by: DeviceId
    device: DeviceId
    key: str
    signature: str


class RevokeDevice(msgspec.Struct, frozen=True, kw_only=True):
    id: CommandId
    account: AccountId
    by: DeviceId
    device: DeviceId


class ChangeProfile(msgspec.Struct, frozen=True, kw_only=True):
    id: CommandId
    account: AccountId
    by: DeviceId
    name: Sealed


AccountCommand = RegisterAccount | LinkDevice | RevokeDevice | ChangeProfile | PublishKeys | ClaimKey

# State


class Device(msgspec.Struct):
    key: str
    active: bool = True
    revocation: CommandId | None = None
    """The command that revoked it: a device that revokes itself may say so again."""
    keys: Keys | None = None
    """None: it has published none."""


class Account(msgspec.Struct):
    """The fold of an account's stream; `version` is that of its last event, -1 while there is none."""

    version: int = -1
    devices: dict[DeviceId, Device] = {}
    profile_commands: set[CommandId] = set()
    """All changes of the profile: said again, none of them changes anything, whatever came later. People rename
    themselves rarely."""

    @property
    def exists(self) -> bool:
        return self.version >= 0

    def has_active(self, device: DeviceId) -> bool:
        known = self.devices.get(device)
        return known is not None and known.active

    def outcome_of(self, command: AccountCommand) -> First | None:
        """What a claim was answered with the first time; None for all other commands, whose answers say nothing."""
        if not isinstance(command, ClaimKey):
            return None
        device = self.devices.get(command.device)
        return None if device is None or device.keys is None else device.keys.claims.find(command.id)


def decide(state: Account, command: AccountCommand) -> list[AccountEvent]:
    """The events of a command; none where it changes nothing. Raises `Rejected`."""
    match command:
        case RegisterAccount():
            return _register(state, command)
        case LinkDevice():
            _check_device(state, command.by)
            return _link(state, command)
        case RevokeDevice():
            return _revoke(state, command)
        case ChangeProfile():
            _check_device(state, command.by)
            if command.id in state.profile_commands:
                return []
            return [ProfileChanged(name=command.name)]
        case PublishKeys():
            _check_device(state, command.device)
            keys = state.devices[command.device].keys
            return [*decide_publish(Keys() if keys is None else keys, command)]
        case ClaimKey():
            return _claim(state, command)
        case _:
            assert_never(command)


def _check_device(state: Account, device: DeviceId) -> None:
    if not state.exists:
        raise NoSuchAccount
    if not state.has_active(device):
        raise DeviceNotActive


def _register(state: Account, command: RegisterAccount) -> list[AccountEvent]:
    if state.exists:
        known = state.devices.get(command.device)
        if known is None or known.key != command.key:
            raise IdTaken
        return []
    first = DeviceLinked(device=command.device, key=command.key, signature=command.signature)
    return [AccountRegistered(name=command.name), first]


def _link(state: Account, command: LinkDevice) -> list[AccountEvent]:
    known = state.devices.get(command.device)
    if known is None:
        return [DeviceLinked(device=command.device, key=command.key, by=command.by, signature=command.signature)]
    if known.key == command.key and known.active:
        return []
    raise DeviceExists


def _revoke(state: Account, command: RevokeDevice) -> list[AccountEvent]:
    known = state.devices.get(command.device)
    if known is not None and known.revocation == command.id:
        return []
    _check_device(state, command.by)
    if known is None:
        raise NoSuchDevice
    return [DeviceRevoked(device=command.device, by=command.by)] if known.active else []


def _claim(state: Account, command: ClaimKey) -> list[AccountEvent]:
    device = state.devices.get(command.device)
    if device is None or not device.active:
        raise NoSuchDevice
    if device.keys is None:
        raise NoKeysLeft
    return [*decide_claim(device.keys, command)]


def evolve(state: Account, version: int, entry: Entry[AccountEvent]) -> None:
    """Folds one event into the state, in place. Never refuses: it has happened."""
    state.version = version
    match entry.e:
        case AccountRegistered():
            pass
        case DeviceLinked() as linked:
            state.devices[linked.device] = Device(key=linked.key)
        case DeviceRevoked() as revoked:
            device = state.devices[revoked.device]
            device.active = False
            device.revocation = CommandId(entry.cmd)
        case ProfileChanged():
            state.profile_commands.add(CommandId(entry.cmd))
        case DeviceKeysPublished() | OneTimeKeysPublished() | FallbackKeyPublished() | OneTimeKeyClaimed() as event:
            device = state.devices[event.device]
            if device.keys is None:
                device.keys = Keys()
            evolve_keys(device.keys, event, entry.cmd, version, entry.at)
        case _:
            assert_never(entry.e)
