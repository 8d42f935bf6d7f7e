"""Takes out of a picture what it tells beside the picture: place, time, camera, names, comments, texts, thumbnails from
before it was cut, films and further pictures that hang on it.

It works on the container alone and decodes nothing, so the pixels stay what they are to the bit. It is written here
because no library was found that does this without loss for these four formats, is kept up, and may be used freely:
what there is encodes anew, or removes only EXIF.

What is kept is listed, and everything else goes. Kept are pixels, colours with their ICC profile, density, the timing
of animations, and how the picture is to be turned, in an EXIF that holds nothing else. With the rest go the second
picture of a stereo shot, the gain map of an HDR photo (it is shown in plain range), and the film of a motion photo.
What an ICC profile says of its maker stays, and nobody looks into the pixels.
"""

import struct
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from signet_client.media.containers.gif import strip_gif
from signet_client.media.containers.jpeg import strip_jpeg
from signet_client.media.containers.kept import DamagedPicture, Pieces
from signet_client.media.containers.png import strip_png
from signet_client.media.containers.webp import strip_webp

__all__ = ["DamagedPicture", "Format", "Pieces", "format_of", "strip"]

Format: TypeAlias = Literal["JPEG", "PNG", "GIF", "WEBP"]

_STRIPPERS: Final[dict[Format, Callable[[memoryview], Pieces]]] = {
    "JPEG": strip_jpeg,
    "PNG": strip_png,
    "GIF": strip_gif,
    "WEBP": strip_webp,
}


def format_of(head: bytes | memoryview) -> Format | None:
    """Which of the four it is, by its first 12 bytes."""
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    return "WEBP" if head[:4] == b"RIFF" and head[8:12] == b"WEBP" else None


def strip(data: memoryview, format: Format) -> Pieces:
    """The picture without what it tells beside itself: spans of `data`, which is not copied, and bytes put between
    them, in order. A picture that tells nothing comes out as it is.

    Raises DamagedPicture where the structure is broken; what follows the end of the picture is not looked at.
    """
    if format_of(data[:12]) != format:
        raise DamagedPicture(f"it does not begin like {format}")
    try:
        return _STRIPPERS[format](data)
    except (IndexError, struct.error) as error:
        raise DamagedPicture("it is cut off") from error
