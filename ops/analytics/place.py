"""Where the ClickHouse is: embedded in the data folder, or a server by URL."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from commands.ids import new_uuid
from ops.analytics import frames
from ops.analytics.warehouse import Warehouse, WarehouseUnavailable
from ops.datafolder import ANALYTICS
from ops.errors import OpsError
from ops.settings import Settings

_LOCK: Final = "load.lock"
_NAME: Final = "loader.id"
STORE: Final = "chdb"


def folder_of(settings: Settings) -> Path:
    return settings.data / ANALYTICS


@contextmanager
def only_loader(settings: Settings, *, anew: bool = False) -> Iterator[Warehouse]:
    """A loader's connection, held by one process of the data folder at a time; `anew`: also where what is embedded
    can't be opened any more, and so is thrown away. Raises OpsError where another one loads, WarehouseError."""
    folder = folder_of(settings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OpsError(f"{folder} can't be used: {error}. Load as the user that the engine runs as.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OpsError(
            f"another `signet analytics load` of {settings.data} is at work; where it follows the log, there is nothing"
            " to do"
        ) from error
    try:
        with closing(_connect_anew(settings) if anew else connect(settings, "loader")) as warehouse:
            yield warehouse
    finally:
        os.close(lock)


def _connect_anew(settings: Settings) -> Warehouse:
    try:
        return connect(settings, "loader")
    except WarehouseUnavailable:
        if settings.analytics:
            raise
        # Half of it may be missing, as after a full disk.
        shutil.rmtree(folder_of(settings) / STORE)
        return connect(settings, "loader")


def loader_name(settings: Settings) -> str:
    """What tells this data folder from others that load the same log; made now where there is none yet."""
    file = folder_of(settings) / _NAME
    if not file.exists():
        file.write_text(new_uuid())
    return file.read_text()


def connect(settings: Settings, role: frames.Role) -> Warehouse:
    """Raises WarehouseError."""
    # Only where it is needed: each of the two loads a driver.
    if settings.analytics:
        from ops.analytics.server import Server

        return Server.connect(settings.analytics, role)
    from ops.analytics.keeping import Kept

    return Kept(folder_of(settings), role)
