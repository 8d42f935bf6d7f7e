"""Matrix's shapes, as far as both sides use them: ids, canonical JSON, signed objects, and the keys of a device.

Sources: the Matrix specification v1.11, appendices "Canonical JSON" and "Signing JSON", and client-server API,
"End-to-end encryption". Keys and signatures are unpadded base64.
"""

import json
from typing import Any, Final, TypeGuard

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from signet_client.payloads import from_base64, to_base64

OLM: Final = "m.olm.v1.curve25519-aes-sha2"
MEGOLM: Final = "m.megolm.v1.aes-sha2"
SIGNED_CURVE25519: Final = "signed_curve25519"

DEPTH_MAX: Final = 32
"""How deep arrays and objects stand in one another. Readers of JSON have such bounds of their own, and fail beyond
them: nobody may publish what makes the others fail."""

_INTEGER_MAX: Final = 2**53 - 1
_KEY_BYTES: Final = 32
_UNSIGNED: Final = ("signatures", "unsigned")

Object = dict[str, Any]


class BadObject(ValueError):
    """It is not what it must be: the text says why."""


class BadSignature(BadObject):
    """It is not signed by the device that must have signed it."""


def user_id(account: str, server: str) -> str:
    return f"@{account}:{server}"


def account_of(user: str, server: str) -> str:
    """Raises BadObject where it is no user of this server."""
    account = user.removeprefix("@").removesuffix(f":{server}")
    if user != user_id(account, server):
        raise BadObject(f"{user!r} is no user of {server}")
    return account


def room_id(conversation: str) -> str:
    return f"!{conversation}"


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, no floats, integers within 2^53-1. Raises BadObject."""
    _check(value, DEPTH_MAX)
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
        text.encode()  # a half of a surrogate pair is no text
    except ValueError as error:
        raise BadObject(str(error)) from error
    return text


def _check(value: Any, depth: int) -> None:
    """`depth`: how deep there may be arrays and objects in one another here."""
    match value:
        case None | bool() | str():
            pass
        case int():
            if abs(value) > _INTEGER_MAX:
                raise BadObject("an integer beyond 2^53-1")
        case dict() | list() if not depth:
            raise BadObject(f"arrays and objects more than {DEPTH_MAX} deep in one another")
        case dict():
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise BadObject("a key that is no text")
                _check(inner, depth - 1)
        case list():
            for inner in value:
                _check(inner, depth - 1)
        case _:
            raise BadObject(f"a {type(value).__name__}")


def signable(signed: Object) -> bytes:
    """The bytes that a signature of this object covers. Raises BadObject."""
    return canonical({key: value for key, value in signed.items() if key not in _UNSIGNED}).encode()


def verify(key: str, payload: bytes, signature: str) -> bool:
    """Whether this Ed25519 key made the signature."""
    try:
        VerifyKey(from_base64(key)).verify(payload, from_base64(signature))
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def check_signed(signed: Object, *, user: str, device: str, key: str) -> None:
    """Whether this device has signed the object. Raises BadSignature, and BadObject where it can't be signed."""
    payload = signable(signed)
    try:
        signature = signed["signatures"][user][f"ed25519:{device}"]
    except (KeyError, TypeError) as error:
        raise BadSignature(f"no signature by {device}") from error
    if not isinstance(signature, str) or not verify(key, payload, signature):
        raise BadSignature(f"the signature is not by {device}")


def check_device_keys(keys: Object, *, user: str, device: str, key: str | None = None) -> tuple[str, str]:
    """The Ed25519 and Curve25519 keys of a device, from what it has signed about itself. `key`: the Ed25519 key that it
    must have. Raises BadObject."""
    if (keys.get("user_id"), keys.get("device_id")) != (user, device):
        raise BadObject("user_id and device_id: those of the device itself")
    algorithms, named = keys.get("algorithms"), keys.get("keys")
    if not isinstance(algorithms, list) or OLM not in algorithms or MEGOLM not in algorithms:
        raise BadObject(f"algorithms: {OLM} and {MEGOLM}")
    if not isinstance(named, dict):
        raise BadObject("keys: an object")
    ed25519, curve25519 = named.get(f"ed25519:{device}"), named.get(f"curve25519:{device}")
    if not is_key(ed25519) or not is_key(curve25519):
        raise BadObject(f"keys: ed25519:{device} and curve25519:{device}, 32 bytes each")
    if key is not None and ed25519 != key:
        raise BadObject(f"keys: ed25519:{device} is not the key with which the device was linked")
    check_signed(keys, user=user, device=device, key=ed25519)
    return ed25519, curve25519


def check_one_time_key(signed: Object, *, user: str, device: str, key: str, fallback: bool | None = None) -> str:
    """The Curve25519 key in a signed one-time or fallback key; `fallback`: which of the two it must be. Raises
    BadObject."""
    one_time = signed.get("key")
    if not is_key(one_time):
        raise BadObject("key: 32 bytes")
    if fallback is not None and signed.get("fallback", False) is not fallback:
        raise BadObject("fallback: true for fallback keys, and only for them")
    check_signed(signed, user=user, device=device, key=key)
    return one_time


def is_key(text: object) -> TypeGuard[str]:
    """Whether it is a public key in its one canonical form."""
    if not isinstance(text, str):
        return False
    try:
        raw = from_base64(text)
    except ValueError:
        return False
    return len(raw) == _KEY_BYTES and to_base64(raw) == text
