"""`signet conversations` and `signet accounts`: the ids, from the read models."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import typer

from commands.keyring import FileKeyring, KeyringError
from commands.sealing import Sealer, Unreadable
from domain.entry import Sealed
from domain.ids import is_uuid
from ops.clock import clock
from ops.datafolder import KEYRING
from ops.errors import OpsError
from ops.options import DataOption
from ops.settings import Settings, load_settings
from ops.terminal import printable
from projections.catalogue import exists, find_serving, open_reading, serving_kind
from projections.database import DATABASE_ERRORS, Database, Row
from projections.readmodel import ReadModelError

_PAGE: Final = 500
_SHOWN_MAX: Final = 5
"""How many members a line names."""

_CONVERSATIONS: Final = """
SELECT c.conversation, c.kind, c.head, c.at FROM conversations c WHERE c.conversation > ? ORDER BY c.conversation
LIMIT ?
"""
_CONVERSATIONS_OF: Final = """
SELECT c.conversation, c.kind, c.head, c.at FROM members m JOIN conversations c ON c.conversation = m.conversation
WHERE m.account = ? AND c.conversation > ? ORDER BY c.conversation LIMIT ?
"""
TITLE: Final = "SELECT key, box FROM titles WHERE conversation = ? ORDER BY seq DESC LIMIT 1"
_MEMBERS: Final = "SELECT account FROM members WHERE conversation = ? AND role IS NOT NULL ORDER BY account"
_ACCOUNTS: Final = "SELECT account, name_key, name FROM accounts WHERE account > ? ORDER BY account LIMIT ?"
NAME: Final = "SELECT name_key, name FROM accounts WHERE account = ?"
_DEVICES: Final = "SELECT device, active FROM devices WHERE account = ? ORDER BY linked_at, device"

FindOption = Annotated[str | None, typer.Option("--find", help="Only where this text stands, in whatever case")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object a line")]


class Member(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    conversation: str
    kind: str
    title: str | None
    members: list[Member]
    """Those who are in it now."""
    last_seq: int
    last_at: str


class Device(msgspec.Struct, frozen=True, kw_only=True):
    device: str
    active: bool
    """False once it was revoked."""


class ListedAccount(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    name: str
    devices: list[Device]


def conversations(
    data: DataOption = None,
    of: Annotated[str | None, typer.Option("--of", help="Only those that this account is or was in: its id")] = None,
    find: FindOption = None,
    json: JsonOption = False,
) -> None:
    """List the conversations: id, kind, last seq, time of the last event, title, members.

    `--find` looks into titles and members' names. It reads the read models beside the running engine.

    Examples: `signet conversations --find garden` · `signet conversations --of 6ba7b810-9dad-41d1-80b4-00c04fd430c8`
    """
    if of is not None and not is_uuid(of):
        raise OpsError(f"--of {of!r} is no account's id; `signet accounts --find NAME` tells it")
    with opened(load_settings(data), "inbox", "directory") as (unseal, (inbox, directory)):
        for listed in _conversations(unseal, inbox, directory, of):
            if _has(find, listed.title or "", *(member.name for member in listed.members)):
                _print(listed, _conversation_line(listed), json=json)


def accounts(data: DataOption = None, find: FindOption = None, json: JsonOption = False) -> None:
    """List the accounts: id, name, devices.

    `--find` looks into the names. It reads the read models beside the running engine.

    Examples: `signet accounts` · `signet accounts --find anna --json`
    """
    with opened(load_settings(data), "directory") as (unseal, (directory,)):
        for listed in _accounts(unseal, directory):
            if _has(find, listed.name):
                _print(listed, _account_line(listed), json=json)


Unseal = Callable[[Sealed], str]


@contextmanager
def opened(settings: Settings, *names: str) -> Iterator[tuple[Unseal, list[Database]]]:
    """The databases of these read models, and what unseals their texts. Raises OpsError."""
    databases: list[Database] = []
    try:
        with closing(FileKeyring(settings.data / KEYRING, read_only=True)) as keyring:
            sealer = Sealer(keyring, clock)
            databases += (_reading(settings, name) for name in names)
            yield lambda sealed: _text(sealer, sealed), databases
    except (ReadModelError, KeyringError) as error:
        raise OpsError(str(error)) from error
    except DATABASE_ERRORS as error:
        raise OpsError(f"the read models {', '.join(names)} can't be read: {error}") from error
    finally:
        for db in databases:
            db.close()


def _reading(settings: Settings, name: str) -> Database:
    place = settings.readmodels_place
    serving = find_serving(place, name)
    if exists(place, serving_kind(serving), serving.build.number):
        db = open_reading(place, name)[1]
        if db.has_table("readmodel"):
            return db
        db.close()
    raise OpsError(
        f"there is no read model {name!r} of {settings.data} yet; an engine makes it from the log: "
        f"./signet up --data {settings.data}"
    )


def _conversations(unseal: Unseal, inbox: Database, directory: Database, of: str | None) -> Iterator[Listed]:
    def page(after: str) -> list[Row]:
        if of is None:
            return inbox.query(_CONVERSATIONS, (after, _PAGE))
        return inbox.query(_CONVERSATIONS_OF, (of, after, _PAGE))

    for conversation, kind, head, at in _paged(page):
        title = inbox.query_one(TITLE, (conversation,))
        members = [account for (account,) in inbox.query(_MEMBERS, (conversation,))]
        found = directory.query_each(NAME, [(account,) for account in members])
        yield Listed(
            conversation=conversation,
            kind=kind,
            title=None if title is None else unseal(Sealed(key=title[0], box=title[1])),
            members=[
                Member(account=account, name=name_of(unseal, account, rows))
                for account, rows in zip(members, found, strict=True)
            ],
            last_seq=head,
            last_at=datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )


def name_of(unseal: Unseal, account: str, found: Sequence[Row]) -> str:
    """`found`: what the directory has by `NAME`; it may be behind another read model, and have nothing yet."""
    return unseal(Sealed(key=found[0][0], box=found[0][1])) if found else account[:8]


def _accounts(unseal: Unseal, directory: Database) -> Iterator[ListedAccount]:
    for account, key, box in _paged(lambda after: directory.query(_ACCOUNTS, (after, _PAGE))):
        devices = [Device(device=device, active=bool(on)) for device, on in directory.query(_DEVICES, (account,))]
        yield ListedAccount(account=account, name=unseal(Sealed(key=key, box=box)), devices=devices)


def _paged(read: Callable[[str], list[Row]]) -> Iterator[Row]:
    """Rows in the order of the id that each begins with; `read` gives the next ones after an id."""
    after = ""
    while rows := read(after):
        yield from rows
        after = rows[-1][0]


def _text(sealer: Sealer, sealed: Sealed) -> str:
    try:
        return sealer.unseal(sealed)
    except Unreadable as error:
        return f"({error.code})"


def _has(wanted: str | None, *texts: str) -> bool:
    return wanted is None or any(wanted.casefold() in text.casefold() for text in texts)


def _print(listed: Any, line: str, *, json: bool) -> None:
    print(msgspec.json.encode(listed).decode() if json else printable(line))


def _conversation_line(listed: Listed) -> str:
    names = [member.name for member in listed.members]
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    title = "" if listed.title is None else f"{listed.title!r} "
    who = ", ".join(names[:_SHOWN_MAX]) + more
    return f"{listed.conversation}  {listed.kind:<6}  {listed.last_seq:>7}  {listed.last_at}  {title}{who}"


def _account_line(listed: ListedAccount) -> str:
    devices = ", ".join(each.device if each.active else f"{each.device} (revoked)" for each in listed.devices)
    return f"{listed.account}  {listed.name}  {devices}"
