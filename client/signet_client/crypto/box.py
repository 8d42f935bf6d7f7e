"""Seals what stands in the device's store, with the key in the file beside it."""

from hashlib import blake2b
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from signet_client.errors import StoreFailed

_KEY_BYTES: Final = 32


class Box:
    def __init__(self, key: bytes) -> None:
        self._box = SecretBox(derive(key, b"store"))
        self.pickle_key: Final = derive(key, b"sessions")
        """For vodozemac's pickles. Their own encryption takes its IV from the key alone, so equal states would give
        equal pickles: they are sealed once more."""

    def seal(self, plain: bytes) -> bytes:
        return bytes(self._box.encrypt(plain))

    def open(self, sealed: bytes) -> bytes:
        """Raises StoreFailed where the key does not fit, or the bytes are damaged."""
        try:
            return self._box.decrypt(sealed)
        except CryptoError as error:
            raise StoreFailed("the key file beside the store does not fit it; restore both from one copy") from error


def derive(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose; `purpose`: at most 9 bytes."""
    return blake2b(key, digest_size=_KEY_BYTES, person=b"signet-" + purpose).digest()
