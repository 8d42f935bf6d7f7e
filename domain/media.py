"""Media: files that people upload for one another, as ciphertext. State, events, commands, `decide`, `evolve`.

    reserved → stored → expired → deleted
        ↖─────────────────┴──────────┘  whoever needs it after all reserves it anew

A device reserves what it is about to upload; stored it is once the object store has the very bytes. Then its account
may name it in messages, which is how others come to see it. What no message names in time expires: from there on none
may, and its object is deleted, unless a message that was decided at the same moment does name it.
"""

from typing import Literal, assert_never

import msgspec

from domain.entry import Entry
from domain.errors import DeviceNotActive, IdTaken, MediaGone, NoSuchMedia, NotUploaded, WrongDigest, WrongSize
from domain.ids import AccountId, CommandId, DeviceId, MediaId

MediaKind = Literal["image", "video", "audio", "file", "preview"]
"""What the uploading device says that it is; each kind has a limit of its own. The server sees ciphertext only."""

# Events


class MediaReserved(msgspec.Struct, frozen=True, kw_only=True):
    by: AccountId
    device: DeviceId
    kind: MediaKind
    size: int
    """Of the ciphertext, in bytes."""
    digest: str
    """Its SHA-256, unpadded base64."""


class MediaStored(msgspec.Struct, frozen=True, kw_only=True):
    """The object store has it: the bytes that are there were read, and are what was reserved."""

    by: AccountId
    size: int
    digest: str


class MediaExpired(msgspec.Struct, frozen=True, kw_only=True):
    """No message has named it in time; none may from here on."""


class MediaDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """The object store has it no more."""


MediaEvent = MediaReserved | MediaStored | MediaExpired | MediaDeleted

# Commands


class ReserveMedia(msgspec.Struct, frozen=True, kw_only=True):
    id: CommandId
    media: MediaId
    """`media_id` of account and command id."""
    by: AccountId
    device: DeviceId
    kind: MediaKind
    size: int
    digest: str


class StoreMedia(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the object store."""

    id: CommandId
    media: MediaId
    by: AccountId
    device: DeviceId
    size: int | None
    """None: nothing is there."""
    digest: str


class ExpireMedia(msgspec.Struct, frozen=True, kw_only=True):
    id: CommandId
    media: MediaId


class DeleteMedia(msgspec.Struct, frozen=True, kw_only=True):
    """Its object was deleted."""

    id: CommandId
    media: MediaId


MediaCommand = ReserveMedia | StoreMedia | ExpireMedia | DeleteMedia

# State

Phase = Literal["none", "reserved", "stored", "expired", "deleted"]


class Media(msgspec.Struct):
    """The fold of one stream."""

    phase: Phase = "none"
    by: AccountId = AccountId("")
    kind: MediaKind = "file"
    size: int = 0
    digest: str = ""

    def may_be_named(self, account: AccountId) -> bool:
        """In a message of this account's."""
        return self.phase == "stored" and self.by == account


def decide(state: Media, command: MediaCommand, *, device_active: bool = True) -> list[MediaEvent]:
    """The events of a command; none where it changes nothing. `device_active`: whether the device that reserves or
    stores is one of its account's. Raises `Rejected`."""
    match command:
        case ReserveMedia():
            return _reserve(state, command, device_active=device_active)
        case StoreMedia():
            return _store(state, command, device_active=device_active)
        case ExpireMedia():
            return [MediaExpired()] if state.phase in ("reserved", "stored") else []
        case DeleteMedia():
            return [MediaDeleted()] if state.phase == "expired" else []
        case _:
            assert_never(command)


def _reserve(state: Media, command: ReserveMedia, *, device_active: bool) -> list[MediaEvent]:
    if not device_active:
        raise DeviceNotActive
    same = (state.by, state.kind, state.size, state.digest) == (command.by, command.kind, command.size, command.digest)
    if state.phase != "none" and not same:
        raise IdTaken
    if state.phase in ("reserved", "stored"):
        return []
    return [
        MediaReserved(by=command.by, device=command.device, kind=command.kind, size=command.size, digest=command.digest)
    ]


def _store(state: Media, command: StoreMedia, *, device_active: bool) -> list[MediaEvent]:
    if not device_active:
        raise DeviceNotActive
    if state.by != command.by:
        raise NoSuchMedia
    if state.phase in ("expired", "deleted"):
        raise MediaGone
    if state.phase == "stored":
        return []
    if command.size is None:
        raise NotUploaded
    if command.size != state.size:
        raise WrongSize
    if command.digest != state.digest:
        raise WrongDigest
    return [MediaStored(by=state.by, size=state.size, digest=state.digest)]


def evolve(state: Media, version: int, entry: Entry[MediaEvent]) -> None:
    """Folds one event into the state, in place. Never refuses: it has happened."""
    match entry.e:
        case MediaReserved() as reserved:
            state.phase = "reserved"
            state.by, state.kind = reserved.by, reserved.kind
            state.size, state.digest = reserved.size, reserved.digest
        case MediaStored():
            state.phase = "stored"
        case MediaExpired():
            state.phase = "expired"
        case MediaDeleted():
            state.phase = "deleted"
        case _:
            assert_never(entry.e)
