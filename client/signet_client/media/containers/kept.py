"""What is kept of a file."""

from typing import TypeAlias

from signet_client.errors import SignetError

Pieces: TypeAlias = list[bytes | memoryview]


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
            self._parts.append((start, end))

    def put(self, inserted: bytes) -> None:
        self.length += len(inserted)
        self._parts.append(inserted)

    def pieces(self) -> Pieces:
        return [part if isinstance(part, bytes) else self._data[slice(*part)] for part in self._parts]
