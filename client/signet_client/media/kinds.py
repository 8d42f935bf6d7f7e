"""What a file is, by its first bytes and, where they don't tell, by its name. Pictures are never believed by name."""

import struct
from mimetypes import MimeTypes
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["image", "video", "audio", "file"]

HEAD_BYTES: Final = 64
"""So many bytes are enough for all that is here."""
UNKNOWN: Final = "application/octet-stream"
_ZIP: Final = "application/zip"
_SIGNATURES: Final = {
    b"%PDF-": "application/pdf",
    b"PK\x03\x04": _ZIP,
    b"PK\x05\x06": _ZIP,
    b"\x1f\x8b\x08": "application/gzip",
    b"7z\xbc\xaf\x27\x1c": "application/x-7z-compressed",
    b"Rar!\x1a\x07": "application/vnd.rar",
}
_PICTURES: Final = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"IIRO": "ORF",
    b"IIRS": "ORF",
    b"IIU\0": "RW2",
    b"FUJIFILMCCD-RAW": "RAF",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"II\xbc": "JPEG XR",
    b"FOVb": "X3F",
    b"gimp xcf": "XCF",
    b"\0\0\x01\0": "ICO",
}
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"miaf", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    b"crx ": "CR3",
}
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_BY_NAME: Final = MimeTypes(filenames=())
"""Python's own table, and what it lacks in 3.11: what a system has besides differs from one to the next."""

for _extension, _type in {
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".epub": "application/epub+zip",
    ".mkv": "video/matroska",
    ".m4v": "video/mp4",
    ".ogv": "video/ogg",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
}.items():
    _BY_NAME.add_type(_type, _extension)


def other_picture(head: bytes) -> str | None:
    """The name of a picture's format, where it is none that can be stripped of what it tells (metadata.py)."""
    if head[4:8] == b"ftyp":
        # The brand itself, and those that it says it is compatible with.
        end = min(len(head), int.from_bytes(head[:4]))
        brands = (head[8:12], *(head[at : at + 4] for at in range(16, end, 4)))
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    if head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS:
        return "BMP"
    return next((name for begin, name in _PICTURES.items() if head.startswith(begin)), None)


def is_named_as_picture(name: str) -> bool:
    return (_BY_NAME.guess_type(name, strict=True)[0] or "").startswith("image/")


def type_of(head: bytes, name: str) -> str:
    """The MIME type of a file that is no picture."""
    by_name = _BY_NAME.guess_type(name, strict=True)
    named = by_name[0] if by_name[0] is not None and by_name[1] is None else UNKNOWN
    begun = next((type_ for begin, type_ in _SIGNATURES.items() if head.startswith(begin)), None)
    # A document of a word processor is a zip, too, and only its name tells it.
    is_document = begun == _ZIP and named != UNKNOWN and named.startswith("application/")
    found = named if begun is None or is_document else begun
    return UNKNOWN if found.startswith("image/") else found


def kind_of(type_: str) -> Kind:
    """How a file that is no picture is shown."""
    if type_.startswith("video/"):
        return "video"
    return "audio" if type_.startswith("audio/") else "file"
