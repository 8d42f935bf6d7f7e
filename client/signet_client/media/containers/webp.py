"""WebP: a RIFF of chunks, a single one or an extended file that begins with VP8X (RFC 9649)."""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from signet_client.media.containers import exif
from signet_client.media.containers.kept import PARTS_MAX, DamagedPicture, Kept, Pieces

_RIFF_BYTES: Final = 12
_HEADER_BYTES: Final = 8
_VP8X_BYTES: Final = 10
_FRAME_BYTES: Final = 16
_HAS_EXIF, _HAS_XMP = 0x08, 0x04
_IMAGE: Final = frozenset({b"VP8 ", b"VP8L"})
_RENDERING: Final = _IMAGE | {b"ALPH", b"ANIM", b"ICCP"}


class _Chunk(NamedTuple):
    type_: bytes
    start: int
    payload: memoryview
    end: int
    """With the byte that makes its length even."""


def strip_webp(data: memoryview) -> Pieces:
    (length,) = struct.unpack_from("<I", data, 4)
    chunks = list(islice(_chunks(data, _RIFF_BYTES, _HEADER_BYTES + length), PARTS_MAX + 1))
    if len(chunks) > PARTS_MAX:
        raise DamagedPicture("it consists of too many parts")
    body = Kept(data)
    if chunks and chunks[0].type_ == b"VP8X":
        _keep_extended(body, data, chunks)
    elif chunks and chunks[0].type_ in _IMAGE:
        body.span(chunks[0].start, chunks[0].end)
    else:
        raise DamagedPicture("there is no picture in it")
    head = Kept(data)
    if body.length + 4 == length:
        head.span(0, _RIFF_BYTES)
    else:
        head.put(struct.pack("<4sI4s", b"RIFF", body.length + 4, b"WEBP"))
    return head.pieces() + body.pieces()


def _keep_extended(kept: Kept, data: memoryview, chunks: list[_Chunk]) -> None:
    turn = next((exif.turn_only(chunk.payload) for chunk in chunks if chunk.type_ == b"EXIF"), b"")
    _keep_features(kept, chunks[0], bool(turn))
    is_drawn = False
    for chunk in chunks[1:]:
        is_drawn |= chunk.type_ in _IMAGE or chunk.type_ == b"ANMF"
        if chunk.type_ in _RENDERING:
            kept.span(chunk.start, chunk.end)
        elif chunk.type_ == b"ANMF":
            _keep_frame(kept, data, chunk)
        elif chunk.type_ == b"EXIF" and turn:
            kept.put(_header(b"EXIF", len(turn)) + turn)
            turn = b""
    if not is_drawn:
        raise DamagedPicture("there is no picture in it")


def _keep_features(kept: Kept, vp8x: _Chunk, is_turned: bool) -> None:
    if len(vp8x.payload) != _VP8X_BYTES:
        raise DamagedPicture("a part of it is missing or was changed")
    flags = vp8x.payload[0] & ~(_HAS_EXIF | _HAS_XMP) | (_HAS_EXIF if is_turned else 0)
    if flags == vp8x.payload[0]:
        kept.span(vp8x.start, vp8x.end)
    else:
        kept.put(_header(b"VP8X", _VP8X_BYTES) + bytes([flags, *vp8x.payload[1:]]))


def _keep_frame(kept: Kept, data: memoryview, frame: _Chunk) -> None:
    """A frame of an animation has chunks of its own, behind its place and duration."""
    start = frame.start + _HEADER_BYTES + _FRAME_BYTES
    inner = _chunks(data, start, frame.start + _HEADER_BYTES + len(frame.payload))
    drawn = [chunk for chunk in inner if chunk.type_ in _IMAGE or chunk.type_ == b"ALPH"]
    length = _FRAME_BYTES + sum(chunk.end - chunk.start for chunk in drawn)
    if length == len(frame.payload):
        kept.span(frame.start, frame.end)
        return
    kept.put(_header(b"ANMF", length))
    kept.span(start - _FRAME_BYTES, start)
    for chunk in drawn:
        kept.span(chunk.start, chunk.end)


def _chunks(data: memoryview, at: int, end: int) -> Iterator[_Chunk]:
    """The chunks of data[at:end]; a rest that is shorter than the header of one is none."""
    if end > len(data):
        raise DamagedPicture("it is cut off")
    while at + _HEADER_BYTES <= end:
        type_, length = struct.unpack_from("<4sI", data, at)
        stop = at + _HEADER_BYTES + length
        if stop > end:
            raise DamagedPicture("it is cut off")
        yield _Chunk(type_, at, data[at + _HEADER_BYTES : stop], min(stop + length % 2, end))
        at = stop + length % 2


def _header(type_: bytes, length: int) -> bytes:
    return struct.pack("<4sI", type_, length)


def canvas_of(head: bytes) -> tuple[int, int]:
    """Width and height by the first 30 bytes; 0 × 0 where they don't say."""
    type_, body = head[12:16], head[20:]
    if type_ == b"VP8X" and len(body) >= 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if type_ == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if type_ == b"VP8 " and len(body) >= 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0
