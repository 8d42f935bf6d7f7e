"""`signet restore`: a server made of a backup."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import apsw
import msgspec
import typer
import uvloop
from rich.progress import Progress

from commands.copying import CopyFailed, copy_log, digest_log
from commands.ids import new_uuid
from commands.sqlite_copy import copy_sqlite, sync_path
from commands.stores import open_log, store_of
from commands.stores.sqlite import path_of
from domain.log import START, EventLog, StoreError
from ops.backup import FORMAT, INVITATIONS, LOG, MANIFEST, SERVER, Manifest
from ops.clock import clock
from ops.datafolder import KEYRING, RESTORING, DataFolder, Restored, ServerFile
from ops.errors import OpsError
from ops.progress import progress_bar
from ops.readmodels import catch_up
from ops.rebuilding.build import Progressed
from ops.settings import Settings, load_settings
from projections.catalogue import drop, find_serving
from projections.database import DATABASE_ERRORS
from projections.models import MODELS
from projections.parking import ParkingError
from projections.readmodel import Place, ReadModelError


class RestoredServer(msgspec.Struct, frozen=True, kw_only=True):
    data: str
    events: int
    position: int
    """The last event's, in the log that it has now."""
    made_at: str
    """When the backup was made: what was accepted later is not there."""


def restore(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder that `signet backup` has made")],
    data: Annotated[Path, typer.Option("--data", help="A new or empty folder, which becomes the server's")],
    events: Annotated[
        str | None,
        typer.Option(help="URL of an empty event store, as in SIGNET_EVENTS [default: SQLite in the folder]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object")] = False,
) -> None:
    """Make a server of a backup: its log, its keyring, its name and its invitations; then its read models are made, so
    that `signet up` serves at once. The backup stays as it is.

    The log's digest is compared before anything is copied, and where it was copied into another kind of store, again.
    Killed, it goes on when it is called again; until it is done no engine starts on the folder.

    Messages that were accepted after the backup are not there. Devices are told so: they keep apart what the server no
    longer has, and send again what they themselves had said. Never let the old server run beside the restored one.

    Settings are not part of a backup: put `signet.toml` into the folder before, where the server had one.

    Examples: `signet restore /backups/today --data /srv/signet` ·
    `signet restore /backups/today --data /srv/signet --events postgresql://signet:secret@127.0.0.1:5432/signet`
    """
    backup = path.expanduser().absolute()
    settings = load_settings(data, events=events)
    manifest = _read(backup)
    with _explained(), progress_bar("events") as bar, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        folder = DataFolder(settings.data, restoring=True)
        try:
            position = runner.run(_restore(backup, manifest, settings, folder, bar))
        finally:
            folder.close()
    done = RestoredServer(
        data=str(settings.data), events=manifest.events, position=position, made_at=manifest.made_at
    )  # fmt: skip
    if json:
        print(msgspec.json.encode(done).decode())
        return
    print(
        f"{manifest.events:,} events are restored into {settings.data}; what came after {manifest.made_at} is not there"
    )
    if manifest.keys is None:
        print(f"the backup has no keyring: put its own backup to {settings.data / KEYRING} before you start the engine")
    if events is not None:
        print(
            f"put events = the same URL into {settings.data / 'signet.toml'}, or set SIGNET_EVENTS, before you start it"
        )
    print(f"to run it: signet up --data {settings.data}")


async def _restore(backup: Path, manifest: Manifest, settings: Settings, folder: DataFolder, bar: Progress) -> int:
    await _begin(settings, manifest)
    source = open_log(f"sqlite://{backup / LOG}", read_only=True)
    try:
        if await _digest(source, bar, "verify", manifest.events) != (manifest.events, manifest.digest):
            raise OpsError(f"{backup} is damaged: its log is not the one that was backed up. Take another backup.")
        position = await _restore_log(source, backup, manifest, settings, bar)
    finally:
        await source.close()
    for name in (KEYRING, INVITATIONS):
        if (backup / name).exists():
            _put(backup / name, settings.data / name)
    server = msgspec.json.decode((backup / SERVER).read_bytes(), type=ServerFile)
    restored = Restored(before=server.epoch, position=position, at=clock())
    folder.write(ServerFile(name=server.name, epoch=new_uuid(), restored=restored))
    await _make_read_models(settings, bar)
    (settings.data / RESTORING).unlink()
    sync_path(settings.data)
    return position


