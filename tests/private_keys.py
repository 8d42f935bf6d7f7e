"""The private keys of a client, as bytes, to look for them where they must not be.

vodozemac gives none of them away, but for its pickles: base64 of AES-256-CBC over JSON and a MAC of 8 bytes, with keys
derived from the pickle's key (`Cipher::new_pickle` in its source).
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from signet_client import Client
from signet_client.payloads import from_base64

_PICKLE_KEY: Final = bytes(32)
_MAC_BYTES: Final = 8
_RATCHET: Final = slice(5, 133)
"""Of an exported session key: after its version and index."""


def private_keys(client: Client) -> set[bytes]:
    """The identity, one-time and fallback keys of a device, and the ratchets of the sessions that it knows."""
    account = _open_pickle(client._identity.account.pickle(_PICKLE_KEY))
    keys = {bytes(account["signing_key"]["Normal"]), bytes(account["diffie_hellman_key"])}
    keys.update(bytes(key) for key in account["one_time_keys"]["private_keys"].values())
    keys.update(bytes(each["key"]) for each in account["fallback_keys"].values() if isinstance(each, dict))
    return keys | set(_ratchets(client))


def _ratchets(client: Client) -> Iterator[bytes]:
    vault = client._machine.vault
    for key in client._store.query("SELECT conversation, session, account, device FROM inbound_sessions"):
        inbound = vault.inbound(*key)
        assert inbound is not None
        exported = inbound.session.export_at(inbound.session.first_known_index)
        assert exported is not None
        yield from_base64(exported.to_base64())[_RATCHET]


def forms_of(secret: bytes) -> list[bytes]:
    """As it could stand in a file: raw, in hex, and in base64 at each of the three offsets."""
    forms = [secret, secret.hex().encode()]
    for offset in range(3):
        shifted = base64.b64encode(bytes(offset) + secret)
        # Without what depends on the neighbours.
        forms.append(shifted[4 if offset else 0 : -4])
    return forms


def _open_pickle(pickle: str) -> dict[str, Any]:
    raw = from_base64(pickle)
    derived = HKDF(_PICKLE_KEY, 80, b"", SHA256, context=b"Pickle")
    assert isinstance(derived, bytes)
    plain = AES.new(derived[:32], AES.MODE_CBC, derived[64:80]).decrypt(raw[:-_MAC_BYTES])
    opened: dict[str, Any] = json.loads(plain[: -plain[-1]])
    return opened
