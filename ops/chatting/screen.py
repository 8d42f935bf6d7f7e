"""What the terminal shows: plain lines, on a terminal with colour and with one's own line replaced by what was sent."""

import sys
from typing import Final

from ops.terminal import printable
from signet_client import Message

TICKS: Final = {"sent": "✓", "delivered": "✓✓", "read": "✓✓ read"}
_COLOURS: Final = {"dim": "\x1b[2m", "blue": "\x1b[34m", "bold": "\x1b[1m", "red": "\x1b[31m"}
_UP_AND_CLEAR: Final = "\x1b[A\x1b[K"


class Screen:
    def __init__(self) -> None:
        self._colours = sys.stdout.isatty()

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

    def line(self, text: str) -> None:
        print(text, flush=True)

    def _paint(self, text: str, colour: str) -> str:
        return f"{_COLOURS[colour]}{text}\x1b[0m" if self._colours else text


def _text(message: Message) -> str:
    if message.retracted:
        return "(retracted)"
    if message.undecryptable == "no_key":
        return "(can't be decrypted: its key has not come, and was asked for)"
    if message.undecryptable is not None:
        return "(can't be decrypted, or is not to be believed)"
    return "(can't be shown)" if message.text is None else message.text
