"""What is kept of a file."""

from typing import Final, TypeAlias

from signet_client.errors import SignetError

Pieces: TypeAlias = list[bytes | memoryview]


PARTS_MAX: Final = 200_000
"""Of a file, each of which takes some hundred bytes of memory."""


class DamagedPicture(SignetError):
    """The file begins like a picture and is not built like one: it was cut off or changed."""


class Kept:
    """Spans of the data and bytes between them, in order. Spans that follow each other become one."""

    def __init__(self, data: memoryview) -> None:
        self.length = 0
        """Bytes in all."""
        self._data = data
        self._parts: list[tuple[int, int] | bytes] = []

    def span(self, start: int, end: int) -> None:
        """Keeps data[start:end]. Raises DamagedPicture where it ends before that."""
        if end > len(self._data):
            raise DamagedPicture("it is cut off")
        self.length += end - start
        last = self._parts[-1] if self._parts else b""
        if isinstance(last, tuple) and last[1] == start:
            self._parts[-1] = (last[0], end)
        else:
            self._add((start, end))

    def put(self, inserted: bytes) -> None:
        self.length += len(inserted)
        self._add(inserted)

    def _add(self, part: tuple[int, int] | bytes) -> None:
        if len(self._parts) == PARTS_MAX:
            raise DamagedPicture("it consists of too many parts")
        self._parts.append(part)

    def pieces(self) -> Pieces:
        return [part if isinstance(part, bytes) else self._data[slice(*part)] for part in self._parts]
