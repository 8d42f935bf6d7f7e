"""`signet backup`: a copy of a server, made while its engine runs."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import apsw
import msgspec
import typer
import uvloop

from commands.copying import CopyFailed, copy_log, digest_log
from commands.keyring_backup import BackupFailed, back_up
from commands.sqlite_copy import copy_sqlite, sync_path
from commands.stores import open_log, store_of
from commands.stores.sqlite import path_of
from domain.log import EventLog, StoreError
from gateways.media.objects import OBJECTS
from ops.datafolder import KEYRING, MEDIA, ServerFile, read_server_file
from ops.errors import OpsError
from ops.options import DataOption, JsonOption
from ops.progress import progress_bar
from ops.rclone import BUCKET
from ops.settings import Settings, load_settings

FORMAT: Final = 1
MANIFEST: Final = "backup.json"
LOG: Final = "log.db"
SERVER: Final = "server.json"
INVITATIONS: Final = "invitations.db"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds."""

    format: int
    made_at: str
    """ISO 8601, UTC."""
    events: int
    position: int
    """The last event's, where the log was: all that was accepted before it is there."""
    digest: str
    """Of the events: see `commands.copying.LogDigest`."""
    keys: int | None
    """How many keys the keyring has; None: it was left out."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    manifest: Manifest


def backup(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A new folder, on another disk at best")],
    without_keyring: Annotated[
        bool, typer.Option("--without-keyring", help="Leave out the keys: they have a backup of their own")
    ] = False,
    data: DataOption = None,
    json: JsonOption = False,
) -> None:
    """Copy a server into a new folder, also while its engine runs, which is not held up.

    It holds the log as it is at one moment, whatever store it is kept in; after it the keyring, which so has every key
    that the log names; the server's name and the invitations. Read models are left out, since they are made from the
    log, and so are settings. So is mail that waits for devices: those that lack a key ask for it anew. Pictures and
    other files are not in it either: copy their folder, or rely on your S3 (docs/media.md); `signet media verify` tells
    after a restore what is missing.

    The copy is read back, and its digest kept with it. The folder gets its name when all of it is on disk.

    Whoever has the folder can read what people said, unless the keyring was left out (`signet keyring backup` puts it
    elsewhere). `signet restore` makes a server of it.

    Examples: `signet backup /backups/signet-$(date +%F)` · `signet backup /backups/today --without-keyring --json`
    """
    settings = load_settings(data)
    server = read_server_file(settings.data)
    if server is None:
        raise OpsError(f"no engine has run on {settings.data} yet; name the folder of your server by --data")
    target = path.expanduser().absolute()
    if target.exists():
        raise OpsError(f"{target} exists already: name a new folder")
    draft = target.with_name(f"{target.name}.unfinished")
    with _explained(target), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        shutil.rmtree(draft, ignore_errors=True)  # of one that was killed
        draft.mkdir(mode=0o700, parents=True)
        manifest = runner.run(_make(settings, server, draft, kept_at=target, with_keyring=not without_keyring))
        draft.replace(target)
        sync_path(target.parent)
    made = Made(path=str(target), manifest=manifest)
    if json:
        print(msgspec.json.encode(made).decode())
        return
    keys = "without the keyring" if manifest.keys is None else f"{manifest.keys} keys"
    print(f"{manifest.events:,} events up to position {manifest.position}, and {keys}, are saved in {target}")
    if (objects := settings.data / MEDIA / BUCKET / OBJECTS).exists():
        print(f"pictures and other files are not in it: copy {objects}, too, where no file ever changes")
    print(f"to make a server of it: signet restore {target} --data FOLDER")


async def _make(settings: Settings, server: ServerFile, draft: Path, *, kept_at: Path, with_keyring: bool) -> Manifest:
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    with progress_bar("events") as bar:
        copying = bar.add_task("copy", total=None)
        position = await _copy_log(settings, draft / LOG, lambda events: bar.update(copying, completed=events))
        bar.update(copying, total=1, completed=1)
        copy = open_log(f"sqlite://{draft / LOG}", read_only=True)
        try:
            reading = bar.add_task("read back", total=None)
            head = await copy.head()
            digest = await digest_log(copy, upto=head, on_events=lambda events: bar.update(reading, completed=events))
            bar.update(reading, total=digest.events, completed=digest.events)
        finally:
            await copy.close()
    # After the log: a key is on disk before what it sealed is stored.
    keys = None
    if with_keyring:
        keys = back_up(settings.data / KEYRING, draft / KEYRING, kept_at=kept_at / KEYRING).keys
    if (settings.data / INVITATIONS).exists():
        copy_sqlite(settings.data / INVITATIONS, draft / INVITATIONS)
    manifest = Manifest(
        format=FORMAT, made_at=made_at, events=digest.events,
        position=position, digest=digest.hex(), keys=keys,
    )  # fmt: skip
    _write(draft / SERVER, msgspec.structs.replace(server, url=None, pid=None))
    _write(draft / MANIFEST, manifest)
    sync_path(draft)
    return manifest


async def _copy_log(settings: Settings, target: Path, on_events: Callable[[int], None]) -> int:
    """The position up to which it is copied."""
    if store_of(settings.events_url) == "sqlite":
        await asyncio.to_thread(copy_sqlite, path_of(settings.events_url), target)
        copy = open_log(f"sqlite://{target}", read_only=True)
        try:
            return await copy.head()
        finally:
            await copy.close()
    source, copy = open_log(settings.events_url, read_only=True), open_log(f"sqlite://{target}")
    try:
        head = await source.head()
        await copy_log(source, copy, upto=head, on_events=on_events)
        return head
    finally:
        await _close(copy, source)


async def _close(*logs: EventLog) -> None:
    for log in logs:
        await log.close()


def _write(path: Path, content: msgspec.Struct) -> None:
    with path.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content)) + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except (StoreError, CopyFailed, BackupFailed) as error:
        raise OpsError(f"there is no backup: {error}") from error
    except (apsw.Error, OSError) as error:
        raise OpsError(f"there is no backup: {target} could not be written: {error}") from error
