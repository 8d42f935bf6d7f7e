"""A picture in a terminal: two pixels a character, by half blocks in colour; without colours by how dark it is."""

import io
from collections.abc import Iterator
from typing import Final

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from ops.errors import OpsError

COLUMNS_MAX: Final = 72
LINES_MAX: Final = 60
SIDE_MAX: Final = 1_024
"""Pixels. Clients send 320 at most; somebody may have sent anything."""
_SHADES: Final = " .:-=+*#%@"


def draw(jpeg: bytes, *, columns: int, colours: bool) -> list[str]:
    """Its lines. Raises OpsError where it is no picture."""
    try:
        # By hand, since `Image.open` warns and fails by limits of its own.
        with JpegImageFile(io.BytesIO(jpeg)) as picture:
            if max(picture.size) > SIDE_MAX:
                raise OpsError("the preview is larger than one may be; save the file to look at it")
            width = max(1, min(columns, COLUMNS_MAX, picture.width))
            height = min(max(2, round(picture.height * width / picture.width)), 2 * LINES_MAX)
            small = picture.convert("RGB" if colours else "L").resize((width, height + height % 2))
    except OpsError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever they stumble on
        raise OpsError(f"the preview can't be shown: {error}") from error
    return [*(_coloured(small) if colours else _shaded(small))]


def _coloured(picture: Image.Image) -> Iterator[str]:
    pixels = picture.tobytes()
    row = picture.width * 3
    for top in range(0, len(pixels), 2 * row):
        upper, lower = pixels[top : top + row], pixels[top + row : top + 2 * row]
        cells = [
            "\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m▀".format(*upper[x : x + 3], *lower[x : x + 3])
            for x in range(0, row, 3)
        ]
        yield "".join(cells) + "\x1b[0m"


def _shaded(picture: Image.Image) -> Iterator[str]:
    pixels, row = picture.tobytes(), picture.width
    for top in range(0, len(pixels), 2 * row):
        yield "".join(_SHADES[value * (len(_SHADES) - 1) // 255] for value in pixels[top : top + row])
