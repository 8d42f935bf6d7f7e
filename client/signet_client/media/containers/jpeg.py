"""JPEG: segments that begin with a marker, and coded data behind some of them (ITU T.81; JFIF is T.871)."""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from signet_client.media.containers import exif
from signet_client.media.containers.kept import DamagedPicture, Kept, Pieces

_CODING_FIRST, _RESTART_FIRST, _EOI, _SOS, _EXP = 0xC0, 0xD0, 0xD9, 0xDA, 0xDF
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_CODING: Final = frozenset({*range(_CODING_FIRST, _RESTART_FIRST), *range(_SOS, _EXP + 1)})
"""Frames, tables, scans."""
_MARKER: Final = re.compile(rb"\xff+[^\x00\xff]", re.DOTALL)
_SCAN_END: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""A marker, and neither a byte 0xFF of the coded data nor a restart within it."""
_JFIF: Final = b"JFIF\0"
_JFIF_BYTES: Final = 14
_ICC: Final = b"ICC_PROFILE\0"
_ADOBE: Final = b"Adobe"
_ADOBE_BYTES: Final = 12


class _Segment(NamedTuple):
    marker: int
    start: int
    payload: memoryview
    end: int
    """With the coded data, where some follow."""


def strip_jpeg(data: memoryview) -> Pieces:
    kept = Kept(data)
    kept.span(0, 2)
    exif_seen = False
    for segment in _segments(data):
        marker, payload = segment.marker, segment.payload
        if marker == _APP1 and _begins(payload, exif.PREFIX):
            # Of several EXIFs the first one counts.
            if not exif_seen and (turn := exif.turn_only(payload)):
                kept.put(_encoded(_APP1, exif.PREFIX + turn))
            exif_seen = True
            continue
        rest = _rest_of(marker, payload)
        if rest is payload:
            kept.span(segment.start, segment.end)
        elif rest is not None:
            kept.put(_encoded(marker, bytes(rest)))
    return kept.pieces()


def _rest_of(marker: int, payload: memoryview) -> bytes | memoryview | None:
    """What is kept of a segment: the payload itself where that is all of it, None where it is nothing."""
    if marker in _CODING or marker == _EOI:
        return payload
    if marker == _APP0 and _begins(payload, _JFIF) and len(payload) >= _JFIF_BYTES:
        without_thumbnail = bytes(payload[: _JFIF_BYTES - 2]) + b"\0\0"
        return payload if payload == without_thumbnail else without_thumbnail
    if marker == _APP2 and _begins(payload, _ICC):
        return payload
    if marker == _APP14 and _begins(payload, _ADOBE):
        return payload if len(payload) == _ADOBE_BYTES else payload[:_ADOBE_BYTES]
    return None


def _begins(payload: memoryview, with_: bytes) -> bool:
    return bytes(payload[: len(with_)]) == with_


def _encoded(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(payload)) + payload


def _segments(data: memoryview) -> Iterator[_Segment]:
    """From behind the first marker to the end of the first picture."""
    at = 2
    is_scanned = False
    while (found := _MARKER.match(data, at)) is not None:
        marker, end = data[found.end() - 1], found.end()
        if marker == _EOI and is_scanned:
            yield _Segment(marker, at, data[end:end], end)
            return
        if marker < _CODING_FIRST or _RESTART_FIRST <= marker <= _EOI:
            break
        (length,) = struct.unpack_from(">H", data, end)
        payload = data[end + 2 : end + length]
        end += length
        if length < 2 or end > len(data):
            break
        if marker == _SOS:
            end = _end_of_scan(data, end)
            is_scanned = True
        yield _Segment(marker, at, payload, end)
        at = end
    raise DamagedPicture("a part of it is missing or was changed")


def _end_of_scan(data: memoryview, start: int) -> int:
    found = _SCAN_END.search(data, start)
    if found is None:
        raise DamagedPicture("it is cut off")
    return found.start()
