"""The format of a sealed file: what is uploaded, and what is made of it again.

The plaintext is cut into segments of 4 MiB; the last one may be shorter, and an empty file is one empty segment. Each
segment is a secretstream of libsodium's (XChaCha20-Poly1305) of its own, with the one key of the file:

    file     = segment …
    segment  = header (24 bytes, random), chunk …
    chunk    = 64 KiB of plaintext, or what is left of the segment, encrypted, and 17 bytes of tags; the last chunk of a
               segment, and no other, is marked FINAL

With each chunk are authenticated: "signet.media.v1" and a line break, the media id (16 bytes), the number of the
segment from 0, and how many there are (8 bytes each, big-endian). So whole segments can be fetched and opened alone,
and whatever is cut, swapped, dropped, doubled or appended is found. The SHA-256 of all the ciphertext, which the
message carries, binds the file to the message: whoever has the key could seal another file with the same id.

Everything here is synchronous and busy, in steps of 64 KiB for which libsodium and SHA-256 let other threads run.
"""

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import BinaryIO, Final, TypeAlias
from uuid import UUID

from nacl import bindings

from signet_client.errors import SignetError

SEGMENT_BYTES: Final = 4 * 1024 * 1024
CHUNK_BYTES: Final = 64 * 1024

_init_push: Final = bindings.crypto_secretstream_xchacha20poly1305_init_push
_init_pull: Final = bindings.crypto_secretstream_xchacha20poly1305_init_pull
_push: Final = bindings.crypto_secretstream_xchacha20poly1305_push
_pull: Final = bindings.crypto_secretstream_xchacha20poly1305_pull
_HEADER_BYTES: Final = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_EXTRA_BYTES: Final = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
_MESSAGE: Final = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
_FINAL: Final = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_DOMAIN: Final = b"signet.media.v1\n"

SEALED_SEGMENT_BYTES: Final = _HEADER_BYTES + SEGMENT_BYTES + SEGMENT_BYTES // CHUNK_BYTES * _EXTRA_BYTES
"""A whole segment as ciphertext: segment k begins at k times so many bytes of the sealed file."""

Piece: TypeAlias = bytes | bytearray | memoryview


class Tampered(SignetError):
    """What came is not the file that was sealed: it was changed, cut or mixed up, or the key is another file's. Nothing
    that was made of it may be shown."""


class SourceChanged(SignetError):
    """A file grew or shrank while it was being sealed. What was written is of no use."""


def new_key() -> bytes:
    """The key of one file, 32 bytes; each file has its own, and each time that it is sealed."""
    return bindings.crypto_secretstream_xchacha20poly1305_keygen()


