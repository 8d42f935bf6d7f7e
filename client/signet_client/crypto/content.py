"""What is inside: the body of a message as a Matrix event, and the form of an encrypted one."""

from typing import Any, Final, Literal

import msgspec

from signet_client import matrix

_KINDS: Final = {
    "text": "m.text", "action": "m.emote", "image": "m.image", "video": "m.video", "audio": "m.audio", "file": "m.file",
}  # fmt: skip
_MSGTYPES: Final = {msgtype: kind for kind, msgtype in _KINDS.items()}


class Encrypted(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an `m.room.encrypted` event: the body of an encrypted message, byte for byte."""

    algorithm: Literal["m.megolm.v1.aes-sha2"]
    ciphertext: str
    session_id: str
    sender_key: str = ""
    device_id: str = ""


class _Content(msgspec.Struct, omit_defaults=True):
    msgtype: str = ""
    body: str = ""
    reply_to: int | None = msgspec.field(default=None, name="signet.reply_to")
    attachment: Any = msgspec.field(default=None, name="signet.attachment")
    """Not Matrix's `file`: that is another cipher."""


class _Event(msgspec.Struct):
    type: str
    content: _Content
    room_id: str


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says."""

    kind: str
    text: str
    reply_to: int | None
    attachment: Any = None
    """As JSON has it."""


class _Addressed(msgspec.Struct):
    room_id: str


_decode_encrypted: Final = msgspec.json.Decoder(Encrypted).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_addressed: Final = msgspec.json.Decoder(_Addressed).decode
_encode: Final = msgspec.json.Encoder().encode

_FAILURES: Final = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


def encrypted_of(body: str | None) -> Encrypted | None:
    """None: the body has not the form of an encrypted one."""
    if body is None:
        return None
    try:
        return _decode_encrypted(body)
    except _FAILURES:
        return None


def encode_encrypted(ciphertext: str, session: str, *, sender_key: str, device: str) -> str:
    return _encode(
        Encrypted(
            algorithm=matrix.MEGOLM, ciphertext=ciphertext, session_id=session, sender_key=sender_key, device_id=device
        )
    ).decode()


def encode_event(conversation: str, *, kind: str, text: str, reply_to: int | None, attachment: Any = None) -> bytes:
    """A message as the event that is encrypted."""
    content = _Content(msgtype=_KINDS.get(kind, kind), body=text, reply_to=reply_to, attachment=attachment)
    return _encode(_Event(type="m.room.message", content=content, room_id=matrix.room_id(conversation)))


def conversation_of(event: bytes) -> str | None:
    """To which conversation a decrypted event says that it belongs; None: it is no event."""
    try:
        return _decode_addressed(event).room_id.removeprefix("!")
    except _FAILURES:
        return None


def inner_of(event: str | bytes) -> Inner | None:
    """What a decrypted event says; None where it is none. One of a kind that this client doesn't know has its type as
    its kind, and perhaps no text."""
    try:
        decoded = _decode_event(event)
    except _FAILURES:
        return None
    content = decoded.content
    kind = _MSGTYPES.get(content.msgtype, content.msgtype) or decoded.type
    return Inner(kind=kind, text=content.body, reply_to=content.reply_to, attachment=content.attachment)


def json_object(data: bytes | str) -> dict[str, Any] | None:
    """None where it is no JSON object."""
    try:
        found = msgspec.json.decode(data)
    except _FAILURES:
        return None
    return found if isinstance(found, dict) else None
