"""`signet tail`: the log as it grows, one readable line an event."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, assert_never

import msgspec
import typer

from commands.keyring import FileKeyring, KeyringError
from commands.sealing import Sealer, Unreadable
from commands.stores import open_log
from domain.account import AccountRegistered, DeviceLinked, DeviceRevoked, ProfileChanged
from domain.codec import CODEC, DomainEvent, Event
from domain.conversation import (
    ConversationStarted,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    MessageRetracted,
    MessageSent,
    RoleChanged,
    TitleSet,
)
from domain.entry import Sealed
from domain.ids import AccountId, account_stream
from domain.log import START, EventLog, StoreError
from domain.receipts import Receipt, ReceiptsAdvanced
from ops.datafolder import KEYRING
from ops.errors import OpsError
from ops.node import clock
from ops.settings import Settings, load_settings
from ops.terminal import printable
from ops.up import DataOption


def tail(
    data: DataOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last events come first")] = 20,
    follow: Annotated[bool, typer.Option(help="Go on as events are recorded; Ctrl-C ends it")] = True,
    json: Annotated[bool, typer.Option("--json", help="One JSON object an event, sealed texts left sealed")] = False,
) -> None:
    """Show the log as it grows: position, time, stream and version, and what happened.

    It reads beside the running engine and changes nothing. Texts and names are shown where this server can unseal them;
    what is encrypted end to end stays so.

    Examples: `signet tail` · `signet tail -n 1000 --no-follow --json`
    """
    settings = load_settings(data)
    if settings.has_no_log:
        raise OpsError(f"there is no log in {settings.data} yet; start an engine: ./signet up --data {settings.data}")
    try:
        asyncio.run(_tail(settings, lines=lines, follow=follow, json=json))
    except (StoreError, KeyringError) as error:
        raise OpsError(str(error)) from error


async def _tail(settings: Settings, *, lines: int, follow: bool, json: bool) -> None:
    log = open_log(settings.events_url, read_only=True)
    keyring = FileKeyring(settings.data / KEYRING, read_only=True)
    try:
        show: Callable[[Event], Any] = _show_json if json else Describer(log, Sealer(keyring, clock)).show
        position = await _show_last(log, lines, show)
        if follow:
            async for batch in log.subscribe(after=position):
                for recorded in batch:
                    await _shown(show(CODEC.decode(recorded)))
    finally:
        keyring.close()
        await log.close()


async def _show_last(log: EventLog, lines: int, show: Callable[[Event], Any]) -> int:
    """Shows the last `lines` events; the position up to which all is shown."""
    if not lines:
        return await log.head()
    found = await log.read_last(lines)
    for recorded in found:
        await _shown(show(CODEC.decode(recorded)))
    return found[-1].position if found else START


async def _shown(line: Any) -> None:
    print(await line if asyncio.iscoroutine(line) else line, flush=True)


def _show_json(event: Event) -> str:
    return msgspec.json.encode(
        {
            "position": event.position,
            "stream": event.stream,
            "version": event.version,
            "event": type(event.entry.e).__name__,
            "entry": event.entry,
        }
    ).decode()


class Describer:
    """Events in words."""

    def __init__(self, log: EventLog, sealer: Sealer) -> None:
        self._log = log
        self._sealer = sealer
        self._names: dict[AccountId, str] = {}

    async def show(self, event: Event) -> str:
        at = datetime.fromtimestamp(event.entry.at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        category, _, uuid = event.stream.partition("-")
        what = await self._words(event.entry.e)
        return f"{event.position:>8}  {at}  {category} {uuid[:8]} {event.version:>5}  {printable(what)}"

    async def _words(self, event: DomainEvent) -> str:
        match event:
            case MessageSent():
                return f"{await self._name(event.by)}: {self._body(event.body)}"
            case MessageRetracted():
                return f"{await self._name(event.by)} retracts message {event.target}"
            case ConversationStarted():
                members = ", ".join([await self._name(account) for account in event.members])
                title = f" {self._text(event.title)!r}" if event.title else ""
                return f"{await self._name(event.by)} starts a {event.kind} conversation{title} with {members}"
            case MembersAdded():
                newcomers = ", ".join([await self._name(account) for account in event.accounts])
                return f"{await self._name(event.by)} adds {newcomers}"
            case MemberRemoved():
                return f"{await self._name(event.by)} removes {await self._name(event.account)}"
            case MemberLeft():
                return f"{await self._name(event.by)} leaves"
            case RoleChanged():
                return f"{await self._name(event.by)} makes {await self._name(event.account)} {event.role}"
            case TitleSet():
                return f"{await self._name(event.by)} calls it {self._text(event.title)!r}"
            case ReceiptsAdvanced():
                return "; ".join([await self._receipt(receipt) for receipt in event.receipts])
            case AccountRegistered():
                return f"registered as {self._text(event.name)!r}"
            case DeviceLinked():
                return f"device {event.device} linked" + (f" by {event.by}" if event.by else "")
            case DeviceRevoked():
                return f"device {event.device} revoked by {event.by}"
            case ProfileChanged():
                return f"is now called {self._text(event.name)!r}"
            case _:
                assert_never(event)

    async def _receipt(self, receipt: Receipt) -> str:
        marks = f"{await self._name(receipt.account)} has {receipt.delivered}, read {receipt.read}"
        return marks + (f", could not decrypt {receipt.undecryptable}" if receipt.undecryptable else "")

    async def _name(self, account: AccountId) -> str:
        known = self._names.get(account)
        if known is None:
            found = await self._log.read_stream(account_stream(account), limit=1)
            event = CODEC.decode(found[0]).entry.e if found else None
            known = self._text(event.name) if isinstance(event, AccountRegistered) else account[:8]
            self._names[account] = known
        return known

    def _body(self, body: Sealed) -> str:
        text = self._text(body)
        try:
            inner = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return text
        return str(inner["text"]) if isinstance(inner, dict) and "text" in inner else "(encrypted)"

    def _text(self, sealed: Sealed) -> str:
        try:
            return self._sealer.unseal(sealed)
        except Unreadable as error:
            return f"({error.code})"
