"""What a picture tells beside the picture is taken out, and the picture stays what it was."""

import io
import random
import struct
import zlib
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageSequence

from signet_client.media.metadata import DamagedPicture, Format, format_of, strip
from tests.client.media.samples import (
    MARK,
    PLAIN,
    TELLING,
    TURN,
    exif,
    jpeg,
    jpeg_segment,
    picture,
    png_chunk,
    riff,
    saved,
    webp_chunk,
)

TELLING_BYTES = {name: (cast(Format, format), make()) for name, (format, make) in TELLING.items()}
PLAIN_BYTES = {name: (cast(Format, format), make()) for name, (format, make) in PLAIN.items()}


def stripped(data: bytes, format: Format) -> bytes:
    return b"".join(strip(memoryview(data), format))


def frames(data: bytes) -> list[tuple[bytes, object]]:
    """Pixels and duration of each frame; of an MPO the first picture alone."""
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "GIF", "WEBP"]) as image:
        return [
            (frame.convert("RGBA").tobytes(), frame.info.get("duration")) for frame in ImageSequence.Iterator(image)
        ]


@pytest.mark.parametrize("name", TELLING_BYTES)
def test_nothing_is_told_and_the_pixels_are_the_same(name: str) -> None:
    format, data = TELLING_BYTES[name]
    assert MARK in data
    rest = stripped(data, format)
    assert MARK not in rest
    assert frames(rest) == (frames(data) if name != "MPO" else frames(data)[:1])
    with Image.open(io.BytesIO(rest)) as image:
        image.load()
        assert image.format == format
        assert set(image.getexif()) <= {ExifTags.Base.Orientation}
        assert not image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert image.info.keys().isdisjoint({"xmp", "XML:com.adobe.xmp", "comment", "mp", "photoshop"})
        assert getattr(image, "text", {}) == {}
        assert getattr(image, "n_frames", 1) == len(frames(rest))


@pytest.mark.parametrize("name", TELLING_BYTES)
def test_how_it_is_turned_and_its_colours_stay(name: str) -> None:
    format, data = TELLING_BYTES[name]
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(stripped(data, format))) as after:
        assert after.getexif().get(ExifTags.Base.Orientation) == (TURN if format != "GIF" else None)
        for kept in ("icc_profile", "dpi", "loop", "adobe_transform"):
            assert after.info.get(kept) == before.info.get(kept)


@pytest.mark.parametrize("name", TELLING_BYTES)
def test_stripped_again_it_stays_as_it_is(name: str) -> None:
    format, data = TELLING_BYTES[name]
    once = stripped(data, format)
    assert stripped(once, format) == once


@pytest.mark.parametrize("name", PLAIN_BYTES)
def test_a_picture_that_tells_nothing_comes_out_as_it_is(name: str) -> None:
    format, data = PLAIN_BYTES[name]
    assert format_of(data[:12]) == format
    assert stripped(data, format) == data


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(10))
@pytest.mark.parametrize("endian", ["<", ">"])
def test_each_way_to_turn_it(format: Format, turn: int, endian: str) -> None:
    tags = exif(turn)
    tags.endian = endian
    with Image.open(io.BytesIO(stripped(saved(picture(), format, exif=tags), format))) as image:
        image.load()
        assert dict(image.getexif()) == ({ExifTags.Base.Orientation: turn} if 2 <= turn <= 8 else {})


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"II*\0",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + MARK,
        b"XX*\0\x08\0\0\0",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x04\0\0\0\x01\0\x06\0\0",
    ],
)
def test_an_exif_that_can_not_be_read_goes(broken: bytes) -> None:
    whole = saved(picture(), "JPEG")
    told = whole[:2] + jpeg_segment(0xE1, b"Exif\0\0" + broken) + whole[2:]
    assert stripped(told, "JPEG") == whole


def test_of_two_exifs_the_first_one_counts() -> None:
    whole = saved(picture(), "JPEG")
    two = b"".join(jpeg_segment(0xE1, exif(turn).tobytes()) for turn in (3, 8))
    with Image.open(io.BytesIO(stripped(whole[:2] + two + whole[2:], "JPEG"))) as image:
        assert dict(image.getexif()) == {ExifTags.Base.Orientation: 3}


def test_the_film_of_a_motion_photo_goes() -> None:
    still = saved(picture(), "JPEG")
    assert stripped(still + b"\0\0\0\x18ftypmp42" + MARK, "JPEG") == still


def test_large_pictures_are_not_copied() -> None:
    data = jpeg() + bytes(5_000_000)
    pieces = strip(memoryview(data), "JPEG")
    assert all(piece.obj is data for piece in pieces if isinstance(piece, memoryview))
    assert sum(len(piece) for piece in pieces if isinstance(piece, bytes)) < 100
    assert len(pieces) < 10


def _chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


