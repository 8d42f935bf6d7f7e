"""`signet replay`: the history of a conversation or an account as an auditor reads it, from the log alone."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import typer

from commands.keyring import FileKeyring, KeyringError
from commands.sealing import Sealer, Unreadable
from commands.stores import open_log
from domain.codec import Event, UnknownEvent
from domain.entry import Sealed
from domain.ids import AccountId, ConversationId
from domain.log import EventLog, StoreError
from ops.clock import clock
from ops.datafolder import KEYRING
from ops.errors import OpsError
from ops.history.streams import account_events, conversation_events
from ops.history.subject import find_subject
from ops.history.words import Names, Words
from ops.options import DataOption
from ops.progress import progress_bar
from ops.settings import Settings, load_settings
from ops.terminal import printable

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def replay(
    subject: Annotated[str, typer.Argument(metavar="CONVERSATION|ACCOUNT", help="Its id, or how it begins")],
    data: DataOption = None,
    from_: Annotated[str | None, typer.Option("--from", help="From this day or time on (ISO 8601, UTC)")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Before this day or time")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object an event, with all facts")] = False,
) -> None:
    """Print the history of a conversation, or all that an account did and that names it, from the log alone.

    A line has: position, when it was recorded, when it occurred (where an importer claimed that), seq, and what
    happened, with the names of that moment and the accounts' ids. A text whose key is gone is told as such.
    The same log gives the same bytes each time, and in each store but for the positions: events are in the order of
    the time of recording, then of stream and version. `--from` and `--to` go by the time of occurrence where there is
    one.

    It reads beside the running engine and changes nothing. `signet conversations` and `signet accounts` list ids.

    Examples: `signet replay 6ba7b810` · `signet replay 6ba7b810 --from 2026-05-01 --to 2026-06-01 --json`
    """
    settings = load_settings(data)
    if settings.has_no_log:
        raise OpsError(f"there is no log in {settings.data} yet; start an engine: ./signet up --data {settings.data}")
    span = (moment(from_, "--from"), moment(to, "--to"))
    try:
        asyncio.run(_replay(settings, subject, span, json=json))
    except (StoreError, KeyringError) as error:
        raise OpsError(str(error)) from error
    except UnknownEvent as error:
        raise OpsError(f"{error}; if a newer release wrote it, update this one") from error


def moment(text: str | None, option: str) -> int | None:
    """Microseconds since 1970; without a zone it is UTC. Raises OpsError."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise OpsError(f"{option} {text!r} is no day or time; write 2026-05-28 or 2026-05-28T20:26:40Z") from None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)


async def _replay(settings: Settings, wanted: str, span: tuple[int | None, int | None], *, json: bool) -> None:
    log = open_log(settings.events_url, read_only=True)
    keyring = FileKeyring(settings.data / KEYRING, read_only=True)
    try:
        sealer = Sealer(keyring, clock)
        lines = Lines(Names(log, sealer), sealer)
        show = lines.json if json else lines.readable
        async with aclosing(_events(log, wanted)) as events:
            async for event in events:
                if _within(event, span):
                    print(await show(event))
    finally:
        keyring.close()
        await log.close()


async def _events(log: EventLog, wanted: str) -> AsyncGenerator[Event, None]:
    with progress_bar("positions") as bar:
        task = bar.add_task("reading the log", total=await log.head(), visible=False)

        def seen(position: int) -> None:
            bar.update(task, completed=position, visible=True)

        stream = await find_subject(log, wanted, seen)
        category, _, uuid = stream.partition("-")
        if category == "conversation":
            found = conversation_events(log, ConversationId(uuid))
        else:
            found = account_events(log, AccountId(uuid), seen)
        # The bar ends before the first line is printed: both may be on the same terminal.
        first = await anext(found)
    yield first
    async for event in found:
        yield event


def _within(event: Event, span: tuple[int | None, int | None]) -> bool:
    at = event.entry.at if event.entry.occ is None else event.entry.occ
    begin, end = span
    return (begin is None or begin <= at) and (end is None or at < end)


class Lines:
    """An event as a line."""

    def __init__(self, names: Names, sealer: Sealer) -> None:
        self._names = names
        self._sealer = sealer
        self._words = Words(names, lambda account, name: account if name is None else f"{name} ({account})")

    async def readable(self, event: Event) -> str:
        what = await self._words.of(event)
        category, _, uuid = event.stream.partition("-")
        if category == "account":
            what = f"{await self._words.name(AccountId(uuid), event.entry.at)}: {what}"
        occurred = "-" if event.entry.occ is None else _iso(event.entry.occ)
        seq = _seq(event)
        return (
            f"{event.position:>8}  {_iso(event.entry.at)}  {occurred:<27}  {'-' if seq is None else seq:>6}  "
            f"{event.stream}  {printable(what)}"
        )

    async def json(self, event: Event) -> str:
        """The keys are always the same, in the same order."""
        entry = event.entry
        who = _who(event)
        return msgspec.json.encode(
            {
                "position": event.position,
                "stream": event.stream,
                "version": event.version,
                "seq": _seq(event),
                "recorded_at": _iso(entry.at),
                "occurred_at": None if entry.occ is None else _iso(entry.occ),
                "who": who,
                "name": None if who is None else await self._names.at(who, entry.at),
                "event": type(entry.e).__name__,
                "v": entry.v,
                "id": entry.id,
                "command": entry.cmd,
                "facts": {name: self._fact(getattr(entry.e, name)) for name in entry.e.__struct_fields__},
            }
        ).decode()

    def _fact(self, value: Any) -> Any:
        if not isinstance(value, Sealed):
            return value
        try:
            return {"key": value.key, "text": self._sealer.unseal(value)}
        except Unreadable as error:
            return {"key": value.key, "unreadable": error.code}


def _seq(event: Event) -> int | None:
    """Only what stands in a conversation's own stream has one."""
    return event.version + 1 if event.stream.startswith("conversation-") else None


def _who(event: Event) -> AccountId | None:
    """Whose act it is; None for receipts, which are several people's."""
    category, _, uuid = event.stream.partition("-")
    # In an account's stream `by` is a device.
    return AccountId(uuid) if category == "account" else getattr(event.entry.e, "by", None)


def _iso(at_us: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
