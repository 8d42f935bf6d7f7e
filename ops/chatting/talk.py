"""A running chat: what comes in goes to the screen, what is typed goes out."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from typing import Final

from ops.chatting.addresses import Addresses
from ops.chatting.files import HELP as FILES_HELP
from ops.chatting.files import FileVerbs
from ops.chatting.screen import Screen
from ops.errors import OpsError
from signet_client import (
    Change,
    Client,
    Conversation,
    Decrypted,
    Event,
    Forged,
    HistoryLost,
    Lost,
    Message,
    NotDecrypted,
    Received,
    SendRefused,
    Sent,
    SignetError,
    Tick,
    TickMoved,
    Uploading,
)

HISTORY: Final = 20
HELP: Final = f"""\
what you type is sent to the open conversation; besides:
/to NAME              open the conversation with somebody (a name on this machine, or an address)
/group TITLE NAME…    start a group and open it
/list                 all conversations, with what is unread; /open N opens one
/add NAME   /leave    members of the open group
/retract N            take message #N back
{FILES_HELP}
/address              your own address, for people on other machines
/quit                 leave the chat (Ctrl-D does, too)"""


class Talk:
    """One client and its screen. The events of the client come in by `hear`, lines from the keyboard by `obey`."""

    def __init__(self, client: Client, addresses: Addresses, screen: Screen) -> None:
        self._client = client
        self._addresses = addresses
        self._screen = screen
        self._names: dict[str, str] = {}
        self._open = ""
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._ticks: dict[tuple[str, int], Tick] = {}
        """Own messages on the screen whose ticks may still turn."""
        self._shown: dict[str, int] = {}
        """Up to which seq a conversation was on the screen: an event may tell again what its history has shown."""
        self._unreadable: set[tuple[str, int]] = set()
        """What is on the screen and could not be decrypted."""
        self._listed: list[str] = []
        self._verbs: dict[str, Callable[[list[str]], Awaitable[None]]] = {
            "/to": self._to, "/group": self._group, "/list": self._list, "/open": self._open_listed, "/add": self._add,
            "/leave": self._leave, "/retract": self._retract, "/address": self._address, "/help": self._help,
        }  # fmt: skip
        self._files = FileVerbs(client, screen, lambda: self._open)
        self._verbs |= self._files.verbs()
        client.listen(self._events.put_nowait)

    # What is shown

    async def begin(self, to: str | None) -> None:
        """Opens a conversation: the one that was asked for, else the latest; shows its end as the store has it."""
        known = self._client.conversations()
        if known and to is None:
            await self._enter(max(known, key=self._last_at).conversation)
        elif to is not None:
            await self._to([to])
        else:
            self._screen.notice("no conversation yet: /to NAME opens one, /help tells more")

    def _last_at(self, known: Conversation) -> int:
        latest = self._client.latest(known.conversation, limit=1)
        return latest[0].at if latest else 0

    async def close(self) -> None:
        await self._files.close()

    async def show_events(self) -> None:
        """Until cancelled."""
        while True:
            event = await self._events.get()
            try:
                await self._show(event)
            except SignetError as error:
                self._screen.trouble(str(error))

    async def _show(self, event: Event) -> None:
        match event:
            case Received() if event.item.seq <= self._shown.get(_conversation(event.item), 0):
                pass
            case Decrypted() if not self._is_new(event.item):
                pass
            case Received(item=Message(undecryptable="no_key" | "unknown_device")):
                pass  # the key is asked for: `Decrypted` follows, or `NotDecrypted`
            case Received(item=Message() as message) | Decrypted(item=message) | NotDecrypted(item=message):
                if not self._open:
                    await self._enter(message.conversation, history=False)
                await self._show_message(message)
                self._client.read(message.conversation, message.seq)
            case Forged(account=account, device=device, text=text):
                self._screen.trouble(f"{await self._name(account)}, device {device or 'unknown'}: {text}")
            case Received(item=Change() as change):
                await self._show_change(change)
            case TickMoved():
                self._show_ticks(event.conversation)
            case Uploading():
                self._files.show_upload(event)
            case SendRefused():
                self._screen.trouble(f"not sent: {event.text}")
            case HistoryLost():
                self._screen.trouble(
                    f"the server was restored from a backup: {event.items} messages and changes after the {event.kept}."
                    " of this conversation are not there any more; what you had written is sent again"
                )
            case Lost(final=True):
                raise OpsError(f"the engine closed the connection for good: {event.text}")
            case Lost():
                self._screen.notice("connection lost; what you type is sent when it is back")
            case _:
                pass

    def _is_new(self, decrypted: Message) -> bool:
        """Whether it was not on the screen yet, or could not be read there."""
        key = (decrypted.conversation, decrypted.seq)
        return key in self._unreadable or decrypted.seq > self._shown.get(decrypted.conversation, 0)

    async def _show_message(self, message: Message) -> None:
        if message.undecryptable is not None:
            self._unreadable.add((message.conversation, message.seq))
        own = message.sender == self._client.account
        tick = self._client.ticks_of(message.conversation, message.seq) if own else None
        if tick is not None and tick != "read":
            self._ticks[message.conversation, message.seq] = tick
        where = "" if message.conversation == self._open else await self._label(message.conversation)
        self._screen.message(message, who="you" if own else await self._name(message.sender), where=where, tick=tick)

    async def _show_change(self, change: Change) -> None:
        who = await self._name(change.by)
        whom = ", ".join([await self._name(account) for account in change.accounts if account != change.by])
        words = {
            "started": f"{who} started the conversation", "added": f"{who} added {whom}",
            "removed": f"{who} removed {whom}", "left": f"{who} left", "role": f"{who} changed the role of {whom}",
            "title": f"{who} called it {change.title}", "retracted": f"{who} took #{change.target} back",
        }  # fmt: skip
        self._screen.notice(f"#{change.seq} {words[change.what]}")

    def _show_ticks(self, conversation: str) -> None:
        """Tells how far the messages on the screen have come: the last one of each kind stands for those before it."""
        turned: dict[Tick, int] = {}
        for (where, seq), before in list(self._ticks.items()):
            tick = self._client.ticks_of(where, seq)
            if where != conversation or tick == before:
                continue
            turned[tick] = max(turned.get(tick, 0), seq)
            if tick == "read":
                del self._ticks[where, seq]
            else:
                self._ticks[where, seq] = tick
        for tick, seq in turned.items():
            self._screen.line(f"{self._screen.tick(tick)[2:]} #{seq}{' delivered' if tick == 'delivered' else ''}")

    # What is typed

    async def obey(self, line: str) -> bool:
        """Carries out one line; False: the chat is over."""
        if line == "/quit":
            return False
        try:
            if line.startswith("/"):
                await self._command(line)
            elif line.strip():
                self._say(line)
        except (SignetError, OpsError) as error:
            self._screen.trouble(str(error))
        return True

    async def _command(self, line: str) -> None:
        try:
            verb, *words = shlex.split(line)
        except ValueError as error:
            raise OpsError(f"a quotation mark is missing: {error}") from error
        known = self._verbs.get(verb)
        if known is None:
            raise OpsError(f"there is no {verb}; /help lists what there is")
        await known(words)

    def _say(self, text: str) -> None:
        if not self._open:
            raise OpsError("to whom? /to NAME opens a conversation")
        self._screen.replace_input()
        # The answer comes as an event, and so does a refusal.
        self._client.post(self._open, text).add_done_callback(_look_at)

    async def _to(self, words: list[str]) -> None:
        if len(words) != 1:
            raise OpsError("/to NAME")
        conversation = await self._client.start_direct(self._addresses.find(words[0]))
        await self._enter(conversation)

    async def _group(self, words: list[str]) -> None:
        if len(words) < 2:
            raise OpsError("/group TITLE NAME…")
        members = [self._addresses.find(name) for name in words[1:]]
        await self._enter(await self._client.start_group(members, title=words[0]))

    async def _list(self, words: list[str]) -> None:
        overviews = await self._client.overviews()
        self._listed = [overview.c for overview in overviews]
        for number, overview in enumerate(overviews, 1):
            unread = f"  {overview.unread} unread" if overview.unread else ""
            self._screen.notice(f"{number} {await self._label(overview.c)}{unread}")

    async def _open_listed(self, words: list[str]) -> None:
        if len(words) != 1 or not words[0].isdigit() or not 0 < int(words[0]) <= len(self._listed):
            raise OpsError("/open N, with a number of /list")
        await self._enter(self._listed[int(words[0]) - 1])

    async def _add(self, words: list[str]) -> None:
        await self._client.add(self._open, [self._addresses.find(name) for name in words])

    async def _leave(self, words: list[str]) -> None:
        await self._client.leave(self._open)

    async def _retract(self, words: list[str]) -> None:
        number = words[0].lstrip("#") if len(words) == 1 else ""
        if not number.isdigit():
            raise OpsError("/retract N, with a message's number")
        await self._client.retract(self._open, int(number))

    async def _address(self, words: list[str]) -> None:
        self._screen.notice(f"your address is {self._client.account}")

    async def _help(self, words: list[str]) -> None:
        self._screen.line(HELP)

    # Names

    async def _enter(self, conversation: str, *, history: bool = True) -> None:
        self._open = conversation
        known = self._client.conversation(conversation)
        open_ = " (not encrypted: the server could read it)" if known and known.protection == "none" else ""
        self._screen.notice(f"— {await self._label(conversation)}{open_} —")
        if history:
            await self._show_history(conversation)

    async def _show_history(self, conversation: str) -> None:
        for item in self._client.latest(conversation, limit=HISTORY):
            if isinstance(item, Message):
                await self._name(item.sender)
        # With the names known, nothing waits from here on, and no event comes in between.
        latest = self._client.latest(conversation, limit=HISTORY)
        for item in latest:
            if isinstance(item, Message):
                await self._show_message(item)
        if latest:
            self._shown[conversation] = latest[-1].seq
            self._client.read(conversation, latest[-1].seq)

    async def _label(self, conversation: str) -> str:
        known = self._client.conversation(conversation)
        if known is None:
            return conversation[:8]
        return known.title or (await self._name(known.peer) if known.peer else conversation[:8])

    async def _name(self, account: str) -> str:
        if account == self._client.account:
            return "you"
        if account not in self._names:
            # The book first: it knows names even while the engine can't be reached.
            book = self._addresses.names()
            self._names[account] = book.get(account) or await self._client.name(account) or account[:8]
        return self._names[account]


def _conversation(item: Message | Change) -> str:
    return item.conversation if isinstance(item, Message) else item.c


def _look_at(answer: asyncio.Future[Sent]) -> None:
    if not answer.cancelled():
        answer.exception()