async def _begin(settings: Settings, manifest: Manifest) -> None:
    """Raises OpsError where the folder or the store holds something else."""
    data, marker = settings.data, settings.data / RESTORING
    draft = marker.with_suffix(".new")
    wanted = msgspec.json.encode(manifest)
    if marker.exists():
        if marker.read_bytes() != wanted:
            raise OpsError(f"{data} holds half of another backup: name an empty folder by --data")
        return
    taken = [each.name for each in data.iterdir() if each.name not in ("lock", "signet.toml", draft.name)]
    if taken:
        raise OpsError(f"{data} is not empty ({', '.join(sorted(taken)[:5])}): name a new folder by --data")
    if await _holds_events(settings.events_url):
        raise OpsError(
            f"the event store {settings.events_shown} is not empty, and nothing was changed: name an empty one by"
            " --events. Without it the settings and SIGNET_EVENTS say which one it is."
        )
    for name in MODELS:
        _throw_away(settings.readmodels_place, name)
    with draft.open("wb") as file:
        file.write(wanted)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(marker)
    sync_path(data)


def _throw_away(place: Place, name: str) -> None:
    """Rows in PostgreSQL have outlived the log that they are of; what they know may be more than what is restored."""
    serving = find_serving(place, name)
    for build in (serving.build, serving.earlier):
        if build is not None:
            drop(place, name, build)


async def _holds_events(url: str) -> bool:
    """What another server has said can't be taken out of its log again."""
    if store_of(url) == "sqlite" and not path_of(url).exists():
        return False
    log = open_log(url)
    try:
        return await log.head() > START
    finally:
        await log.close()


async def _restore_log(source: EventLog, backup: Path, manifest: Manifest, settings: Settings, bar: Progress) -> int:
    """The position of its last event."""
    if store_of(settings.events_url) == "sqlite":
        _put(backup / LOG, path_of(settings.events_url))
        return await source.head()
    target = open_log(settings.events_url)
    try:
        task = bar.add_task("copy", total=manifest.events)
        await copy_log(
            source, target, upto=await source.head(), on_events=lambda events: bar.update(task, completed=events)
        )
        if await _digest(target, bar, "verify the copy", manifest.events) != (manifest.events, manifest.digest):
            raise OpsError("the store holds other events than those of the backup: name an empty one by --events")
        return await target.head()
    finally:
        await target.close()


async def _digest(log: EventLog, bar: Progress, what: str, events: int) -> tuple[int, str]:
    task = bar.add_task(what, total=events)
    digest = await digest_log(log, upto=await log.head(), on_events=lambda done: bar.update(task, completed=done))
    return digest.events, digest.hex()


async def _make_read_models(settings: Settings, bar: Progress) -> None:
    tasks = {name: bar.add_task(name, total=None, visible=False) for name in MODELS}

    def tell(name: str, progress: Progressed) -> None:
        bar.update(
            tasks[name], total=progress.head, completed=progress.position, done=progress.events, visible=True
        )  # fmt: skip

    log = open_log(settings.events_url, read_only=True)
    try:
        await catch_up(settings, log, tell)
    finally:
        await log.close()


def _put(source: Path, target: Path) -> None:
    """On disk, and whole, when it has its name."""
    draft = target.with_name(f"{target.name}.new")
    draft.unlink(missing_ok=True)
    copy_sqlite(source, draft)
    for leftover in (f"{target.name}-wal", f"{target.name}-shm"):
        target.with_name(leftover).unlink(missing_ok=True)
    draft.replace(target)
    sync_path(target.parent)


def _read(backup: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((backup / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise OpsError(f"{backup} is no backup: it has no {MANIFEST}. `signet backup` makes one.") from error
    except (OSError, msgspec.MsgspecError) as error:
        raise OpsError(f"{backup / MANIFEST} can't be read: {error}. Take another backup.") from error
    if manifest.format != FORMAT:
        raise OpsError(f"{backup} has the format {manifest.format}, and this release reads {FORMAT}: use a newer one")
    return manifest


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (StoreError, CopyFailed, ReadModelError, ParkingError) as error:
        raise OpsError(f"the server is not restored: {error}") from error
    except (apsw.Error, OSError, *DATABASE_ERRORS) as error:
        raise OpsError(
            f"the server is not restored: {error}. See to the disk or server, and call it again: it goes on."
        ) from error
