"""A device's identity: a vodozemac `Account`. Its Ed25519 key signs challenges, headers and receipts; with its other
keys others begin Olm sessions.

The account stands in the device's store, sealed with a key that stands in a file beside it (`<store>.key`, mode 0600):
a copy of the store alone lets nobody speak for the device.
"""

import os
from pathlib import Path
from typing import Final

import nacl.utils
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from vodozemac import Account, PickleException

from signet_client import matrix
from signet_client.crypto.box import derive
from signet_client.errors import StoreFailed

_KEY_BYTES: Final = 32


class Identity:
    """The device's keys."""

    def __init__(self, account: Account | None = None) -> None:
        """Makes new keys where none are given."""
        self.account: Final = Account() if account is None else account
        self.key: Final = self.account.ed25519_key.to_base64()
        """The public Ed25519 key, unpadded base64."""
        self.curve25519: Final = self.account.curve25519_key.to_base64()
        """The public Curve25519 key."""
        self.changed = False
        """It holds other keys than the store: whoever commits the store saves it, too."""
        self._device_keys: matrix.Object | None = None

    def sign(self, payload: bytes) -> str:
        """The Ed25519 signature, unpadded base64."""
        return self.account.sign(payload).to_base64()

    def sign_object(self, unsigned: matrix.Object, *, user: str, device: str) -> matrix.Object:
        """With this device's signature, as Matrix has it."""
        signature = self.sign(matrix.signable(unsigned))
        return {**unsigned, "signatures": {user: {f"ed25519:{device}": signature}}}

    def device_keys(self, *, user: str, device: str) -> matrix.Object:
        """What the device says of itself, signed."""
        if self._device_keys is None:
            unsigned: matrix.Object = {
                "user_id": user,
                "device_id": device,
                "algorithms": [matrix.OLM, matrix.MEGOLM],
                "keys": {f"curve25519:{device}": self.curve25519, f"ed25519:{device}": self.key},
            }
            self._device_keys = self.sign_object(unsigned, user=user, device=device)
        return self._device_keys

    def seal(self, key: bytes) -> bytes:
        """The account, secret but for who has the key."""
        # A pickle's own encryption takes its IV from the key alone, so equal states would give equal pickles.
        return bytes(SecretBox(derive(key, b"box")).encrypt(self.account.pickle(derive(key, b"pickle")).encode()))

    @classmethod
    def unseal(cls, sealed: bytes, key: bytes) -> "Identity":
        """Raises StoreFailed where the key does not fit."""
        try:
            pickle = SecretBox(derive(key, b"box")).decrypt(sealed).decode()
            return cls(Account.from_pickle(pickle, derive(key, b"pickle")))
        except (CryptoError, PickleException) as error:
            raise StoreFailed("the key file beside the store does not fit it; restore both from one copy") from error


def key_beside(store: Path, *, make: bool = False) -> bytes:
    """The 32 bytes that seal the identity in this store; `make` makes them where there are none. Raises StoreFailed."""
    path = store.with_name(store.name + ".key")
    try:
        if make and not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise StoreFailed(f"can't read the store's key file: {error}") from error
    if len(key) != _KEY_BYTES:
        raise StoreFailed(f"{path} is no key file: it has {len(key)} bytes, not {_KEY_BYTES}")
    return key


def _make_key(path: Path) -> None:
    # Complete and on disk before it has its name: a crash leaves no half of a key.
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(nacl.utils.random(_KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
