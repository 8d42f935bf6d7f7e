"""Files in a chat: sending one, saving one, and looking at a picture right in the terminal."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from ops.chatting.drawing import draw
from ops.chatting.screen import Screen
from ops.errors import OpsError
from signet_client import Attachment, Client, Message, Sent, SignetError, Uploading
from signet_client.media.names import safe_name

HELP: Final = """\
/file PATH [TEXT]     send a file; pictures without what they tell of place and time
/as-is PATH [TEXT]    send a file, byte for byte
/save N [PATH]        save the file of message #N (default: your downloads, else where you are)
/look N               show the picture of message #N"""


SEQ_DIGITS: Final = 16
"""A number with so many is no seq."""


class FileVerbs:
    def __init__(self, client: Client, screen: Screen, is_open: Callable[[], str]) -> None:
        """`is_open`: the open conversation; empty: none is."""
        self._client = client
        self._screen = screen
        self._is_open = is_open
        self._downloads: set[asyncio.Task[None]] = set()

    def verbs(self) -> dict[str, Callable[[list[str]], Awaitable[None]]]:
        return {"/file": self._file, "/as-is": self._as_is, "/save": self._save, "/look": self._look}

    async def close(self) -> None:
        """Gives up what is being saved."""
        for task in self._downloads:
            task.cancel()
        await asyncio.gather(*self._downloads, return_exceptions=True)

    def show_upload(self, event: Uploading) -> None:
        if event.trouble:
            self._screen.notice(f"↑ {event.name}: {event.trouble}; tried again")
        else:
            self._screen.progress(f"↑ {event.name}", event.done, event.total)

    async def _file(self, words: list[str]) -> None:
        await self._send(words, as_is=False)

    async def _as_is(self, words: list[str]) -> None:
        await self._send(words, as_is=True)

    async def _send(self, words: list[str], *, as_is: bool) -> None:
        if not words:
            raise OpsError("/file PATH [TEXT]; quote a path with spaces")
        path = _path(words[0])
        self._screen.notice(f"preparing {path.name} …")
        answer = await self._client.post_file(self._conversation(), path, " ".join(words[1:]), as_is=as_is)
        # The upload is told by events, and a refusal, too.
        answer.add_done_callback(_look_at)

    async def _save(self, words: list[str]) -> None:
        message = self._message(words)
        target = _target(words[1] if len(words) > 1 else None, message.attachment)
        # Beside what is typed meanwhile.
        task = asyncio.create_task(self._download(message, target))
        self._downloads.add(task)
        task.add_done_callback(self._downloads.discard)

    async def _download(self, message: Message, target: Path) -> None:
        def moved(done: int, total: int) -> None:
            self._screen.progress(f"↓ {target.name}", done, total)

        try:
            await self._client.download(message, target, moved=moved)
        except SignetError as error:
            self._screen.trouble(f"{target.name} is not saved: {error}")
        else:
            self._screen.notice(f"saved {target}")

    async def _look(self, words: list[str]) -> None:
        preview = await self._client.preview(self._message(words))
        if preview is None:
            raise OpsError(f"there is no preview of it; /save {words[0]} saves it")
        columns = shutil.get_terminal_size().columns
        for line in await asyncio.to_thread(draw, preview, columns=columns, colours=self._screen.is_terminal):
            self._screen.line(line)

    def _message(self, words: list[str]) -> Message:
        number = words[0].lstrip("#") if words else ""
        if not (number.isascii() and number.isdecimal() and len(number) < SEQ_DIGITS):
            raise OpsError("which one? its message's number, as /save 12")
        for item in self._client.history(self._conversation(), after=int(number) - 1, limit=1):
            if isinstance(item, Message) and item.seq == int(number) and item.attachment is not None:
                return item
        raise OpsError(f"message #{number} shows no file")

    def _conversation(self) -> str:
        conversation = self._is_open()
        if not conversation:
            raise OpsError("to whom? /to NAME opens a conversation")
        return conversation


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~ of somebody whom nobody knows
        raise OpsError(f"{text}: {error}") from error


def _target(given: str | None, attachment: Attachment | None) -> Path:
    """Where it is to be saved; nothing that is there is written over, unless it was named."""
    downloads = Path.home() / "Downloads"
    path = _path(given) if given is not None else downloads if downloads.is_dir() else Path.cwd()
    if not path.is_dir():
        return path
    name = Path(safe_name(attachment.name if attachment is not None else ""))
    target, number = path / name, 0
    while target.exists():
        number += 1
        target = path / f"{name.stem} ({number}){name.suffix}"
    return target


def _look_at(answer: asyncio.Future[Sent]) -> None:
    if not answer.cancelled():
        answer.exception()
