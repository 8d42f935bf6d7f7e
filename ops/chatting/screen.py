"""What the terminal shows: plain lines, on a terminal with colour and with one's own line replaced by what was sent."""

import shutil
import sys
from typing import Final

from ops.terminal import printable
from signet_client import Attachment, Message

TICKS: Final = {"sent": "✓", "delivered": "✓✓", "read": "✓✓ read"}
_COLOURS: Final = {"dim": "\x1b[2m", "blue": "\x1b[34m", "bold": "\x1b[1m", "red": "\x1b[31m"}
_CLEAR: Final = "\r\x1b[K"
_BAR: Final = 24
_UP_AND_CLEAR: Final = "\x1b[A\x1b[K"


class Screen:
    def __init__(self) -> None:
        self._colours = sys.stdout.isatty()
        self._has_bar = False
        """The last line of the terminal is a progress bar."""

    @property
    def is_terminal(self) -> bool:
        return self._colours

    def message(self, message: Message, *, who: str, where: str, tick: str | None) -> None:
        """One message; `tick` for one's own."""
        text = printable(_text(message))
        line = f"{self._paint(f'#{message.seq}', 'dim')} {self._paint(printable(who), 'bold')}: {text}"
        self.line(f"{self._paint(f'[{printable(where)}] ', 'dim') if where else ''}{line}{self.tick(tick)}")

    def tick(self, tick: str | None) -> str:
        if tick is None:
            return ""
        return "  " + self._paint(TICKS[tick], "blue" if tick == "read" else "dim")

    def notice(self, text: str) -> None:
        self.line(self._paint(f"· {printable(text)}", "dim"))

    def trouble(self, text: str) -> None:
        self.line(self._paint(f"! {printable(text)}", "red"))

    def replace_input(self) -> None:
        """Takes the line back that was just typed: it comes again with its number and tick."""
        if self._colours and sys.stdin.isatty():
            print(_UP_AND_CLEAR, end="", flush=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """A bar in the last line, which the next line takes the place of; where it is no terminal, only its end."""
        told = f"{printable(what)}  {in_bytes(done)} of {in_bytes(total)}"
        if self._colours:
            full = _BAR * done // max(total, 1)
            bar = "━" * full + self._paint("━" * (_BAR - full), "dim")
            room = max(shutil.get_terminal_size().columns - _BAR - 8, 10)
            print(f"{_CLEAR}{bar} {100 * done // max(total, 1):>3} %  {told[:room]}", end="", flush=True)
            self._has_bar = True
        if done >= total:
            self.notice(f"{printable(what)}  {in_bytes(total)}")

    def line(self, text: str) -> None:
        print(f"{_CLEAR if self._has_bar else ''}{text}", flush=True)
        self._has_bar = False

    def _paint(self, text: str, colour: str) -> str:
        return f"{_COLOURS[colour]}{text}\x1b[0m" if self._colours else text


def _text(message: Message) -> str:
    if message.retracted:
        return "(retracted)"
    if message.undecryptable == "no_key":
        return "(can't be decrypted: its key has not come, and was asked for)"
    if message.undecryptable is not None:
        return "(can't be decrypted, or is not to be believed)"
    if message.attachment is not None:
        return f"{_described(message.attachment)} {message.text or ''}".rstrip()
    return "(can't be shown)" if message.text is None else message.text


def _described(attachment: Attachment) -> str:
    parts = [attachment.kind, attachment.name, in_bytes(attachment.file.size)]
    if attachment.width and attachment.height:
        parts.append(f"{attachment.width}×{attachment.height}")
    return f"[{' '.join(parts)}]"


def in_bytes(count: int) -> str:
    """1.2 MB, say; a thousand of each make one of the next."""
    for unit, bytes_ in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)):
        if count >= bytes_:
            size = count / bytes_
            return f"{size:.1f} {unit}" if size < 10 else f"{size:,.0f} {unit}"
    return f"{count} bytes"
