"""How the verbs of `signet analytics` come to the log and to ClickHouse."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from commands.stores import open_log
from domain.log import EventLog, StoreError
from ops.analytics.place import connect
from ops.analytics.schema import Mark, read_mark
from ops.analytics.warehouse import Warehouse
from ops.datafolder import read_server_file
from ops.errors import OpsError
from ops.settings import Settings, load_settings


def settings_of(data: Path | None) -> Settings:
    """Raises OpsError where there is no server."""
    settings = load_settings(data)
    if settings.has_no_log or (read_server_file(settings.data) is None and not settings.events):
        raise OpsError(f"no engine has run on {settings.data} yet; name the folder of your server by --data")
    return settings


@asynccontextmanager
async def opened_log(settings: Settings) -> AsyncIterator[EventLog]:
    """Beside the engine that may be running. What the store says is raised as OpsError."""
    try:
        log = open_log(settings.events_url, read_only=True)
        try:
            yield log
        finally:
            await log.close()
    except StoreError as error:
        raise OpsError(str(error)) from error


@contextmanager
def loaded(settings: Settings) -> Iterator[tuple[Warehouse, Mark]]:
    """The tables, and how far they are loaded. Raises OpsError where nothing is."""
    with closing(connect(settings, "reader")) as warehouse:
        mark = read_mark(warehouse)
        if mark is None or not mark.events:
            raise OpsError(f"nothing is loaded yet: ./signet analytics load --data {settings.data}")
        yield warehouse, mark
