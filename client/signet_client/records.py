"""What a device keeps in its store, as structs."""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from signet_client import wire


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Whose store it is."""

    url: str
    account: str
    """Empty until the registration was answered."""
    device: str
    registration: str = ""
    """The command id with which the account was registered: said again, it makes the same account."""


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    conversation: str
    kind: wire.Kind
    protection: wire.Protection
    title: str | None
    peer: str | None
    """The other account of a direct conversation."""


class Marks(msgspec.Struct, kw_only=True):
    """How far things are in a conversation. They live in memory, are changed in place, and are stored by `commit`."""

    cursor: int = 0
    """Everything that the account may see up to this seq is in the store."""
    read: int = 0
    """What the person has read."""
    tick_delivered: int = 0
    tick_read: int = 0
    undelivered: set[int] = set()
    """Seqs, of anybody's messages, that some member could not decrypt."""


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way: the very bytes that are sent until the server answers. Where it is to be encrypted these
    are empty until it goes out for the first time."""

    id: str
    conversation: str
    header: str
    body: str
    signature: str
    clear: str | None = None
    """What is to be encrypted: a `messages.Body` as JSON. None: the body is what it says."""
    counts: bool = True
    refused: str | None = None
    """The code with which the server refused it for good."""


class UploadFile(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed file that is to be uploaded."""

    command: str
    """The id under which it is reserved; `media` comes of it."""
    media: str
    kind: str
    size: int
    """Of the ciphertext, in bytes."""
    digest: str
    """Its SHA-256, unpadded base64."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose files are on their way: it comes into the outbox when they are there."""

    message: str
    """Its id to be."""
    conversation: str
    name: str
    """What the file is called."""
    clear: str
    """A `messages.Body` as JSON: the keys of the files stand in it."""
    counts: bool
    files: list[UploadFile]


@dataclass(slots=True)
class Batch:
    """What one transaction stores."""

    items: list[wire.Item] = field(default_factory=list)
    clear: dict[tuple[str, int], str] = field(default_factory=dict)
    """By conversation and seq: what those of the items that are encrypted say."""
    marks: dict[str, Marks] = field(default_factory=dict)
    retracted: list[tuple[str, int, int]] = field(default_factory=list)
    """Conversation, message and retraction, where the retraction is no item."""
    conversations: list[Conversation] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    """Ids of outgoing messages that are items now."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Ids and codes of outgoing messages that were refused for good."""
    found: list[str] = field(default_factory=list)
    """Ids of lost messages that have come again."""

    def __bool__(self) -> bool:
        changed = self.items or self.clear or self.retracted or self.marks or self.conversations
        return bool(changed or self.sent or self.refused or self.found)


class Held(NamedTuple):
    """An item as it is in the store."""

    item: wire.Item
    clear: str | None
    """What it says, where it is encrypted and could be decrypted."""
    reason: str | None
    """Why it could not."""
