"""The journal of a play: what each client stored, in the order of storing, and which ticks it saw.

One file, `journal.jsonl`, one JSON object a line: {"nick", "seq", "from", "text"} for a message that the client of
`nick` stored, {"nick", "sent", "delivered", "read"} for the last ticks that it saw of its own message.
"""

import io
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from ops.errors import OpsError

FILE_NAME: Final = "journal.jsonl"
_ENCODE: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode


class Journal:
    """Written while the play runs. Without a folder it writes nothing."""

    def __init__(self, folder: Path | None) -> None:
        """Raises OpsError."""
        self._file: io.BufferedWriter | None = None
        if folder is not None:
            self._file = _open(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def stored(self, nick: str, *, seq: int, author: str, text: str | None) -> None:
        if self._file is not None:
            self._file.write(_ENCODE({"nick": nick, "seq": seq, "from": author, "text": text}) + b"\n")

    def ticks(self, nick: str, *, sent: int, delivered: bool, read: bool) -> None:
        if self._file is not None:
            self._file.write(_ENCODE({"nick": nick, "sent": sent, "delivered": delivered, "read": read}) + b"\n")


def _open(folder: Path) -> io.BufferedWriter:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in folder.glob("*.jsonl") if path.name != FILE_NAME]
        if others:
            # Whoever checks a journal reads every *.jsonl of its folder.
            raise OpsError(f"{folder} holds {others[0]}, which no play wrote; name an empty folder by --journal")
        return (folder / FILE_NAME).open("wb")
    except OSError as error:
        raise OpsError(f"no journal can be written to {folder}: {error}") from error
