"""What a running client tells its application: each event once, after it is in the store."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, Self

import msgspec

from signet_client.errors import EventsMissed
from signet_client.messages import Change, Message

EVENTS_MAX: Final = 10_000
"""How many events may wait for a reader of `events()`."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A message or a change is in the store: in order of seq within a conversation, own ones included."""

    item: Message | Change


class Retracted(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is in the store was taken back while the account was no member, and its body is gone now. A
    retraction that the account may see is a change like others, which comes as `Received`."""

    conversation: str
    seq: int
    """The message's."""


class TickMoved(msgspec.Struct, frozen=True, kw_only=True):
    """One's own messages came further: every seq up to `delivered` is with all members, up to `read` seen by them; or
    what some member could not decrypt has changed. `Client.ticks_of` says what it means for a message."""

    conversation: str
    delivered: int
    read: int


class ReadMarkMoved(msgspec.Struct, frozen=True, kw_only=True):
    """The account has read up to here, on another of its devices."""

    conversation: str
    read: int


class SendRefused(msgspec.Struct, frozen=True, kw_only=True):
    """A message was refused for good; it stays in the outbox, marked, until it is discarded. Where its files were
    refused it is gone: send it again."""

    conversation: str
    id: str
    code: str
    text: str


class Uploading(msgspec.Struct, frozen=True, kw_only=True):
    """The files of a message are on their way: so many bytes of so many have gone. When all are there the message goes
    out, and comes as `Received`."""

    conversation: str
    id: str
    """The message's."""
    name: str
    """What the file is called."""
    done: int
    total: int
    trouble: str = ""
    """Why it is not further, for a person: it is tried again by itself."""


class Decrypted(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was received before, and could not be decrypted then, can be read now."""

    item: Message


class NotDecrypted(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was received can't be decrypted, as far as things stand: its author is told so, and its key was
    asked for. `item.undecryptable` says why. The key often comes a moment after its message: this comes once it is
    overdue."""

    item: Message


class Forged(msgspec.Struct, frozen=True, kw_only=True):
    """The server has handed on, or told, what nobody has signed who should have."""

    what: Literal["message", "receipt", "device"]
    account: str
    """Whose it is said to be."""
    device: str
    conversation: str = ""
    seq: int = 0
    """A message's."""
    text: str
    """What is wrong, for a person."""


class HistoryLost(msgspec.Struct, frozen=True, kw_only=True):
    """The server was restored from a backup, and what came after `kept` is not there any more: `Client.lost` has what
    the device held of it. What the device itself had said is sent again."""

    conversation: str
    kept: int
    items: int
    """How many messages and changes the device held beyond it."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was lost there has come again, under another seq: it is the same one, which was told of before."""

    item: Message
    seq_before: int


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """The live connection stands, and what was missed has been stored."""


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The live connection is gone; the client connects again by itself unless `final`."""

    number: int
    """The server's close code; 1006 for a plain failure."""
    text: str
    final: bool


Event = (
    Received
    | Retracted
    | Decrypted
    | NotDecrypted
    | Forged
    | TickMoved
    | ReadMarkMoved
    | SendRefused
    | Uploading
    | HistoryLost
    | Found
    | Connected
    | Lost
)
Listener = Callable[[Event], None]


class Events:
    """An endless async iterator over the events from its making on. Raises EventsMissed where its reader is too slow;
    ends when the client closes."""

    def __init__(self, unsubscribe: Callable[["Events"], None]) -> None:
        self._unsubscribe = unsubscribe
        self._waiting: deque[Event] = deque()
        self._missed = False
        self._ended = False
        self._wake: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        if len(self._waiting) >= EVENTS_MAX:
            self._missed = True
            self._unsubscribe(self)
        else:
            self._waiting.append(event)
        self._notify()

    def end(self) -> None:
        self._ended = True
        self._notify()

    def close(self) -> None:
        """Stops listening."""
        self._unsubscribe(self)
        self.end()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._missed:
                raise EventsMissed(f"more than {EVENTS_MAX} events waited; read on from the store")
            if self._ended:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._waiting.popleft()
