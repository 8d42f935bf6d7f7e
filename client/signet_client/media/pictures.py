"""Prepares a file for being sent: what it is, the pieces that leave, and for pictures how large they are shown, and a
preview.

What a file is, its content says, never its extension. Pictures leave without what they tell beside themselves
(metadata.py), or not at all; whoever wants the very bytes to arrive says so, and it travels as a file.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from signet_client.errors import SignetError
from signet_client.media.kinds import HEAD_BYTES, UNKNOWN, Kind, is_named_as_picture, kind_of, other_picture, type_of
from signet_client.media.metadata import DamagedPicture, Format, Pieces, format_of, strip
from signet_client.media.names import safe_name
from signet_client.media.previews import BadPicture, look_at
from signet_client.media.sealing import pieces_of

__all__ = ["BadFile", "BadPicture", "Prepared", "examine", "safe_name"]

PICTURE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A picture is in memory while it is sent: what was examined is what leaves, whatever becomes of the file."""

_TYPES: Final[dict[Format, str]] = {"JPEG": "image/jpeg", "PNG": "image/png", "GIF": "image/gif", "WEBP": "image/webp"}


class BadFile(SignetError):
    """There is no file to be read there; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    path: Path
    name: str
    """As it is told to those who get it: `safe_name` of its own."""
    kind: Kind
    type: str
    """MIME."""
    size: int
    """Bytes that `pieces` gives. A file that is being written to may give others; `sealing.seal` finds that."""
    width: int | None = None
    """Pixels as shown; None but for pictures, as height and preview are."""
    height: int | None = None
    preview: bytes | None = None
    """A JPEG; see `previews.Look`."""
    stripped: Pieces | None = field(default=None, repr=False)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """What is to be sent, from the beginning each time. Raises BadFile where the file is gone meanwhile."""
        if self.stripped is not None:
            yield from self.stripped
            return
        with _opened(self.path) as file:
            yield from pieces_of(file)


def examine(path: Path, *, as_is: bool = False) -> Prepared:
    """Reads what is needed of the file. `as_is`: the very bytes, as a file, whatever it is.

    Raises BadFile where there is no file to be read, and BadPicture for a picture that is damaged, too large to be
    looked at, or of a kind whose metadata can't be taken out.
    """
    with _opened(path) as file:
        head = file.read(HEAD_BYTES)
        format = format_of(head)
        if format is not None and not as_is:
            file.seek(0)
            return _picture(path, format, file.read(PICTURE_BYTES_MAX + 1))
        size = os.fstat(file.fileno()).st_size
    other = other_picture(head)
    if other is not None and not as_is:
        raise BadPicture(
            f"what a {other} picture tells of its place and time can't be taken out",
            "save it as JPEG or PNG, or send it as a file, as it is",
        )
    name = safe_name(path.name)
    if format is None and size and not as_is and is_named_as_picture(name) and type_of(head, name) == UNKNOWN:
        raise BadPicture("its name says picture, and it is none that is known: what it tells can't be taken out")
    type_ = _TYPES[format] if format is not None else type_of(head, name)
    return Prepared(
        path=path,
        name=name,
        kind="file" if as_is else kind_of(type_),
        type=type_,
        size=size,
    )


def _picture(path: Path, format: Format, data: bytes) -> Prepared:
    if len(data) > PICTURE_BYTES_MAX:
        raise BadPicture(f"the picture has more than {PICTURE_BYTES_MAX // 1024**2} MiB")
    try:
        pieces = strip(memoryview(data), format)
    except DamagedPicture as error:
        raise BadPicture(f"the picture is damaged ({error})") from error
    look = look_at(pieces, format)
    return Prepared(
        path=path,
        name=safe_name(path.name),
        kind="image",
        type=_TYPES[format],
        size=sum(map(len, pieces)),
        width=look.width,
        height=look.height,
        preview=look.preview,
        stripped=pieces,
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Only where it is a regular file: a fifo would make its reader wait for ever."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadFile(f"{path} is {'a folder' if path.is_dir() else 'not a file'}, and only files can be sent")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    with file:
        yield file
