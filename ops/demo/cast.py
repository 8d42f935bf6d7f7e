"""The demo's people: each a client of the engine, with its store in the data folder, connected while the engine runs.

They are the first devices of their accounts. Those of the two who have links let the browsers in, give them the keys of
what was said before, and leave all reading to them; the others read what comes.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ops.demo.stretch import PAIR, TITLE, Line
from ops.errors import OpsError
from signet_client import Client, Event, Message, NoDevice, Received, SignetError

READ_AFTER_S: Final = 1.0
"""How long people take to look at what has come."""
_PLAYED: Final = "played"
"""The file that says that all was said: what people do with the conversations afterwards is their own affair."""


class Cast:
    """`async with` closes the clients at the end."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._stack = AsyncExitStack()
        self._reading: dict[tuple[str, str], asyncio.TimerHandle] = {}
        """By nick and conversation."""
        self.people: Final[dict[str, Client]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        for timer in self._reading.values():
            timer.cancel()

    @property
    def has_played(self) -> bool:
        return (self._folder / _PLAYED).exists()

    async def arrive(self, nicks: Iterable[str]) -> None:
        """Registers those who are new, and connects all. Raises SignetError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for nick in nicks:
            client = await self._client(nick)
            self.people[nick] = await self._stack.enter_async_context(client)
            if nick not in PAIR:
                client.listen(partial(self._on_event, nick))
        for client in self.people.values():
            await client.caught_up()

    async def _client(self, nick: str) -> Client:
        path = self._folder / f"{nick}.db"
        try:
            return Client.open(path, url=self._url)
        except NoDevice:
            return await Client.register(self._url, nick, path, device="demo")

    def _on_event(self, nick: str, event: Event) -> None:
        if not isinstance(event, Received) or not isinstance(event.item, Message):
            return
        talk = event.item.conversation
        if (nick, talk) not in self._reading:
            timer = asyncio.get_running_loop().call_later(READ_AFTER_S, self._read, nick, talk)
            self._reading[nick, talk] = timer

    def _read(self, nick: str, talk: str) -> None:
        """All that came meanwhile is one read mark."""
        del self._reading[nick, talk]
        client = self.people[nick]
        with suppress(SignetError):  # its connection ended for good; the log says why
            client.read(talk, client.marks(talk).cursor)

    async def play(self, stretch: Sequence[Line], on_line: Callable[[], None]) -> None:
        """Lets them say what they have not said yet. Whatever breaks it off, the next call goes on. Raises OpsError,
        SignetError."""
        first, second = (self.people[nick] for nick in PAIR)
        talks = {False: await self._group(first), True: await first.start_direct(second.account)}
        # Sends that broke off are in the outboxes, and go out first.
        await asyncio.gather(*(client.until(partial(_has_sent, client)) for client in self.people.values()))
        for overview in await first.overviews():
            await first.held(overview.c, overview.head)
        said = {aside: _said(first, talk) for aside, talk in talks.items()}
        for line in stretch:
            if said[line.aside]:
                said[line.aside] -= 1
            else:
                await self._say(line, talks[line.aside])
            on_line()
        (self._folder / _PLAYED).touch()

    async def _group(self, owner: Client) -> str:
        for conversation in owner.conversations():
            if conversation.title == TITLE:
                return conversation.conversation
        others = [client.account for client in self.people.values() if client is not owner]
        return await owner.start_group(others, title=TITLE)

    async def _say(self, line: Line, talk: str) -> None:
        speaker = self.people[line.nick]
        head = max(client.marks(talk).cursor for client in self.people.values())
        await speaker.held(talk, max(head, 1))
        if head:
            speaker.read(talk, head)
        sent = await speaker.send(talk, line.text)
        for nick in PAIR:
            await self.people[nick].held(talk, sent.seq)


def _has_sent(client: Client) -> bool:
    if refused := [each.refused for each in client.outbox() if each.refused]:
        raise OpsError(f"the engine refuses what the demo says ({refused[0]}): begin anew in an empty folder")
    return not client.outbox()


def _said(client: Client, talk: str) -> int:
    return sum(isinstance(item, Message) for item in client.history(talk, limit=2**62))
