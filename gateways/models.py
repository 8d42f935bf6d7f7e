"""What the HTTP API takes and gives, as structs: they check the requests, write the answers, and are described in the
OpenAPI document by their own docstrings. What is the same as in the live protocol stands in `signet_client.wire`."""

from typing import Annotated, Final, Literal

import msgspec

from domain.ids import AccountId
from signet_client import wire

UUID_PATTERN: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

# The pattern alone would let a line break through at the end.
Uuid = Annotated[str, msgspec.Meta(pattern=UUID_PATTERN, min_length=36, max_length=36)]
SEQ_MAX: Final = 2**53
"""Greater numbers are not the same in every client's JSON."""
Seq = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class _Model(msgspec.Struct, frozen=True, kw_only=True):
    pass


class _Command(_Model, frozen=True, kw_only=True):
    id: Uuid
    """The command's id, a uuid of the client's choosing. Sent again with the same id, the command gets the same answer
    and changes nothing more."""


class _ConversationCommand(_Command, frozen=True, kw_only=True):
    after: Seq = 0
    """The last seq of the conversation that the client knew when it made the id: the server need not look for the id
    before it. 0 makes it look everywhere, which is right but slower."""


# Requests


class Register(_Command, frozen=True, kw_only=True):
    nonce: str
    """From `GET /v1/challenge`."""
    name: Name
    """What the account is called."""
    device: str
    """What the first device is called, 1 to 64 printable characters of the client's choosing."""
    key: str
    """The device's Ed25519 public key, unpadded base64."""
    signature: str
    """By that key over `signet.register.v1`, nonce, server, id, device and key, one a line."""
    invitation: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    """Its code, where the server asks for one."""
    named: Literal["id", "key"] = "key"
    """What the account's id is derived from: `id` and `key`, or `id` alone, for a device that must know its account
    before it makes its key. With `id`, tell nobody the command's id before the account is there."""


class LogIn(_Model, frozen=True, kw_only=True):
    nonce: str
    """From `GET /v1/challenge`; good for one log-in."""
    account: str
    device: str
    signature: str
    """By the device's key over `signet.hello.v1`, nonce, server, account and device, one a line."""


class Rename(_Command, frozen=True, kw_only=True):
    name: Name


class Link(_Command, frozen=True, kw_only=True):
    device: str
    """What the new device is called, 1 to 64 printable characters."""
    key: str
    """The new device's Ed25519 public key, unpadded base64."""
    signature: str
    """By the calling device's key over `signet.link.v1`, server, account, device and key, one a line."""


class Start(_Command, frozen=True, kw_only=True):
    kind: wire.Kind
    members: list[str]
    """The accounts to talk to, without the caller; for a direct conversation exactly one."""
    title: Name | None = None
    """Of a group; a direct conversation has none."""
    protection: wire.Protection = "end_to_end"
    """For ever. `none` means that the server could read the bodies, though they are stored sealed."""


class AddPeople(_ConversationCommand, frozen=True, kw_only=True):
    accounts: list[str]


class Plain(_ConversationCommand, frozen=True, kw_only=True):
    """A command that needs nothing more than its id."""


class SetRole(_ConversationCommand, frozen=True, kw_only=True):
    role: wire.Role


class Retitle(_ConversationCommand, frozen=True, kw_only=True):
    title: Name


class Post(_Model, frozen=True, kw_only=True):
    """A message, just as in the frame `send` of the live protocol; the command's id and `after` are in the header."""

    header: str
    """JSON text with the fields id, c (conversation), s (account), d (device), a (after), h (SHA-256 of the body,
    unpadded base64) and n (counts as unread, by default true). Exactly these bytes are signed, stored and handed on."""
    body: str
    signature: str | None = None
    signer: str | None = None


# Answers


class Problem(_Model, frozen=True, kw_only=True, omit_defaults=True):
    """Every refusal looks like this."""

    code: str
    """One of the reply codes, the same as on the live protocol."""
    text: str
    """What is wrong and what to do, for a person."""
    retry: bool
    """Whether the very same request may succeed later."""
    retry_after_ms: int = 0
    """Sooner it is sure to be refused again; 0: nobody knows."""


class Index(_Model, frozen=True, kw_only=True):
    server: str
    version: str
    description: str
    """Where the OpenAPI document is."""
    live: str
    """Where the WebSocket is."""
    live_description: str
    """Where the AsyncAPI document is."""
    subprotocol: str
    registration: Literal["open", "invited", "closed"]
    """Who may register an account: everybody, whoever has an invitation, nobody."""


class Health(_Model, frozen=True, kw_only=True):
    status: Literal["ok"] = "ok"


class Check(_Model, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    """What part of the engine: the log, the keyring, the disk, or a read model."""
    ok: bool
    detail: str = ""
    """What is wrong; told to operators."""


class Ready(_Model, frozen=True, kw_only=True):
    ready: bool
    """Every check is ok."""
    checks: list[Check]


class Challenge(_Model, frozen=True, kw_only=True):
    nonce: str
    server: str
    """The server's name, which every signature names."""


class Token(_Model, frozen=True, kw_only=True):
    token: str
    """For the header `Authorization: Bearer …`. It ends with its device."""
    account: str
    device: str
    expires_at: int
    """Microseconds since 1970, UTC."""


class AccountChanged(_Model, frozen=True, kw_only=True):
    """The command is on disk."""

    id: str
    account: str
    at: int
    """When it was recorded, microseconds since 1970, UTC."""


class AccountShown(_Model, frozen=True, kw_only=True):
    account: str
    name: str | None = None
    """None: it was erased."""


class DeviceShown(_Model, frozen=True, kw_only=True):
    device: str
    key: str
    """Ed25519 public key, unpadded base64."""
    active: bool
    """False: revoked, for ever."""
    linked_at: int
    """Microseconds since 1970, UTC."""
    by: str | None = None
    """The device that let it in; None for the first one."""


class Devices(_Model, frozen=True, kw_only=True):
    account: str
    devices: list[DeviceShown]


class Changed(_Model, frozen=True, kw_only=True):
    """The command is on disk."""

    id: str
    conversation: str
    seq: int
    """That of the command's event; where there was nothing to change, that of the conversation's last one."""
    at: int
    """When that event was recorded, microseconds since 1970, UTC."""


class Conversations(_Model, frozen=True, kw_only=True):
    conversations: list[wire.Overview]
    """The most recent first."""


class ConversationShown(_Model, frozen=True, kw_only=True):
    overview: wire.Overview
    members: dict[AccountId, wire.Role] | None = None
    """Account and role of everybody who is in it now; None to a former member."""


class MemberMarks(_Model, frozen=True, kw_only=True, omit_defaults=True):
    delivered: int
    """One of the member's devices has stored everything up to this seq."""
    read: int
    """The member has seen everything up to this seq."""
    undelivered: list[int] = []
    """The latest seqs that none of the member's devices could decrypt."""


class Receipts(_Model, frozen=True, kw_only=True):
    conversation: str
    members: dict[AccountId, MemberMarks]


class Undelivered(_Model, frozen=True, kw_only=True):
    conversation: str
    seqs: list[int]
    """In order: messages of anybody that some other member could not decrypt."""
    before: int
    """The next page is the one before this seq; 0: there are no more."""
