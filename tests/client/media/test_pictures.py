"""What a file is, how it is shown, and which files are refused, with what to do."""

import io
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pwd import getpwnam
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from signet_client.media import pictures, previews
from signet_client.media.metadata import Format
from signet_client.media.pictures import BadFile, BadPicture, Prepared, examine
from tests.client.media.samples import (
    MARK,
    PLAIN,
    TELLING,
    apng,
    exif,
    gif,
    jpeg,
    picture,
    png_chunk,
    riff,
    saved,
    webp_chunk,
)

TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Its name says nothing."""
    return tmp_path / "holiday"


def examined(path: Path, data: bytes, **options: Any) -> Prepared:
    path.write_bytes(data)
    return examine(path, **options)


def preview_of(prepared: Prepared) -> Image.Image:
    assert prepared.preview is not None
    assert len(prepared.preview) <= previews.PREVIEW_BYTES_MAX
    preview = Image.open(io.BytesIO(prepared.preview))
    preview.load()
    assert (preview.format, preview.mode) == ("JPEG", "RGB")
    assert not preview.getexif()
    assert preview.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    return preview


def sent(prepared: Prepared) -> bytes:
    data = b"".join(prepared.pieces())
    assert len(data) == prepared.size
    return data


@pytest.mark.parametrize("name", [*TELLING])
def test_a_picture_leaves_without_what_it_tells(path: Path, name: str) -> None:
    format, make = TELLING[name]
    prepared = examined(path, make())
    assert (prepared.kind, prepared.type) == ("image", TYPES[format])
    assert (prepared.width, prepared.height) == ((48, 36) if format == "GIF" else (36, 48))
    assert MARK not in sent(prepared)
    assert preview_of(prepared).size == (prepared.width, prepared.height)


@pytest.mark.parametrize("name", [*PLAIN])
def test_what_was_examined_is_what_leaves(path: Path, name: str) -> None:
    format, make = PLAIN[name]
    prepared = examined(path, make())
    path.write_bytes(jpeg())
    assert prepared.type == TYPES[format]
    assert sent(prepared) == make()
    assert sent(prepared) == make()


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_preview_is_turned_as_the_picture_is_shown(path: Path, turn: int) -> None:
    image = Image.new("RGB", (800, 400), "white")
    image.paste("red", (0, 0, 400, 200))
    prepared = examined(path, saved(image, "JPEG", exif=exif(turn)))
    preview = preview_of(prepared)
    lying = turn <= 4
    assert (prepared.width, prepared.height) == ((800, 400) if lying else (400, 800))
    assert preview.size == ((320, 160) if lying else (160, 320))
    # Where the corner of the first row and column is shown, by the table of EXIF.
    right, bottom = turn in (2, 3, 6, 7), turn in (3, 4, 7, 8)
    corner = (preview.width - 10 if right else 10, preview.height - 10 if bottom else 10)
    assert is_near(preview, corner, (255, 0, 0))


def is_near(image: Image.Image, at: tuple[int, int], colour: tuple[int, int, int]) -> bool:
    found = image.getpixel(at)
    assert isinstance(found, tuple)
    return all(abs(one - other) < 12 for one, other in zip(found, colour, strict=True))


@pytest.mark.parametrize(
    ("image", "format", "options", "colour"),
    [
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG", {}, (255, 255, 255)),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "WEBP", {}, (255, 255, 255)),
        (Image.new("LA", (9, 9), (0, 0)), "PNG", {}, (255, 255, 255)),
        (Image.new("RGB", (9, 9), "red"), "PNG", {"transparency": (255, 0, 0)}, (255, 255, 255)),
        (Image.new("P", (9, 9), 0), "PNG", {"transparency": 0}, (255, 255, 255)),
        (Image.new("P", (9, 9), 3), "GIF", {"transparency": 3}, (255, 255, 255)),
        (Image.new("1", (9, 9), 1), "PNG", {}, (255, 255, 255)),
        (Image.new("I;16", (9, 9), 0x8080), "PNG", {}, (128, 128, 128)),
        (Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", {}, (254, 0, 0)),
        (Image.new("L", (9, 9), 90), "JPEG", {}, (90, 90, 90)),
    ],
)
def test_previews_of_each_mode(
    path: Path, image: Image.Image, format: str, options: dict[str, Any], colour: tuple[int, int, int]
) -> None:
    assert is_near(preview_of(examined(path, saved(image, format, **options))), (4, 4), colour)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (320, 320), (321, 320)])
def test_previews_of_odd_shapes(path: Path, size: tuple[int, int]) -> None:
    prepared = examined(path, saved(Image.new("RGB", size), "PNG"))
    assert (prepared.width, prepared.height) == size
    assert max(preview_of(prepared).size) <= 320


def test_the_preview_of_noise_is_small_enough(path: Path) -> None:
    noise = Image.frombytes("RGB", (320, 320), os.urandom(320 * 320 * 3))
    preview_of(examined(path, saved(noise, "PNG")))


@pytest.mark.parametrize("data", [apng(), gif()])
def test_the_preview_of_an_animation_is_its_first_frame(path: Path, data: bytes) -> None:
    first = Image.open(io.BytesIO(data))
    still = saved(first, "PNG", exif=first.getexif())
    assert examined(path, data).preview == examined(path, still).preview


@pytest.mark.parametrize(
    ("data", "name", "type_", "kind"),
    [
        (b"%PDF-1.7", "holiday.jpg", "application/pdf", "file"),
        (b"", "holiday.jpg", "application/octet-stream", "file"),
        (b"", "empty", "application/octet-stream", "file"),
        (b"\0\0\0\x18ftypmp42", "film.mp4", "video/mp4", "video"),
        (b"ID3", "song.mp3", "audio/mpeg", "audio"),
        (b"words", "notes.txt", "text/plain", "file"),
    ],
)
def test_what_is_no_picture_leaves_as_it_is(tmp_path: Path, data: bytes, name: str, type_: str, kind: str) -> None:
    prepared = examined(tmp_path / name, data)
    assert (prepared.type, prepared.kind, prepared.name) == (type_, kind, name)
    assert (prepared.width, prepared.height, prepared.preview) == (None, None, None)
    assert sent(prepared) == data


@pytest.mark.parametrize("data", [b"not a picture", b"\xff\xd8", b"\0" + jpeg(), b"\xef\xbb\xbf" + jpeg()])
def test_what_only_its_name_calls_a_picture_may_tell_anything(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadPicture, match="its name says picture"):
        examined(tmp_path / "holiday.jpg", data)
    assert sent(examined(tmp_path / "holiday.jpg", data, as_is=True)) == data


def test_a_picture_of_countless_parts_is_refused_at_once(path: Path) -> None:
    """Each would take memory."""
    chunks = webp_chunk(b"VP8X", bytes(10)) + webp_chunk(b"ALPH", b"") * 300_000
    with pytest.raises(BadPicture, match="too many parts"):
        examined(path, riff(chunks))


@pytest.mark.parametrize("data", [jpeg(), b"II*\0\x08\0\0\0", jpeg()[:200], b""])
def test_as_it_is_everything_leaves(path: Path, data: bytes) -> None:
    prepared = examined(path, data, as_is=True)
    assert (prepared.kind, prepared.width, prepared.height, prepared.preview) == ("file", None, None, None)
    assert sent(prepared) == data


def test_a_picture_with_another_extension_is_one(tmp_path: Path) -> None:
    prepared = examined(tmp_path / "holiday.txt", jpeg())
    assert (prepared.kind, prepared.type, prepared.name) == ("image", "image/jpeg", "holiday.txt")
    assert examined(tmp_path / "holiday.txt", jpeg(), as_is=True).type == "image/jpeg"


@pytest.mark.parametrize("format", ["TIFF", "BMP", "AVIF", "ICO"])
def test_a_picture_that_can_not_be_stripped_is_refused(path: Path, format: str) -> None:
    with pytest.raises(BadPicture, match=f"what a {format} picture tells of its place and time can't .* as it is"):
        examined(path, saved(picture(), format))


def _png(width: int, height: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def _bomb(side: int) -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + -(-side // 8))
    return _png(side, side, b"".join(packer.compress(row) for _ in range(side)) + packer.flush())


def _webp_of(canvas: int) -> bytes:
    return riff(webp_chunk(b"VP8X", bytes(4) + (canvas - 1).to_bytes(3, "little") * 2) + webp_chunk(b"VP8 ", bytes(10)))


TOO_LARGE = {
    "PNG": _bomb(30_000),
    "WebP": _webp_of(16_000),
    "lossless WebP": riff(webp_chunk(b"VP8L", b"\x2f" + (16_383 | 16_383 << 14).to_bytes(4, "little") + bytes(9))),
    "lossy WebP": riff(webp_chunk(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + b"\xff\x3f\xff\x3f" + bytes(9))),
    "GIF": b"GIF89a" + struct.pack("<HH", 20_000, 20_000) + saved(picture(mode="P"), "GIF")[10:],
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_bomb_is_refused_before_it_goes_off(path: Path, name: str) -> None:
    assert len(TOO_LARGE[name]) < 200_000
    with pytest.raises(BadPicture, match=r"at most (50|25) megapixels .* send it as a file, as it is"):
        examined(path, TOO_LARGE[name])


def test_a_jpeg_may_be_larger_where_it_is_one_scan(path: Path) -> None:
    image = Image.new("L", (10_000, 6_000))
    assert examined(path, saved(image, "JPEG")).width == 10_000
    with pytest.raises(BadPicture, match="at most 50 megapixels"):
        examined(path, saved(image, "JPEG", progressive=True))


def test_a_jpeg_may_not_be_larger_than_that(path: Path) -> None:
    data = bytearray(saved(Image.new("L", (16, 16)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
    with pytest.raises(BadPicture, match=r"20000 × 20000 pixels, and at most 200 megapixels"):
        examined(path, bytes(data))


def test_pillows_own_limit_is_left_alone(path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    examined(path, saved(Image.new("L", (10_000, 10_000)), "JPEG"))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_picture_of_too_many_bytes_is_refused(path: Path) -> None:
    path.write_bytes(jpeg())
    os.truncate(path, pictures.PICTURE_BYTES_MAX + 1)
    with pytest.raises(BadPicture, match="more than 64 MiB; send it as a file, as it is"):
        examine(path)
    assert examine(path, as_is=True).size == pictures.PICTURE_BYTES_MAX + 1


@pytest.mark.parametrize("name", PLAIN)
def test_a_picture_that_is_cut_is_refused(path: Path, name: str) -> None:
    data = PLAIN[name][1]()
    for length in (len(data) // 2, len(data) - 1):
        with pytest.raises(BadPicture, match=r"damaged .* send it as a file, as it is"):
            examined(path, data[:length])


def test_a_picture_whose_pixels_are_damaged_is_refused(path: Path) -> None:
    empty_webp = riff(webp_chunk(b"VP8 ", b"short"))
    for data in (_png(8, 8, b"no zlib"), _png(8, 8, zlib.compress(b"short")), _png(0, 8, b""), empty_webp):
        with pytest.raises(BadPicture, match=r"the picture is damaged"):
            examined(path, data)


@pytest.mark.parametrize("name", [name for name in TELLING if name not in ("MPO", "GIF")])
def test_a_picture_that_was_not_stripped_after_all_is_refused(name: str) -> None:
    format, make = TELLING[name]
    with pytest.raises(BadPicture, match="could not be taken out; send it as a file"):
        previews.look_at([make()], cast(Format, format))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.sampled_from(sorted(TELLING)), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=9))
def test_damage_is_refused_or_does_no_harm(tmp_path: Path, name: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLES[name])
    for at, value in flips:
        data[at % len(data)] = value
    try:
        prepared = examined(tmp_path / "any", bytes(data))
    except BadPicture:
        return
    if prepared.kind == "image":
        preview_of(prepared)


SAMPLES = {name: make() for name, (_, make) in TELLING.items()}


def test_only_files_can_be_sent(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="is a folder"):
        examine(tmp_path)
    with pytest.raises(BadFile, match="nothing can't be read: No such file"):
        examine(tmp_path / "nothing")
    with pytest.raises(BadFile, match="null byte"):
        examine(tmp_path / "a\0b")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadFile, match="pipe is not a file"):
        examine(tmp_path / "pipe", as_is=True)


@contextmanager
def not_as_root() -> Iterator[None]:
    """Root may read everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(getpwnam("nobody").pw_uid)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_that_may_not_be_read() -> None:
    # Only root may enter the folders that pytest makes for it.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "locked")
        path.touch(mode=0)
        with not_as_root(), pytest.raises(BadFile, match="Permission denied"):
            examine(path)


def test_a_file_that_is_gone_meanwhile(path: Path) -> None:
    prepared = examined(path, b"words")
    path.unlink()
    with pytest.raises(BadFile, match="No such file"):
        sent(prepared)


def test_the_name_is_made_safe(tmp_path: Path) -> None:
    assert examined(tmp_path / ".con:\u202egpj.exe", b"").name == "con_gpj.exe"


_GROWTH = """
import sys
from pathlib import Path
from signet_client.media.metadata import Format
from signet_client.media.pictures import examine
def peak():
    # As the kernel counts it for this program alone; `resource` begins with what its parent had.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
examine(Path(sys.argv[1]))
before = peak()
prepared = examine(Path(sys.argv[2]))
print(peak() - before - prepared.size)
"""


def growth(small: Path, large: Path) -> int:
    """Bytes that a process takes at most to look at a picture, besides those of the file itself."""
    command = [sys.executable, "-c", _GROWTH, str(small), str(large)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel does not tell")
def test_a_large_photo_takes_little_memory(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(jpeg())
    Image.effect_noise((10_000, 6_000), 60).save(large, "JPEG", quality=80)
    assert growth(small, large) < 30_000_000
