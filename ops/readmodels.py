"""Brings the read models up to date with a log that nobody else writes meanwhile."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from domain.log import EventLog, StoreError
from ops.errors import OpsError
from ops.rebuilding.build import Progressed
from ops.settings import Settings
from projections.building import Builder
from projections.catalogue import open_serving
from projections.database import DATABASE_ERRORS
from projections.models import MODELS
from projections.parking import ParkingError
from projections.readmodel import ReadModelError

OnPosition = Callable[[str, Progressed], None]
"""Hears the read model's name, and how far it has come."""


async def catch_up(settings: Settings, log: EventLog, on_position: OnPosition) -> float:
    """All of those that serve. How many seconds it took. Raises OpsError."""
    began, head = time.perf_counter(), await log.head()
    for name in MODELS:
        with _explained(name), closing(open_serving(settings.readmodels_place, name)) as model:

            def tell(builder: Builder, name: str = name) -> None:
                on_position(name, Progressed(position=builder.position, head=head, events=builder.events))

            builder = Builder(log, model, on_batch=tell)
            if not await builder.is_of_this_log():
                raise OpsError(
                    f"all is in the log, but the read model {name!r} was made from another one. Where the log is to be"
                    f" kept, {model.db.remedy}: it is rebuilt; else name the right log by SIGNET_EVENTS."
                )
            tell(builder)
            await builder.fill(head)
    return time.perf_counter() - began


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (ReadModelError, ParkingError, StoreError) as error:
        raise OpsError(str(error)) from error
    except DATABASE_ERRORS as error:
        raise OpsError(
            f"the log is complete, but the read model {name!r} can't be read or written: {error}. See to its disk or"
            " server, and call it again: it goes on where it stopped."
        ) from error
