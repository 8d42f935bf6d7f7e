"""EXIF, of which only one thing is kept: how the picture is to be turned. A TIFF 6.0, often behind a prefix."""

import struct
from typing import Final

from PIL import Image

PREFIX: Final = b"Exif\0\0"
_ORIENTATION: Final = 0x0112
_SHORT: Final = 3


def turn_only(exif: bytes | memoryview) -> bytes:
    """An EXIF, with no prefix, that tells how the picture is to be turned and nothing else. Empty where it stands
    upright, or where that can't be read."""
    orientation = _orientation(exif[len(PREFIX) :] if exif[: len(PREFIX)] == PREFIX else exif)
    if orientation == 1:
        return b""
    minimal = Image.Exif()
    minimal[_ORIENTATION] = orientation
    return minimal.tobytes().removeprefix(PREFIX)


def _orientation(tiff: bytes | memoryview) -> int:
    """1 to 8, and 1 where nothing can be made of it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(tiff[:4]))
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(at + 2, at + 2 + count * 12, 12):
            tag, type_, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
            if tag == _ORIENTATION:
                return value if type_ == _SHORT and 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
