"""What devices sign, and the header that a message carries: the exact bytes, in one place for both sides.

Every signature is Ed25519 over UTF-8 text whose first line is a domain (`signet.….v1`), so that a signature made for
one purpose can never be used for another; the parts follow, one a line. No part may hold a line break (`_lines` asserts
it), so two different lists of parts never give the same text. Keys and signatures travel as unpadded base64.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

ENCODER = msgspec.json.Encoder()


class Header(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename={
        "conversation": "c",
        "sender": "s",
        "device": "d",
        "after": "a",
        "digest": "h",
        "counts": "n",
        "about": "b",
        "media": "m",
    },
):
    """The clear header of a message. The client encodes it once and signs those bytes; everybody else keeps them as
    they are, so that fields which the server doesn't know survive."""

    id: str
    """The command id, a uuid that the client chose: a message is stored once for it, however often it is sent."""
    conversation: str
    sender: str
    device: str
    after: int
    """The last seq that the client knew when it made the id."""
    digest: str
    """SHA-256 of the body's UTF-8 bytes, unpadded base64."""
    counts: bool = True
    """Adds to the unread count; false for edits, reactions, votes."""
    about: int | None = None
    """The seq of the message that this one answers, for all to see: only where the protection is none."""
    media: tuple[str, ...] = ()
    """What it shows, by the ids of the media: who sees the message may fetch them."""


_SHOWS_NOTHING: Final = ',"m":[]}'
_ABOUT_NOTHING: Final = ',"b":null}'


def encode_header(header: Header) -> str:
    """The header as the JSON text that is signed, sent and stored."""
    text = ENCODER.encode(header).decode()
    # Left out, so that the header of a message which shows and answers none is what it always was; `counts` always
    # stands there.
    if header.media:
        return text
    text = text.removesuffix(_SHOWS_NOTHING) + "}"
    return text if header.about is not None else text.removesuffix(_ABOUT_NOTHING) + "}"


def digest_of(body: str) -> str:
    """The digest of a body as a header names it."""
    return to_base64(hashlib.sha256(body.encode()).digest())


def hello_payload(*, nonce: str, server: str, account: str, device: str) -> bytes:
    """What a device signs to log in on a fresh connection, and to get an HTTP token."""
    return _lines("signet.hello.v1", nonce, server, account, device)


def registration_payload(*, nonce: str, server: str, command_id: str, device: str, key: str) -> bytes:
    """What the first device of a new account signs, with its own key: it proves that it has it."""
    return _lines("signet.register.v1", nonce, server, command_id, device, key)


def link_payload(*, server: str, account: str, device: str, key: str) -> bytes:
    """What a device that is already in signs to let a new one (`device`, `key`) in."""
    return _lines("signet.link.v1", server, account, device, key)


def receipt_payload(
    *,
    conversation: str,
    account: str,
    device: str,
    delivered: int,
    read: int,
    undecryptable: Sequence[int] = (),
    repaired: Sequence[int] = (),
) -> bytes:
    """What a device signs of how far it has come: its marks (0: it says nothing of that one), and the seqs that the
    statement names, as it names them."""
    named = [",".join(map(str, seqs)) for seqs in (undecryptable, repaired)]
    return _lines("signet.receipt.v1", conversation, account, device, str(delivered), str(read), *named)


def to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode()


def from_base64(text: str) -> bytes:
    """Raises ValueError where the text is no unpadded base64."""
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _lines(*parts: str) -> bytes:
    if any("\n" in part for part in parts):
        raise ValueError("a part of a signed payload may not hold a line break")
    return "\n".join(parts).encode()
