"""The key directory of a device: what others need to encrypt to it. Events, commands, state, decisions and the fold.

Everything here is public: the device's identity keys, and one-time keys of which each is handed out once, ever, to
whoever begins an Olm session with the device; when there are none left the fallback key is given again and again, until
the device publishes another. The texts are JSON that the device has signed; that they are right, the edge has checked.

These events stand in the stream of the device's account (`domain/account.py`), so one writer hands the keys out.
"""

from typing import Final

import msgspec

from domain.errors import DeviceExists, IdTaken, NoKeys, NoKeysLeft, TooManyKeys
from domain.ids import AccountId, CommandId, DeviceId
from domain.recent import First, Recent

ONE_TIME_KEYS_MAX: Final = 200
"""How many one-time keys of a device wait to be handed out at most; clients publish 50 to 100."""

# Events


class DeviceKeysPublished(msgspec.Struct, frozen=True, kw_only=True):
    device: DeviceId
    keys: str
    """Its identity keys as canonical JSON, signed by itself."""


class OneTimeKeysPublished(msgspec.Struct, frozen=True, kw_only=True):
    device: DeviceId
    keys: dict[str, str]
    """Key id → the key as signed JSON, in the order in which they are handed out."""
    left: int
    """How many there are now."""


class FallbackKeyPublished(msgspec.Struct, frozen=True, kw_only=True):
    device: DeviceId
    id: str
    key: str
    """Signed JSON."""


class OneTimeKeyClaimed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    device: DeviceId
    id: str
    key: str
    by: AccountId
    by_device: DeviceId
    left: int
    """How many are left."""
    fallback: bool = False
    """It is the fallback key, since there was no other."""
    fallback_unused: bool = False
    """There is a fallback key that nobody was given yet."""


KeyEvent = DeviceKeysPublished | OneTimeKeysPublished | FallbackKeyPublished | OneTimeKeyClaimed

# Commands


class PublishKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What a device uploads. Said again it changes nothing, whatever its id."""

    id: CommandId
    account: AccountId
    device: DeviceId
    device_keys: str | None = None
    one_time_keys: dict[str, str] = {}
    fallback_key: tuple[str, str] | None = None
    """Its id and text."""


class ClaimKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a device, for a device of anybody."""

    id: CommandId
    account: AccountId
    device: DeviceId
    by: AccountId
    by_device: DeviceId


# State


class Keys(msgspec.Struct):
    """What one device has published."""

    device_keys: str = ""
    waiting: dict[str, str] = {}
    """One-time keys to be handed out, in order."""
    issued: set[str] = set()
    """The ids of all that ever were handed out: none of them comes in again."""
    fallback: tuple[str, str] | None = None
    fallback_used: bool = False
    replaced: set[str] = set()
    """The ids of the fallback keys before this one: none of them comes in again."""
    claims: Recent = msgspec.field(default_factory=Recent)

    @property
    def items(self) -> int:
        """How many keys and ids it holds. (Not its length, or one without any would be false.)"""
        return len(self.waiting) + len(self.issued) + len(self.replaced) + len(self.claims)


# Decisions


def decide_publish(keys: Keys, command: PublishKeys) -> list[KeyEvent]:
    events: list[KeyEvent] = []
    if command.device_keys is not None and command.device_keys != keys.device_keys:
        if keys.device_keys:
            # A device id never changes its keys: others have pinned them.
            raise DeviceExists
        events.append(DeviceKeysPublished(device=command.device, keys=command.device_keys))
    elif not keys.device_keys:
        raise NoKeys
    if fresh := _fresh(keys, command.one_time_keys):
        left = len(keys.waiting) + len(fresh)
        if left > ONE_TIME_KEYS_MAX:
            raise TooManyKeys
        events.append(OneTimeKeysPublished(device=command.device, keys=fresh, left=left))
    if command.fallback_key is not None and _is_fresh(keys, *command.fallback_key):
        id_, key = command.fallback_key
        events.append(FallbackKeyPublished(device=command.device, id=id_, key=key))
    return events


def _fresh(keys: Keys, uploaded: dict[str, str]) -> dict[str, str]:
    """Those that were never published: the answer to an upload may have been lost, and the keys handed out since."""
    for id_, key in uploaded.items():
        if keys.waiting.get(id_, key) != key:
            raise IdTaken
    return {id_: key for id_, key in uploaded.items() if id_ not in keys.waiting and id_ not in keys.issued}


def _is_fresh(keys: Keys, id_: str, key: str) -> bool:
    """A late repetition must not bring back a fallback key that was replaced."""
    if keys.fallback is None or keys.fallback[0] != id_:
        return id_ not in keys.replaced
    if keys.fallback[1] != key:
        raise IdTaken
    return False


def decide_claim(keys: Keys, command: ClaimKey) -> list[KeyEvent]:
    """The event names the key; a repeated command has its first outcome in `claims`."""
    first = keys.claims.find(command.id)
    if first is not None:
        if first.by != command.by:
            raise IdTaken
        return []
    left = len(keys.waiting)
    if left:
        id_ = next(iter(keys.waiting))
        unused = keys.fallback is not None and not keys.fallback_used
        return [_claimed(command, id_, keys.waiting[id_], left=left - 1, fallback_unused=unused)]
    if keys.fallback is None:
        raise NoKeysLeft
    return [_claimed(command, *keys.fallback, left=0, fallback=True)]


def _claimed(
    command: ClaimKey, id_: str, key: str, *, left: int, fallback: bool = False, fallback_unused: bool = False
) -> OneTimeKeyClaimed:
    return OneTimeKeyClaimed(
        device=command.device,
        id=id_,
        key=key,
        by=command.by,
        by_device=command.by_device,
        left=left,
        fallback=fallback,
        fallback_unused=fallback_unused,
    )


# The fold


def evolve_keys(keys: Keys, event: KeyEvent, command: str, version: int, at: int) -> None:
    """In place. `version` and `at`: the event's, `command`: the id of the one that caused it."""
    match event:
        case DeviceKeysPublished():
            keys.device_keys = event.keys
        case OneTimeKeysPublished():
            keys.waiting.update(event.keys)
        case FallbackKeyPublished():
            if keys.fallback is not None:
                keys.replaced.add(keys.fallback[0])
            keys.fallback, keys.fallback_used = (event.id, event.key), False
        case OneTimeKeyClaimed():
            _evolve_claim(keys, event)
            first = First(seq=version + 1, at=at, by=event.by, what=event.id)
            keys.claims.add(command, first)


def _evolve_claim(keys: Keys, event: OneTimeKeyClaimed) -> None:
    if event.fallback:
        keys.fallback_used = True
        return
    # Made anew, since what is taken from the front of a dict leaves holes, which `next(iter(...))` would walk over.
    keys.waiting = {id_: key for id_, key in keys.waiting.items() if id_ != event.id}
    keys.issued.add(event.id)
