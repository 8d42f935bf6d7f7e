"""`signet keyring`: the keys that seal personal texts: their own backup, a check against the log, a new beginning."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from commands.keyring import FileKeyring, KeyringError, create_keyring
from commands.keyring_backup import BackupFailed, back_up
from commands.sealing import Sealer, Unreadable
from commands.stores import open_log
from domain.codec import CODEC
from domain.entry import Sealed, seals_in
from domain.errors import KeyringUnavailable
from domain.log import START, EventLog, StoreError
from ops.datafolder import KEYRING, DataFolder
from ops.errors import OpsError
from ops.options import DataOption, JsonOption
from ops.settings import Settings, data_folder, load_settings

_PAGE = 1_000

app = typer.Typer(
    no_args_is_help=True,
    help="""The keys that seal personal texts (messages, names, titles). They lie in `keyring.db`, outside the log, and
    without them a copy of the log can't be read. Back them up apart from the log, and daily: everybody gets a new key
    each month, and newcomers at once.

    **To restore a backup**

    1. Stop the engine.
    2. Move `keyring.db`, `keyring.db-wal` and `keyring.db-shm` out of the data folder: all three, as far as they exist.
    3. Copy the backup to `keyring.db`, readable by the engine's user alone.
    4. Start the engine, and run `signet keyring check`: it names the keys that were made after the backup, if there are
    any. What they sealed is shown as unreadable (`key_missing`); all else is as it was.
    """,
)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the log names and the keyring has."""

    texts: int
    """Sealed texts in the log."""
    keys: int
    """Keys that they name."""
    missing: dict[str, int]
    """How many texts can't be read since the keyring lacks their key, by the key's name."""
    damaged: dict[str, int]
    """How many texts don't fit the key that they name."""


@app.command()
def backup(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A new file, on another disk at best")],
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Copy the keyring into a new file, whole, also while the engine runs.

    Whoever has the file can read what the log holds: keep it where the log's backups are not.

    Examples: `signet keyring backup /safe/keyring-$(date +%F).db`
    """
    try:
        made = back_up(data_folder(data) / KEYRING, path.expanduser().absolute())
    except BackupFailed as error:
        raise OpsError(str(error)) from error
    _print(made, json, f"{made.keys} keys are saved in {made.path}")


@app.command()
def check(
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Read the whole log, and see whether every sealed text can be read with the key that it names.

    It reads beside the running engine and changes nothing. Exit code 1: some can't.

    Examples: `signet keyring check --json`
    """
    settings = load_settings(data)
    try:
        found = asyncio.run(_check(settings))
    except (StoreError, KeyringError, KeyringUnavailable) as error:
        raise OpsError(str(error)) from error
    _print(found, json, "\n".join(_lines(found)))
    if found.missing or found.damaged:
        raise typer.Exit(1)


@app.command()
def create(data: DataOption = None) -> None:
    """Make an empty keyring where the old one is lost for good, so that the engine starts again.

    What the old one sealed can't be read any more. The engine makes the first keyring of a new server by itself.

    Examples: `signet keyring create --data /srv/signet`
    """
    folder = DataFolder(data_folder(data))
    try:
        create_keyring(folder.path / KEYRING)
    except KeyringError as error:
        raise OpsError(str(error)) from error
    finally:
        folder.close()
    print(f"{folder.path / KEYRING} is new and empty")


async def _check(settings: Settings) -> Found:
    log = open_log(settings.events_url, read_only=True)
    keyring = FileKeyring(settings.data / KEYRING, read_only=True)
    sealer = Sealer(keyring, lambda: 0)
    texts = 0
    keys: set[str] = set()
    unreadable: dict[str, Counter[str]] = {"key_missing": Counter(), "damaged": Counter()}
    try:
        async for sealed in _seals(log):
            texts += 1
            keys.add(sealed.key)
            try:
                sealer.unseal(sealed)
            except Unreadable as error:
                unreadable[error.code][sealed.key] += 1
    finally:
        keyring.close()
        await log.close()
    return Found(
        texts=texts, keys=len(keys), missing=dict(unreadable["key_missing"]), damaged=dict(unreadable["damaged"])
    )


async def _seals(log: EventLog) -> AsyncIterator[Sealed]:
    after = START
    while page := await log.read_all(after=after, limit=_PAGE):
        for recorded in page:
            for sealed in seals_in(CODEC.decode(recorded).entry.e):
                yield sealed
        after = page[-1].position


def _lines(found: Found) -> list[str]:
    lines = [f"{found.texts} sealed texts, {found.keys} keys"]
    lines += [f"key {name} is missing: {texts} texts can't be read" for name, texts in found.missing.items()]
    lines += [f"key {name} does not fit {texts} texts that name it" for name, texts in found.damaged.items()]
    return lines if len(lines) > 1 else [f"{lines[0]}: all can be read"]


def _print(what: Any, json: bool, text: str) -> None:
    print(msgspec.json.encode(what).decode() if json else text)
