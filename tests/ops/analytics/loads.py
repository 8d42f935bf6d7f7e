"""A log with a history, loaded."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing

from commands.stores import open_log
from domain.codec import Event
from domain.log import EventLog
from ops.analytics.loader import BLOCK_MAX, Loader
from ops.analytics.place import connect, loader_name, only_loader
from ops.analytics.schema import Mark
from ops.analytics.verifier import Verified, Verifier
from ops.settings import Settings
from projections.analytics.fold import KEPT_MAX
from tests.projections.histories import record


@asynccontextmanager
async def log_of(settings: Settings, events: Sequence[Event] = ()) -> AsyncIterator[EventLog]:
    """That of the settings, with these events more."""
    log = open_log(settings.events_url)
    try:
        await record(log, events)
        yield log
    finally:
        await log.close()


async def load(
    settings: Settings, log: EventLog, *, anew: bool = False, block_max: int = BLOCK_MAX, kept_max: int = KEPT_MAX
) -> Mark:
    with (
        only_loader(settings) as warehouse,
        closing(Loader(log, warehouse, name=loader_name(settings), block_max=block_max, kept_max=kept_max)) as loader,
    ):
        await loader.begin(anew=anew)
        await loader.load()
        return loader.mark


async def verify(settings: Settings, log: EventLog) -> Verified:
    with closing(connect(settings, "reader")) as warehouse:
        return await Verifier(log, warehouse, lambda position, upto, events: None).verify()


def command(settings: Settings, sql: str) -> None:
    """By hand."""
    with closing(connect(settings, "reader")) as warehouse:
        warehouse.command(sql)
