"""Pictures that tell more than they show: MARK stands wherever a picture can hide a text."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

MARK: Final = b"Mark's-garden"
TURN: Final = 6
_XMP: Final = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><note>' + MARK + b"</note></x:xmpmeta>"
_FILM: Final = b"\0\0\0\x18ftypmp42" + MARK + b"\xff\xd9\xff\xd8"


def picture(side: int = 48, *, shift: int = 0, mode: str = "RGB") -> Image.Image:
    """Not square, and no two corners are alike."""
    width, height = side, side * 3 // 4
    reds = bytes((x * 5 + y * 3 + shift) % 256 for y in range(height) for x in range(width))
    bands = [Image.frombytes("L", (width, height), bytes((red * more) % 256 for red in reds)) for more in (1, 3, 7)]
    return Image.merge("RGB", bands).convert(mode)


def exif(turn: int = TURN) -> Image.Exif:
    """With place, camera and time, as a phone writes it."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = turn
    tags[ExifTags.Base.Make] = MARK.decode()
    tags[ExifTags.Base.DateTime] = "2024:01:02 03:04:05"
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = MARK
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"ASCII\0\0\0" + MARK
    return tags


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def jpeg(**options: Any) -> bytes:
    return saved(picture(), "JPEG", exif=exif(), xmp=_XMP, comment=MARK, icc_profile=b"colours" * 10, **options)


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(payload)) + payload


def jpeg_with_everything() -> bytes:
    """Each application's segment, a thumbnail in JFIF and in JFXX, an Adobe segment with a tail, and a film behind."""
    whole = jpeg()
    assert whole[2:6] == b"\xff\xe0\0\x10"
    thumbnail = jpeg_segment(0xE0, b"JFIF\0\x01\x02\0\0\x48\0\x48\x03\x02" + (MARK + bytes(5)))
    extension = jpeg_segment(0xE0, b"JFXX\0\x10" + MARK)
    others = b"".join(jpeg_segment(marker, MARK) for marker in (*range(0xE0, 0xF0), 0xFE))
    adobe = jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01" + MARK)
    return whole[:2] + thumbnail + extension + others + adobe + b"\xff\xff" + whole[20:] + _FILM


def stereo() -> bytes:
    """An MPO: two JPEGs, the second one hanging on the first."""
    return saved(picture(), "MPO", save_all=True, append_images=[picture(shift=90)], exif=exif(), comment=MARK)


def png_chunk(type_: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + type_ + payload + struct.pack(">I", zlib.crc32(type_ + payload))


def _texts() -> PngInfo:
    texts = PngInfo()
    texts.add_text("Comment", MARK.decode())
    texts.add_itxt("XML:com.adobe.xmp", _XMP.decode())
    texts.add_text("Packed", MARK.decode() * 9, zip=True)
    texts.add(b"tIME", struct.pack(">H5B", 2024, 1, 2, 3, 4, 5))
    texts.add(b"prVt", MARK)
    texts.add(b"bKGD", bytes(6))
    texts.add(b"sTER", b"\0" + MARK)
    return texts


def png(**options: Any) -> bytes:
    chunks = saved(picture(), "PNG", exif=exif(), pnginfo=_texts(), dpi=(300, 300), icc_profile=b"colours", **options)
    return chunks[:-12] + png_chunk(b"tEXt", b"Late\0" + MARK) + chunks[-12:] + _FILM


def apng() -> bytes:
    more = [picture(shift=shift) for shift in (40, 80)]
    return png(save_all=True, append_images=more, duration=[100, 200, 300], loop=3)


def _gif_blocks(*blocks: bytes) -> bytes:
    return b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def gif() -> bytes:
    """Animated, with comments, a text that is drawn, an XMP and a loop with a tail."""
    frames = [picture(shift=shift, mode="P") for shift in (0, 40, 80)]
    whole = saved(
        frames[0], "GIF", save_all=True, append_images=frames[1:], duration=[100, 200, 300], loop=3, comment=MARK
    )
    told = (
        b"!\xff"
        + _gif_blocks(b"XMP DataXMP", _XMP)
        + b"!\x01"
        + _gif_blocks(bytes(12), MARK)
        + b"!\xff"
        + _gif_blocks(b"NETSCAPE2.0", b"\x02\0\x01\0\0")
    )
    loop = whole.index(b"NETSCAPE2.0") + 15
    whole = whole[:loop] + b"\x0d" + MARK + whole[loop:]
    return whole[:-1] + told + b";" + _FILM


def webp_chunk(type_: bytes, payload: bytes) -> bytes:
    return type_ + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def webp(**options: Any) -> bytes:
    whole = saved(picture(), "WEBP", exif=exif(), xmp=_XMP, icc_profile=b"colours", **options)
    return riff(whole[12:] + webp_chunk(b"noTE", MARK)) + _FILM


def animated_webp() -> bytes:
    """With a chunk that nobody knows in its first frame, too."""
    more = [picture(shift=shift) for shift in (40, 80)]
    whole = webp(save_all=True, append_images=more, duration=[100, 200, 300], loop=3, lossless=True)
    at = whole.index(b"ANMF")
    (length,) = struct.unpack_from("<I", whole, at + 4)
    frame = webp_chunk(b"ANMF", whole[at + 8 : at + 8 + length] + webp_chunk(b"noTE", MARK))
    (riff_length,) = struct.unpack_from("<I", whole, 4)
    return riff(whole[12:at] + frame + whole[at + 8 + length : 8 + riff_length]) + _FILM


TELLING: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "JPEG": ("JPEG", jpeg),
    "progressive JPEG": ("JPEG", lambda: jpeg(progressive=True)),
    "JPEG with everything": ("JPEG", jpeg_with_everything),
    "MPO": ("JPEG", stereo),
    "PNG": ("PNG", png),
    "interlaced APNG": ("PNG", apng),
    "GIF": ("GIF", gif),
    "lossy WebP": ("WEBP", webp),
    "lossless WebP": ("WEBP", lambda: webp(lossless=True)),
    "animated WebP": ("WEBP", animated_webp),
}

PLAIN: Final[dict[str, tuple[str, Callable[[], bytes]]]] = {
    "JPEG": ("JPEG", lambda: saved(picture(), "JPEG", icc_profile=b"colours" * 10)),
    "progressive JPEG": ("JPEG", lambda: saved(picture(), "JPEG", progressive=True)),
    "grey JPEG": ("JPEG", lambda: saved(picture(mode="L"), "JPEG")),
    "CMYK JPEG": ("JPEG", lambda: saved(picture(mode="CMYK"), "JPEG")),
    "PNG": ("PNG", lambda: saved(picture(), "PNG", dpi=(300, 300), icc_profile=b"colours")),
    "palette PNG": ("PNG", lambda: saved(picture(mode="P"), "PNG", transparency=3)),
    "APNG": ("PNG", lambda: saved(picture(), "PNG", save_all=True, append_images=[picture(shift=9)], duration=50)),
    "GIF": ("GIF", lambda: saved(picture(mode="P"), "GIF")),
    "animated GIF": ("GIF", lambda: saved(picture(), "GIF", save_all=True, append_images=[picture(shift=9)], loop=0)),
    "lossy WebP": ("WEBP", lambda: saved(picture(), "WEBP")),
    "lossless WebP": ("WEBP", lambda: saved(picture(), "WEBP", lossless=True)),
    "transparent WebP": ("WEBP", lambda: saved(picture(mode="RGBA"), "WEBP", icc_profile=b"colours")),
    "animated WebP": ("WEBP", lambda: saved(picture(), "WEBP", save_all=True, append_images=[picture(shift=9)])),
}
