"""From the frame `send` to the command: everything that can be checked at the edge is checked here.

The header is the client's text. It is parsed to be checked, and handed on as it came, so that fields which this server
doesn't know survive, and stay signed.
"""

import re
from typing import Final, Literal

import msgspec

from commands.sealing import Sealer
from domain.conversation import SendMessage
from domain.ids import AccountId, CommandId, ConversationId, DeviceId, MediaId, is_uuid
from gateways.items import sealed
from gateways.refusal import Refusal
from gateways.services import EdgeSettings
from signet_client import payloads, wire

HEADER_CHARS_MAX: Final = 4_096
HEADER_DEPTH_MAX: Final = 32
"""How deep a header's arrays and objects may stand in one another. Readers of JSON have such bounds of their own, and
fail beyond them: nobody may send what the others' clients fail at."""
MEDIA_MAX: Final = 20
"""How many media a message may name."""
SIGNER_CHARS_MAX: Final = 256
SEQ_MAX: Final = 2**53 - 1
"""The greatest number that every JSON reader takes; what is beyond it is no seq."""

_SIGNATURE_BYTES: Final = 64
_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]').findall
"""And strings, whose brackets are none."""

_decode_header: Final = msgspec.json.Decoder(payloads.Header).decode


def parse_header(text: str) -> payloads.Header | None:
    """None: it is none."""
    try:
        return _decode_header(text)
    except (msgspec.MsgspecError, RecursionError):  # the latter: it is nested a thousand deep
        return None


def message_command(
    frame: wire.Send,
    header: payloads.Header,
    *,
    account: AccountId,
    device: DeviceId,
    sealer: Sealer,
    settings: EdgeSettings,
) -> SendMessage:
    """The command that the frame and its header state, for the device of this connection. Raises Refusal."""
    _check_header(header, account, device)
    _check_sizes(frame, settings)
    if header.digest != payloads.digest_of(frame.body):
        raise Refusal("bad_digest")
    check_signature(frame.signature)
    return SendMessage(
        id=CommandId(header.id),
        conversation=ConversationId(header.conversation),
        by=account,
        device=device,
        after=header.after,
        header=frame.header,
        digest=header.digest,
        counts=header.counts,
        body=sealed(frame.body, account, sealer),
        signature=frame.signature,
        signer=frame.signer,
        encrypted=_is_encrypted(frame.body),
        media=tuple(MediaId(named) for named in header.media),
    )


class _Encrypted(msgspec.Struct):
    """The content of an `m.room.encrypted` event, by the algorithm that all clients use."""

    algorithm: Literal["m.megolm.v1.aes-sha2"]
    ciphertext: str
    session_id: str


_decode_encrypted: Final = msgspec.json.Decoder(_Encrypted).decode


def _is_encrypted(body: str) -> bool:
    """Whether the body has the form of one; the conversation decides whether it must."""
    if '"ciphertext"' not in body:  # as most are, where nothing is encrypted
        return False
    try:
        _decode_encrypted(body)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def check_signature(signature: str | None) -> None:
    """Whether it could be a signature; whose, and over what, is for clients and auditors to verify. Raises Refusal."""
    if signature is None:
        return
    try:
        raw = payloads.from_base64(signature)
    except ValueError:
        raw = b""
    if len(raw) != _SIGNATURE_BYTES:
        raise Refusal("bad_signature", "64 bytes as unpadded base64")


def is_seq(number: int) -> bool:
    """Whether it could be a seq, or 0."""
    return 0 <= number <= SEQ_MAX


def _check_header(header: payloads.Header, account: AccountId, device: DeviceId) -> None:
    if not is_uuid(header.id):
        raise Refusal("bad_header", "id: a uuid in lower case")
    if not is_uuid(header.conversation):
        raise Refusal("bad_header", "c: a conversation's uuid in lower case")
    if header.sender != account:
        raise Refusal("bad_header", "s: the account that is logged in")
    if header.device != device:
        raise Refusal("bad_header", "d: the device that is logged in")
    if not is_seq(header.after):
        raise Refusal("bad_header", "a: a seq, or 0")
    if header.about is not None and not (header.about and is_seq(header.about)):
        raise Refusal("bad_header", "b: a seq, or nothing")
    if header.media and not _are_media(header.media):
        raise Refusal("bad_header", f"m: uuids of media in lower case, each once, at most {MEDIA_MAX}")


def _are_media(named: tuple[str, ...]) -> bool:
    return len(named) == len(set(named)) <= MEDIA_MAX and all(map(is_uuid, named))


def _check_sizes(frame: wire.Send, settings: EdgeSettings) -> None:
    if len(frame.header) > HEADER_CHARS_MAX:
        raise Refusal("too_large", f"a header has at most {HEADER_CHARS_MAX} characters")
    if depth(frame.header) > HEADER_DEPTH_MAX:
        raise Refusal("bad_header", f"its arrays and objects stand in one another at most {HEADER_DEPTH_MAX} deep")
    if frame.signer is not None and len(frame.signer) > SIGNER_CHARS_MAX:
        raise Refusal("too_large", f"a signer's name has at most {SIGNER_CHARS_MAX} characters")
    if frame.signer is not None and "\0" in frame.signer:
        # PostgreSQL can't hold it: the read models would park the conversation.
        raise Refusal("bad_frame", "a signer's name has no NUL")
    body = frame.body
    if len(body) > settings.body_bytes_max or (not body.isascii() and len(body.encode()) > settings.body_bytes_max):
        raise Refusal("too_large", f"a body has at most {settings.body_bytes_max} bytes")


def depth(json: str) -> int:
    """How deep arrays and objects stand in one another."""
    if json.find("{", 1) < 0 and "[" not in json:
        return 1  # As most are; to search is ten times as fast as to count.
    deepest = now = 0
    for found in _BRACKETS(json):
        if found in ("[", "{"):
            now += 1
            deepest = max(deepest, now)
        elif found in ("]", "}"):
            now -= 1
    return deepest
