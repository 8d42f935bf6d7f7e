"""What a file is, by its content and else by its name."""

import pytest

from signet_client.media.kinds import kind_of, other_picture, type_of


@pytest.mark.parametrize(
    ("head", "name", "type_", "kind"),
    [
        (b"%PDF-1.7", "holiday.jpg", "application/pdf", "file"),
        (b"%PDF-1.7", "film.mp4", "application/pdf", "file"),
        (b"PK\x03\x04", "photos.zip", "application/zip", "file"),
        (b"PK\x03\x04", "photos", "application/zip", "file"),
        (b"PK\x03\x04", "holiday.jpg", "application/zip", "file"),
        (b"PK\x03\x04", "letter.odt", "application/vnd.oasis.opendocument.text", "file"),
        (b"\x1f\x8b\x08", "a.tar.gz", "application/gzip", "file"),
        (b"7z\xbc\xaf\x27\x1c", "a", "application/x-7z-compressed", "file"),
        (b"Rar!\x1a\x07\x01", "a", "application/vnd.rar", "file"),
        (b"hello", "notes.txt", "text/plain", "file"),
        (b"hello", "notes", "application/octet-stream", "file"),
        (b"hello", "notes.tar.gz", "application/octet-stream", "file"),
        (b"hello", "holiday.JPG", "application/octet-stream", "file"),
        (b"<svg", "drawing.svg", "application/octet-stream", "file"),
        (b"", "holiday.png", "application/octet-stream", "file"),
        (b"\0\0\0\x18ftypmp42", "film.mp4", "video/mp4", "video"),
        (b"ID3", "song.mp3", "audio/mpeg", "audio"),
        (b"OggS", "Song.OGG", "audio/ogg", "audio"),
        (b"\x1aE\xdf\xa3", "film.mkv", "video/matroska", "video"),
    ],
)
def test_types_and_kinds(head: bytes, name: str, type_: str, kind: str) -> None:
    found = type_of(head, name)
    assert found == type_
    assert kind_of(found) == kind


@pytest.mark.parametrize(
    ("head", "format"),
    [
        (b"II*\0\x08\0\0\0", "TIFF"),
        (b"MM\0*\0\0\0\x08", "TIFF"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\0\0\0\x1cftypzzzz\0\0\0\0mp42heic", "HEIC"),
        (b"\0\0\0\x14ftypzzzz\0\0\0\0mp42heic", None),
        (b"II\xbc\x01\x08", "JPEG XR"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypcrx ", "CR3"),
        (b"\0\0\0\x18ftypmp42", None),
        (b"BM" + bytes(12) + b"\x28\0\0\0", "BMP"),
        (b"BM\0\0\0\0", None),
        (b"BMW is a maker of cars, among others", None),
        (b"\xff\x0a\0", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS", "Photoshop"),
        (b"\0\0\x01\0\x01\0", "ICO"),
        (b"\0\0\x01\xba", None),
        (b"", None),
    ],
)
def test_pictures_of_other_formats(head: bytes, format: str | None) -> None:
    assert other_picture(head) == format
