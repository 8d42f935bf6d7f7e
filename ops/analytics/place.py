"""Where the ClickHouse is: embedded in the data folder, or a server by URL."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from commands.ids import new_uuid
from ops.alone import alone
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
    taken = f"another `signet analytics load` of {settings.data} is at work; where it follows, there is nothing to do"
    with (
        alone(made_folder(settings) / _LOCK, taken),
        closing(_connect_anew(settings) if anew else connect(settings, "loader")) as warehouse,
    ):
        yield warehouse


def made_folder(settings: Settings) -> Path:
    """The folder, made where there is none. Raises OpsError."""
    folder = folder_of(settings)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OpsError(f"{folder} can't be made: {error}. Try as the user that the engine runs as.") from error
    return folder


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

        return Server(settings.analytics, role)
    from ops.analytics.keeping import Kept

    return Kept(folder_of(settings), role)
