"""GIF: a screen, and blocks that begin with a byte of their kind (GIF89a; the loop is Netscape's, 1995)."""

from typing import Final

from signet_client.media.containers.kept import DamagedPicture, Kept, Pieces

_SCREEN_BYTES: Final = 13
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _APPLICATION = 0xF9, 0xFF
_CONTROL_BYTES: Final = 8
_IMAGE_BYTES: Final = 10
_LOOPS: Final = (b"\x0bNETSCAPE2.0\x03\x01", b"\x0bANIMEXTS1.0\x03\x01")
"""How an application's extension goes on that says how often the animation is played."""
_LOOP_BYTES: Final = 19


def strip_gif(data: memoryview) -> Pieces:
    kept = Kept(data)
    at = _SCREEN_BYTES + _palette_bytes(data[_SCREEN_BYTES - 3])
    kept.span(0, at)
    is_drawn = False
    while data[at] != _TRAILER:
        start, at = at, _end_of_block(data, at)
        if data[start] == _IMAGE:
            is_drawn = True
            kept.span(start, at)
        else:
            _keep_extension(kept, data, start, at)
    kept.span(at, at + 1)
    if not is_drawn:
        raise DamagedPicture("there is no picture in it")
    return kept.pieces()


def _keep_extension(kept: Kept, data: memoryview, start: int, end: int) -> None:
    """Comments, texts and what applications say of themselves are not kept, but for the number of rounds."""
    label = data[start + 1]
    if label == _CONTROL and end - start == _CONTROL_BYTES:
        kept.span(start, end)
    elif label == _APPLICATION and bytes(data[start + 2 : start + 16]) in _LOOPS:
        kept.span(start, start + _LOOP_BYTES - 1)
        if end - start == _LOOP_BYTES:
            kept.span(end - 1, end)
        else:
            kept.put(b"\0")


def _end_of_block(data: memoryview, at: int) -> int:
    if data[at] == _IMAGE:
        at += _IMAGE_BYTES + _palette_bytes(data[at + _IMAGE_BYTES - 1]) + 1
    elif data[at] == _EXTENSION:
        at += 2
    else:
        raise DamagedPicture("a part of it is missing or was changed")
    while length := data[at]:
        at += 1 + length
    return at + 1


def _palette_bytes(flags: int) -> int:
    return 3 * 2 ** ((flags & 0x07) + 1) if flags & 0x80 else 0
