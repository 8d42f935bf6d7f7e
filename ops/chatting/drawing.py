"""A picture in a terminal: two pixels a character, by half blocks in colour; without colours by how dark it is."""

import io
from collections.abc import Iterator
from typing import Final

from PIL import Image

from ops.errors import OpsError

COLUMNS_MAX: Final = 72
_PIXELS_MAX: Final = 2_000_000
"""A preview has at most 320 × 320; somebody may have sent anything as one."""
_SHADES: Final = " .:-=+*#%@"


def draw(jpeg: bytes, *, columns: int, colours: bool) -> list[str]:
    """Its lines. Raises OpsError where it is no picture."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
            if picture.width * picture.height > _PIXELS_MAX:
                raise OpsError("the preview is larger than one may be; save the file to look at it")
            width = max(1, min(columns, COLUMNS_MAX, picture.width))
            height = max(2, round(picture.height * width / picture.width))
            small = picture.convert("RGB" if colours else "L").resize((width, height + height % 2))
    except (OSError, ValueError, SyntaxError) as error:
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
