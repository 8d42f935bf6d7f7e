"""Where the ClickHouse is: embedded in the data folder, or a server by URL."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from ops.analytics import frames
from ops.analytics.warehouse import Warehouse
from ops.datafolder import ANALYTICS
from ops.errors import OpsError
from ops.settings import Settings

_LOCK: Final = "load.lock"


def folder_of(settings: Settings) -> Path:
    return settings.data / ANALYTICS


@contextmanager
def only_loader(settings: Settings) -> Iterator[Warehouse]:
    """A loader's connection, held by one process of the data folder at a time. Raises OpsError where another one loads,
    WarehouseError."""
    folder = folder_of(settings)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise OpsError(
            f"another `signet analytics load` of {settings.data} is at work; where it follows the log, there is nothing"
            " to do"
        ) from error
    try:
        with closing(connect(settings, "loader")) as warehouse:
            yield warehouse
    finally:
        os.close(lock)


def connect(settings: Settings, role: frames.Role) -> Warehouse:
    """Raises WarehouseError."""
    # Only where it is needed: each of the two loads a driver.
    if settings.analytics:
        from ops.analytics.server import Server

        return Server.connect(settings.analytics, role)
    from ops.analytics.keeping import Kept

    return Kept(folder_of(settings), role)
