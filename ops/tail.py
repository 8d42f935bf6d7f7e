"""`signet tail`: the log as it grows, one readable line an event."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from commands.keyring import FileKeyring, KeyringError
from commands.sealing import Sealer
from commands.stores import open_log
from domain.codec import CODEC, Event
from domain.ids import AccountId
from domain.log import START, EventLog, StoreError
from ops.clock import clock
from ops.datafolder import KEYRING
from ops.errors import OpsError
from ops.history.words import Names, Words
from ops.options import DataOption
from ops.settings import Settings, load_settings
from ops.terminal import printable


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
    """A line for each event, in words."""

    def __init__(self, log: EventLog, sealer: Sealer) -> None:
        self._names = Names(log, sealer)
        self._words = Words(self._names)

    async def show(self, event: Event) -> str:
        at = datetime.fromtimestamp(event.entry.at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        category, _, uuid = event.stream.partition("-")
        if category == "account":
            self._names.forget(AccountId(uuid))
        what = await self._words.of(event)
        return f"{event.position:>8}  {at}  {category} {uuid[:8]} {event.version:>5}  {printable(what)}"
