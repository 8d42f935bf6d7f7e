"""Messages and changes as an application reads them, and the body of a message that is not encrypted."""

import os
from typing import Any, Final, Literal, cast, get_args

import msgspec

from signet_client import payloads, wire
from signet_client.media.attachment import Attachment, attachment_of

_SALT_BYTES: Final = 16


Undecryptable = Literal[
    "no_key",
    "unknown_device",
    "tampered",
    "replayed",
    "wrong_conversation",
    "forged_header",
    "not_encrypted",
    "malformed",
]
"""Why this device can't decrypt a message, or does not believe it. `no_key`: the key has not come, which is asked for;
`unknown_device`: nobody vouches for the device that sent it. All others: it is not what its sender has sent."""
FORGED: Final[frozenset[str]] = frozenset(get_args(Undecryptable)) - {"no_key", "unknown_device"}


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a message says: its body, where the conversation's protection is none; inside the device for all others."""

    kind: str
    text: str
    reply_to: int | None = None
    """The seq of the message that this one answers."""
    attachment: Any = None
    """An `Attachment`, as JSON has it: one that this client can't read is not to make the text unreadable."""
    salt: str
    """16 random bytes: the digest in the header betrays nothing once the body is erased."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a conversation."""

    conversation: str
    seq: int
    at: int
    """When the server recorded it, in microseconds since 1970, UTC."""
    occurred: int | None
    """When it happened, as an importer claimed."""
    id: str
    """The id that its sender chose."""
    sender: str
    """An account."""
    device: str
    counts: bool
    """Whether it counts as unread."""
    kind: str | None
    """"text", "action", "image", "video", "audio", "file", or what else the sender's client calls it."""
    text: str | None
    """None: retracted, `unreadable`, `undecryptable`, or a body that this client can't read. Beside an attachment, what
    is said of it; perhaps nothing."""
    attachment: Attachment | None = None
    """`Client.download` fetches it."""
    reply_to: int | None
    retracted: int | None
    """The seq of the retraction."""
    unreadable: wire.Unreadable | None = None
    """Why the server itself can't read it."""
    undecryptable: Undecryptable | None = None


Change = wire.Change
"""Everything else that takes a seq in a conversation: membership, roles, title, retractions."""

_HEADERS: Final = msgspec.json.Decoder(payloads.Header)
_BODIES: Final = msgspec.json.Decoder(Body)


def encode_body(text: str, *, kind: str, reply_to: int | None, attachment: Any = None) -> str:
    """`attachment`: an `Attachment`, or one as JSON has it."""
    salt = payloads.to_base64(os.urandom(_SALT_BYTES))
    body = Body(kind=kind, text=text, reply_to=reply_to, attachment=attachment, salt=salt)
    return payloads.ENCODER.encode(body).decode()


def header_of(item: wire.Message) -> payloads.Header:
    return _HEADERS.decode(item.header)


def message_of(item: wire.Message, clear: str | None = None, undecryptable: str | None = None) -> Message:
    """The message that a frame carries. `clear`: what it says, where it is encrypted; `undecryptable`: why it says
    nothing."""
    header = header_of(item)
    body = None if undecryptable else decode_body(clear or item.body)
    return Message(
        conversation=item.c,
        seq=item.seq,
        at=item.at,
        occurred=item.occurred,
        id=header.id,
        sender=header.sender,
        device=header.device,
        counts=header.counts,
        kind=body.kind if body else None,
        text=body.text if body else None,
        attachment=attachment_of(body.attachment) if body else None,
        reply_to=body.reply_to if body else None,
        retracted=item.retracted,
        unreadable=item.unreadable,
        undecryptable=cast("Undecryptable | None", undecryptable),
    )


def decode_body(body: str | None) -> Body | None:
    if body is None:
        return None
    try:
        return _BODIES.decode(body)
    except (msgspec.DecodeError, RecursionError):  # the latter: it is nested a thousand deep
        return None