_HEADER = (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
_DATA = (b"IDAT", zlib.compress(b"\0\0"))
_END = (b"IEND", b"")
_VP8X = webp_chunk(b"VP8X", bytes(10))

BROKEN: dict[str, tuple[Format, bytes]] = {
    "nothing": ("JPEG", b""),
    "another format": ("PNG", saved(picture(), "JPEG")),
    "JPEG without a scan": ("JPEG", b"\xff\xd8\xff\xe0\0\x02\xff\xd9"),
    "JPEG that begins twice": ("JPEG", b"\xff\xd8\xff\xd8\xff\xd9"),
    "JPEG with rubbish": ("JPEG", b"\xff\xd8\xff\xe0\0\x02rubbish"),
    "JPEG with a segment of no length": ("JPEG", b"\xff\xd8\xff\xe0\0\0\xff\xd9"),
    "JPEG that ends in a segment": ("JPEG", b"\xff\xd8\xff\xe0\x10\0abc"),
    "JPEG that ends in a scan": ("JPEG", saved(picture(), "JPEG")[:-2]),
    "PNG without a header": ("PNG", _chunks(_DATA, _END)),
    "PNG with two headers": ("PNG", _chunks(_HEADER, _HEADER, _DATA, _END)),
    "PNG without data": ("PNG", _chunks(_HEADER, _END)),
    "PNG without an end": ("PNG", _chunks(_HEADER, _DATA)),
    "PNG with a part that nobody knows": ("PNG", _chunks(_HEADER, (b"CgBI", b"1234"), _DATA, _END)),
    "PNG with a chunk that is none": ("PNG", _chunks(_HEADER, (b"12:4", b""), _DATA, _END)),
    "PNG with something in its end": ("PNG", _chunks(_HEADER, _DATA, (b"IEND", MARK))),
    "GIF without a picture": ("GIF", b"GIF89a\x01\0\x01\0\0\0\0;"),
    "GIF without an end": ("GIF", saved(picture(mode="P"), "GIF")[:-1]),
    "GIF with rubbish": ("GIF", b"GIF89a\x01\0\x01\0\0\0\0rubbish;"),
    "GIF that ends in its palette": ("GIF", b"GIF89a\x01\0\x01\0\x87\0\0abc"),
    "WebP that is cut": ("WEBP", saved(picture(), "WEBP")[:-4]),
    "WebP without a chunk": ("WEBP", riff(b"")),
    "WebP with an unknown chunk only": ("WEBP", riff(webp_chunk(b"noTE", MARK))),
    "WebP without a picture": ("WEBP", riff(_VP8X)),
    "WebP with a long head": ("WEBP", riff(webp_chunk(b"VP8X", bytes(12)) + webp_chunk(b"VP8 ", bytes(10)))),
    "WebP with a chunk over its end": ("WEBP", riff(_VP8X + b"VP8 \xff\0\0\0abcd")),
    "WebP with a frame over its end": ("WEBP", riff(_VP8X + webp_chunk(b"ANMF", bytes(16) + b"VP8 \xff\0\0\0abcd"))),
    "WebP with a short frame": ("WEBP", riff(_VP8X + webp_chunk(b"ANMF", bytes(4)))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_structure_is_refused(name: str) -> None:
    format, data = BROKEN[name]
    with pytest.raises(DamagedPicture):
        strip(memoryview(data), format)


def test_what_is_longer_than_it_can_be_goes() -> None:
    hiding = _chunks(_HEADER, (b"gAMA", bytes(4) + MARK), (b"pHYs", bytes(9)), _DATA, _END)
    assert stripped(hiding, "PNG") == _chunks(_HEADER, (b"pHYs", bytes(9)), _DATA, _END)


def test_what_hangs_on_a_simple_webp_goes() -> None:
    whole = saved(picture(), "WEBP")
    assert stripped(riff(whole[12:] + webp_chunk(b"EXIF", exif().tobytes())), "WEBP") == whole


@given(name=st.sampled_from(sorted({**TELLING_BYTES})), seed=st.integers(0, 2**32), is_cut=st.booleans())
def test_damage_is_found_or_does_no_harm(name: str, seed: int, is_cut: bool) -> None:
    """Whatever is flipped or cut: it ends, and nothing but DamagedPicture is raised."""
    format, data = TELLING_BYTES[name]
    chance = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(chance.choice((0, 1, 2, 5, 20))):
        damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
    if is_cut:
        del damaged[chance.randrange(len(damaged)) :]
    try:
        rest = stripped(bytes(damaged), format)
    except DamagedPicture:
        return
    assert stripped(rest, format) == rest
    assert len(rest) <= len(damaged) + 12


@given(format=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP"]), tail=st.binary(max_size=200))
def test_rubbish_behind_a_beginning(format: Format, tail: bytes) -> None:
    beginnings = {
        "JPEG": b"\xff\xd8\xff",
        "PNG": b"\x89PNG\r\n\x1a\n",
        "GIF": b"GIF89a",
        "WEBP": b"RIFF" + struct.pack("<I", 4 + len(tail)) + b"WEBP",
    }
    try:
        strip(memoryview(beginnings[format] + tail), format)
    except DamagedPicture:
        return
