"""A device's identity: a vodozemac `Account`, of which the Ed25519 key signs challenges and headers.

The account stands in the device's store, sealed with a key that stands in a file beside it (`<store>.key`, mode 0600):
a copy of the store alone lets nobody speak for the device.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Final

import nacl.utils
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from vodozemac import Account, PickleException

from signet_client.errors import StoreFailed

_KEY_BYTES: Final = 32


class Identity:
    """The device's keys."""

    def __init__(self, account: Account | None = None) -> None:
        """Makes new keys where none are given."""
        self._account = Account() if account is None else account
        self.key: Final = self._account.ed25519_key.to_base64()
        """The public Ed25519 key, unpadded base64."""

    def sign(self, payload: bytes) -> str:
        """The Ed25519 signature, unpadded base64."""
        return self._account.sign(payload).to_base64()

    def seal(self, key: bytes) -> bytes:
        """The account, secret but for who has the key."""
        # A pickle's own encryption takes its IV from the key alone, so equal states would give equal pickles.
        return bytes(SecretBox(_derive(key, b"box")).encrypt(self._account.pickle(_derive(key, b"pickle")).encode()))

    @classmethod
    def unseal(cls, sealed: bytes, key: bytes) -> "Identity":
        """Raises StoreFailed where the key does not fit."""
        try:
            pickle = SecretBox(_derive(key, b"box")).decrypt(sealed).decode()
            return cls(Account.from_pickle(pickle, _derive(key, b"pickle")))
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


def _derive(key: bytes, purpose: bytes) -> bytes:
    return blake2b(key, digest_size=_KEY_BYTES, person=b"signet-" + purpose).digest()
