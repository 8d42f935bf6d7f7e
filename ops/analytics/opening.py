"""How the verbs of `signet analytics` come to the log and to ClickHouse."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

from commands.stores import open_log
from domain.log import EventLog, StoreError
from ops.analytics.loader import check_log
from ops.analytics.place import connect
from ops.analytics.schema import Mark, check_tables, read_mark
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
    """The tables as they are loaded, and how far. Raises OpsError where nothing is, or they are of another log."""
    with closing(connect(settings, "reader")) as warehouse:
        mark = read_mark(warehouse)
        if mark is None or not mark.events:
            raise OpsError(f"nothing is loaded yet: ./signet analytics load --data {settings.data}")
        check_tables(warehouse)
        asyncio.run(_check_log(settings, mark))
        warehouse.read_upto(mark.position)
        yield warehouse, mark


async def _check_log(settings: Settings, mark: Mark) -> None:
    async with opened_log(settings) as log:
        await check_log(log, mark)
