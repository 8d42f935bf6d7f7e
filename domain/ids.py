"""Ids and the names of streams. Uuids are v4 or v5, never v7: a cluster splits its work by the first byte."""

from typing import Final, Literal, NewType
from uuid import UUID, uuid5

AccountId = NewType("AccountId", str)
DeviceId = NewType("DeviceId", str)
ConversationId = NewType("ConversationId", str)
CommandId = NewType("CommandId", str)
MediaId = NewType("MediaId", str)

Category = Literal["conversation", "receipts", "account", "media"]

_ACCOUNTS: Final = UUID("5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a01")
_DIRECTS: Final = UUID("5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a02")
_GROUPS: Final = UUID("5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a03")
_MEDIA: Final = UUID("5f0c2a34-61f5-4b0e-9a0c-5d1f6b1e7a04")

_TO_ZEROS: Final = bytes.maketrans(b"0123456789abcdef", b"0" * 16)
_CANONICAL: Final = b"00000000-0000-0000-0000-000000000000"


def account_id(*, command_id: CommandId, key: str) -> AccountId:
    """The id of the account that this registration makes. Derived, so that a registration whose answer was lost makes
    the same account again; nobody else can forestall it, since the key's owner signs the registration. An empty `key`
    is for a device that must know its account before it makes its key: whoever learns the command's id can forestall
    that account, which then is refused, and never becomes anybody else's."""
    return AccountId(str(uuid5(_ACCOUNTS, f"{command_id}\n{key}")))


def direct_id(*, protection: str, one: AccountId, other: AccountId) -> ConversationId:
    """The one direct conversation of two accounts with this protection: one that is end-to-end can't be forestalled
    by one that is not."""
    low, high = sorted((one, other))
    return ConversationId(str(uuid5(_DIRECTS, f"{protection}\n{low}\n{high}")))


def group_id(*, creator: AccountId, command_id: CommandId) -> ConversationId:
    return ConversationId(str(uuid5(_GROUPS, f"{creator}\n{command_id}")))


def media_id(*, account: AccountId, command_id: CommandId) -> MediaId:
    """The id of what this account reserves by this command: the device knows it before it asks, since what it encrypts
    is bound to it."""
    return MediaId(str(uuid5(_MEDIA, f"{account}\n{command_id}")))


def conversation_stream(conversation: ConversationId) -> str:
    return f"conversation-{conversation}"


def receipts_stream(conversation: ConversationId) -> str:
    return f"receipts-{conversation}"


def account_stream(account: AccountId) -> str:
    return f"account-{account}"


def media_stream(media: MediaId) -> str:
    return f"media-{media}"


def is_uuid(text: str) -> bool:
    """Whether the text is a uuid in its canonical form; ids from outside are compared as texts, so only this form
    may come in."""
    # A third of what a regular expression takes. What is not ASCII becomes a question mark.
    return len(text) == 36 and text.encode("ascii", "replace").translate(_TO_ZEROS) == _CANONICAL
