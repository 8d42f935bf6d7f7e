"""What a picture looks like: its size as it is shown, and a small copy that is shown before the large one has come."""

import io
import re
from typing import Final, NamedTuple

from PIL import ExifTags, Image, ImageOps
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from signet_client.errors import SignetError
from signet_client.media.containers.webp import canvas_of
from signet_client.media.joined import joined
from signet_client.media.metadata import Format, Pieces

PREVIEW_SIDE_MAX: Final = 320
PREVIEW_BYTES_MAX: Final = 64 * 1024
PIXELS_MAX: Final = 50_000_000
"""A decoded picture takes four bytes of memory for each, and twice that where it is transparent."""
WEBP_PIXELS_MAX: Final = 25_000_000
"""Its decoder takes four times as much."""
SCALED_PIXELS_MAX: Final = 200_000_000
"""For a JPEG of one scan, which is decoded to an eighth of its size at once. One of several scans, as a progressive
JPEG is, must be in memory as a whole for that."""

DECODED_PIXELS_MAX: Final = 12_000_000
"""Of a picture that must be in memory as a whole to be made smaller: a larger one has no preview, since it would take
more than 90 MB."""

_AS_IS: Final = "send it as a file, as it is"
_QUALITIES: Final = (70, 50, 30, 10)
_ORIENTATION: Final = ExifTags.Base.Orientation
_LYING: Final = frozenset({5, 6, 7, 8})
_SCAN: Final = re.compile(rb"\xff\xda")
_PLUGINS: Final[dict[Format, type[ImageFile]]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
}
"""By hand, since `Image.open` warns of more than Pillow's own limit of pixels, which belongs to the whole process."""
_TELLING: Final = frozenset({"comment", "xmp", "XML:com.adobe.xmp", "photoshop", "mp", "mpoffset"})
"""Where Pillow puts what it finds beside the pixels."""


class BadPicture(SignetError):
    """A picture can't be prepared as one; the text says why, and what to do."""

    def __init__(self, what: str, remedy: str = _AS_IS) -> None:
        super().__init__(f"{what}; {remedy}")


class Look(NamedTuple):
    width: int
    """Pixels, as it is shown: an orientation is applied. So with the height."""
    height: int
    preview: bytes | None
    """A JPEG with sides of at most PREVIEW_SIDE_MAX, at most PREVIEW_BYTES_MAX long, that tells nothing beside itself;
    of an animation its first frame. What is transparent is white. None: see DECODED_PIXELS_MAX."""


def look_at(pieces: Pieces, format: Format) -> Look:
    """Looks at a stripped picture. Raises BadPicture where it is damaged, has too many pixels, or tells more than its
    pixels after all."""
    if format == "WEBP":
        # Its decoder takes memory for the whole canvas when it is made.
        _check_pixels(*canvas_of(joined(pieces).read(32)), WEBP_PIXELS_MAX)
    scales = format == "JPEG" and _has_one_scan(pieces)
    try:
        with _PLUGINS[format](joined(pieces)) as image:
            _check_pixels(image.width, image.height, SCALED_PIXELS_MAX if scales else PIXELS_MAX)
            if scales or image.width * image.height <= DECODED_PIXELS_MAX:
                return _look(image)
            return _measure(image)
    except BadPicture:
        raise
    except Exception as error:  # Pillow's plugins raise whatever they stumble on, and so does zlib
        raise BadPicture(f"the picture is damaged ({error})") from error


def _look(image: ImageFile) -> Look:
    size = image.size
    small = _small(image)
    _check_silent(image)
    return Look(*_as_shown(size, small), _encoded(ImageOps.exif_transpose(small)))


def _measure(image: ImageFile) -> Look:
    _check_silent(image)
    return Look(*_as_shown(image.size, image), None)


def _as_shown(size: tuple[int, int], image: Image.Image) -> tuple[int, int]:
    width, height = size
    return (height, width) if image.getexif().get(_ORIENTATION) in _LYING else (width, height)


def _check_silent(image: ImageFile) -> None:
    if _tells_more(image):
        raise BadPicture("what the picture tells of its place and time could not be taken out")


def _small(image: ImageFile) -> Image.Image:
    """No larger than a preview; L, RGB, RGBA or CMYK."""
    small: Image.Image = image
    if image.mode.startswith("I"):
        # 16 bits of grey, which Pillow would cut off at 255.
        small = image.point(lambda level: level * (1 / 257)).convert("L")
    elif image.has_transparency_data and image.mode != "RGBA":
        small = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "RGBA", "CMYK"):
        small = image.convert("RGB")
    small.thumbnail((PREVIEW_SIDE_MAX, PREVIEW_SIDE_MAX))
    return small


def _encoded(small: Image.Image) -> bytes:
    flat = Image.new("RGB", small.size, "white")
    flat.paste(small.convert("RGB"), mask=small.getchannel("A") if small.mode == "RGBA" else None)
    jpegs = (_jpeg(flat, quality) for quality in _QUALITIES)
    return next(jpeg for jpeg in jpegs if len(jpeg) <= PREVIEW_BYTES_MAX)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return target.getvalue()


def _tells_more(image: ImageFile) -> bool:
    return (
        bool(set(image.getexif()) - {_ORIENTATION})
        or not _TELLING.isdisjoint(image.info)
        or (isinstance(image, PngImageFile) and bool(image.text))
    )


def _has_one_scan(pieces: Pieces) -> bool:
    return sum(1 for piece in pieces for _ in _SCAN.finditer(piece)) == 1


def _check_pixels(width: int, height: int, pixels_max: int) -> None:
    if width * height > pixels_max:
        raise BadPicture(
            f"the picture has {width} × {height} pixels, and at most {pixels_max // 1_000_000} megapixels are looked at"
        )
