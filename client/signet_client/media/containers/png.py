"""PNG and APNG: a signature and chunks (PNG specification, third edition)."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from signet_client.media.containers import exif
from signet_client.media.containers.kept import DamagedPicture, Kept, Pieces

_SIGNATURE_BYTES: Final = 8
_AROUND_BYTES: Final = 12
"""Length and type before what a chunk holds, and its check sum behind."""
_ANY: Final = 2**31 - 1
_RENDERING: Final = {
    b"IHDR": 13,
    b"PLTE": 768,
    b"IDAT": _ANY,
    b"IEND": 0,
    b"tRNS": 256,
    b"cHRM": 32,
    b"gAMA": 4,
    b"iCCP": _ANY,
    b"sBIT": 4,
    b"sRGB": 1,
    b"cICP": 4,
    b"mDCV": 24,
    b"cLLI": 8,
    b"bKGD": 6,
    b"pHYs": 9,
    b"acTL": 8,
    b"fcTL": 26,
    b"fdAT": _ANY,
}
"""The chunks that are kept, and the most bytes that each may hold: what is longer has something hidden behind it."""


class _Chunk(NamedTuple):
    type_: bytes
    start: int
    payload: memoryview
    end: int


def strip_png(data: memoryview) -> Pieces:
    kept = Kept(data)
    kept.span(0, _SIGNATURE_BYTES)
    exif_seen = False
    for chunk in _chunks(data):
        if chunk.type_ == b"eXIf" and not exif_seen:
            exif_seen = True
            if turn := exif.turn_only(chunk.payload):
                kept.put(_encoded(b"eXIf", turn))
        elif len(chunk.payload) <= _RENDERING.get(chunk.type_, -1):
            kept.span(chunk.start, chunk.end)
        elif chunk.type_[:1].isupper():
            raise DamagedPicture("a part of it is of a kind that nobody knows")
    return kept.pieces()


def _chunks(data: memoryview) -> Iterator[_Chunk]:
    """All of them to IEND, of which the first is IHDR, and one is IDAT."""
    at = _SIGNATURE_BYTES
    seen: set[bytes] = set()
    while b"IEND" not in seen:
        length, type_ = struct.unpack_from(">I4s", data, at)
        end = at + _AROUND_BYTES + length
        if end > len(data):
            raise DamagedPicture("it is cut off")
        if not type_.isalpha() or (type_ == b"IHDR") == bool(seen):
            raise DamagedPicture("a part of it is missing or was changed")
        seen.add(type_)
        yield _Chunk(type_, at, data[at + 8 : end - 4], end)
        at = end
    if b"IDAT" not in seen:
        raise DamagedPicture("there is no picture in it")


def _encoded(type_: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + type_ + payload + struct.pack(">I", zlib.crc32(type_ + payload))