def segment_count(size: int) -> int:
    """How many segments a file of `size` bytes of plaintext has: at least one."""
    return max(1, -(-size // SEGMENT_BYTES))


def sealed_size(size: int) -> int:
    """The bytes of ciphertext for `size` bytes of plaintext. Raises ValueError where that is negative."""
    if size < 0:
        raise ValueError(f"a file can't have {size} bytes")
    chunks = max(1, -(-size // CHUNK_BYTES))
    return size + segment_count(size) * _HEADER_BYTES + chunks * _EXTRA_BYTES


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """A file from where it stands, as `seal` takes it."""
    return iter(partial(file.read, CHUNK_BYTES), b"")


def seal(pieces: Iterable[Piece], target: BinaryIO, *, key: bytes, media: UUID, size: int) -> bytes:
    """Writes the sealed file into `target`, a buffered one, with one chunk in memory at a time. The pieces have any
    length, and `size` bytes together. Returns the SHA-256 of the `sealed_size(size)` bytes that were written.

    Raises SourceChanged where there are more or fewer bytes than `size`.
    """
    reader = _Reader(pieces)
    digest = hashlib.sha256()
    for sealed in _sealed(reader, key, media, size):
        digest.update(sealed)
        target.write(sealed)
    if reader.read(1):
        raise SourceChanged("the file grew while it was being sealed; send it again")
    return digest.digest()


class Opener:
    """Opens a sealed file, or a range of its segments, from pieces of any length that come in order.

    What `feed` returns is what stands in the file at that place, but **must not be shown as the file before `finish()`
    has returned**: the rest may be missing, or be of another file. Keep it under another name until then.

    After a break, go on with byte `received` of the ciphertext; the object keeps all that it needs. Where it is gone,
    too, begin with a segment: `segments=range(k, segment_count(size))`.
    """

    def __init__(
        self, *, key: bytes, media: UUID, size: int, digest: bytes | None, segments: range | None = None
    ) -> None:
        """`size`: of the plaintext, as the message names it. `digest`: SHA-256 of the ciphertext; None for a range of
        segments, which it does not tell about. Raises ValueError where the file has no such segments."""
        assert (digest is None) == (segments is not None)
        count = segment_count(size)
        span = range(count) if segments is None else segments
        if span.step != 1 or not 0 <= span.start < span.stop <= count:
            raise ValueError(f"the file has {count} segments, and these are not some of them: {span}")
        end = min(span.stop * SEALED_SEGMENT_BYTES, sealed_size(size))
        self.expected: Final = end - span.start * SEALED_SEGMENT_BYTES
        """Bytes of ciphertext that must come in all."""
        self.received = 0
        """Bytes of ciphertext that have come."""
        self._segments = (_Opening(key, media, size, number) for number in span)
        self._segment = next(self._segments)
        self._digest = digest
        self._hash = hashlib.sha256()
        self._kept = bytearray()
        self._refused = False

    def feed(self, piece: Piece) -> list[bytes]:
        """The plaintext that can be opened now, in pieces. Raises Tampered, and once it has, always: nobody gets the
        rest of a file by trying on."""
        self._check_not_refused()
        self._refused = True
        opened = list(self._opened(piece))
        self._refused = False
        return opened

    def finish(self) -> None:
        """Returns where everything has come and is what was sealed; raises Tampered else."""
        self._check_not_refused()
        if self.received < self.expected:
            raise Tampered(f"only {self.received} of {self.expected} bytes have come")
        if self._digest is not None and self._hash.digest() != self._digest:
            raise Tampered("its SHA-256 is not the one that the message names")

    def _check_not_refused(self) -> None:
        if self._refused:
            raise Tampered("an earlier piece of it was refused")

    def _opened(self, piece: Piece) -> Iterator[bytes]:
        self.received += len(piece)
        if self.received > self.expected:
            raise Tampered(f"more has come than the {self.expected} bytes of it")
        if self._digest is not None:
            self._hash.update(piece)
        self._kept += piece
        at = 0
        with memoryview(self._kept) as kept:
            while len(kept) - at >= (wanted := self._segment.wanted):
                if plain := self._segment.open(bytes(kept[at : at + wanted])):
                    yield plain
                at += wanted
                if self._segment.is_done:
                    self._segment = next(self._segments, self._segment)
        del self._kept[:at]


class _Opening:
    """One segment: its header, then its chunks."""

    def __init__(self, key: bytes, media: UUID, size: int, number: int) -> None:
        self.is_done = False
        self._key = key
        self._number = number
        self._bound = _bound_to(media, size, number)
        self._left = _segment_size(size, number)
        self._state: bindings.crypto_secretstream_xchacha20poly1305_state | None = None

    @property
    def wanted(self) -> int:
        """Bytes of ciphertext that `open` needs next."""
        return _HEADER_BYTES if self._state is None else min(self._left, CHUNK_BYTES) + _EXTRA_BYTES

    def open(self, part: bytes) -> bytes:
        """The plaintext of a chunk, or b"" for the header. Raises Tampered."""
        if self._state is None:
            self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
            _init_pull(self._state, part, self._key)
            return b""
        try:
            plain, tag = _pull(self._state, part, self._bound)
        except RuntimeError as error:
            raise Tampered(f"segment {self._number} was changed, or belongs to another file or place") from error
        self._left -= len(plain)
        self.is_done = self._left == 0
        if tag != (_FINAL if self.is_done else _MESSAGE):
            raise Tampered(f"segment {self._number} does not end where it should")
        return plain


class _Reader:
    """Reads pieces of any length in parts of a given length."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def read(self, length: int) -> bytes:
        """So many bytes; fewer only at the end."""
        parts: list[memoryview] = []
        while length:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._rest = memoryview(piece)
            parts.append(self._rest[:length])
            self._rest = self._rest[length:]
            length -= len(parts[-1])
        return b"".join(parts)


def _sealed(reader: _Reader, key: bytes, media: UUID, size: int) -> Iterator[bytes]:
    for number in range(segment_count(size)):
        bound = _bound_to(media, size, number)
        left = _segment_size(size, number)
        state = bindings.crypto_secretstream_xchacha20poly1305_state()
        yield _init_push(state, key)
        while True:
            chunk = reader.read(min(left, CHUNK_BYTES))
            if len(chunk) < min(left, CHUNK_BYTES):
                raise SourceChanged("the file shrank while it was being sealed; send it again")
            left -= len(chunk)
            yield _push(state, chunk, bound, _MESSAGE if left else _FINAL)
            if not left:
                break


def _segment_size(size: int, number: int) -> int:
    return min(size - number * SEGMENT_BYTES, SEGMENT_BYTES)


def _bound_to(media: UUID, size: int, number: int) -> bytes:
    return _DOMAIN + media.bytes + number.to_bytes(8, "big") + segment_count(size).to_bytes(8, "big")
