"""What the key directory and the mailbox take and give: Matrix's shapes, and where they say more, under names of ours.
Users are Matrix's ids, `@<account>:<server's name>`; signatures are over canonical JSON."""

from typing import Annotated, Any

import msgspec

from gateways.models import Uuid

PEOPLE_MAX = 1_024
DEVICES_MAX = 256
ONE_TIME_KEYS_MAX = 100

Object = dict[str, Any]


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    pass


class KeysUpload(_Model, frozen=True, kw_only=True):
    """What the calling device publishes. Said again it changes nothing."""

    device_keys: Object | None = None
    """Its identity keys, signed by itself: first, and never other ones."""
    one_time_keys: Annotated[dict[str, Object], msgspec.Meta(max_length=ONE_TIME_KEYS_MAX)] = {}
    """By `signed_curve25519:<id>`; each is handed out once, in this order."""
    fallback_keys: Annotated[dict[str, Object], msgspec.Meta(max_length=1)] = {}
    """One, handed out where no other is left; it takes the place of the one before."""


class KeysUploaded(_Model, frozen=True, kw_only=True):
    one_time_key_counts: dict[str, int]
    """How many wait to be handed out."""


class KeysQuery(_Model, frozen=True, kw_only=True):
    device_keys: Annotated[dict[str, list[str]], msgspec.Meta(max_length=PEOPLE_MAX)]
    """User → devices; an empty list asks for all of them."""
    versions: dict[str, int] = {}
    """User → what a former answer named: of lists that have not changed since nothing is answered."""


class DeviceLink(_Model, frozen=True, kw_only=True):
    """How a device came into its account."""

    device: str
    key: str
    """Ed25519."""
    active: bool
    """False: it was revoked."""
    by: str | None = None
    """The device that let it in; None for the first one."""
    signature: str
    """By that one, over `signet.link.v1`, server, account, device and key, one a line; by the first one itself, over
    its registration."""


class KeysFound(_Model, frozen=True, kw_only=True):
    device_keys: dict[str, dict[str, Object]]
    """User → device → its identity keys as it has signed them. Only devices that may log in."""
    failures: dict[str, Object] = {}
    versions: dict[str, int] = {}
    """User → the version of its list: that of the account's event which changed it last."""
    links: dict[str, list[DeviceLink]] = {}
    """User → all devices that ever were linked."""


class KeysClaim(_Model, frozen=True, kw_only=True):
    one_time_keys: Annotated[dict[str, dict[str, str]], msgspec.Meta(max_length=PEOPLE_MAX)]
    """User → device → algorithm, of which there is one: `signed_curve25519`. At most 256 devices."""
    id: Uuid | None = None
    """Said again with the same id, it gets the same keys; without one it gets others."""


class KeysClaimed(_Model, frozen=True, kw_only=True):
    one_time_keys: dict[str, dict[str, dict[str, Object]]]
    """User → device → key id → key. A device that is revoked or has none is left out."""
    failures: dict[str, Object] = {}


class ToDevice(_Model, frozen=True, kw_only=True):
    messages: Annotated[dict[str, dict[str, Object]], msgspec.Meta(max_length=PEOPLE_MAX)]
    """User → device → content, each no larger than the body of a message. At most 256 devices."""


class ToDeviceTaken(_Model, frozen=True, kw_only=True):
    refused: dict[str, dict[str, str]] = {}
    """User → device → why it does not get it: `no_such_device`, `mailbox_full`."""


class Statement(_Model, frozen=True, kw_only=True):
    """How far a device says that it has come, as it was signed."""

    account: str
    device: str
    delivered: int
    read: int
    undecryptable: list[int]
    repaired: list[int]
    signature: str
    """By the device, over `signet.receipt.v1`, conversation, account, device, and the four above, one a line."""


class Statements(_Model, frozen=True, kw_only=True):
    conversation: str
    statements: list[Statement]
    """Of each device the one with its greatest delivered mark, and the one with its greatest read mark."""
