"""Makes a build of one read model, compares it with the one that serves, and has it take over.

It may be killed at any moment: the build goes on where it stopped. Nobody waits for it meanwhile, since the engine is
another process.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import msgspec

from commands.stores import open_log
from domain.log import EventLog, StoreError
from ops.alone import alone
from ops.errors import OpsError
from ops.rebuilding.desk import TakeOver, take_over
from ops.settings import Settings
from projections.building import Builder, Compared
from projections.catalogue import Build, Catalogue, Serving, drop, exists, find_serving, kind_of, serving_kind
from projections.database import DATABASE_ERRORS
from projections.models import newest
from projections.parking import Parking, ParkingError, rests_on
from projections.readmodel import ReadModel, ReadModelError

EVENTS_MIN = 1_000
"""From so many on a rate is worth telling."""


class Progressed(msgspec.Struct, frozen=True, kw_only=True):
    """How far it has come."""

    position: int
    head: int
    """Where the log ends, or did so when it began."""
    events: int
    """How many this run has read."""


OnProgress = Callable[[Progressed], None]


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one read model."""

    version: int
    build: int
    position: int
    """Up to which events are in the rows."""
    events: int
    """How many this run has read: what was there from one that was killed is not read again."""
    events_per_s: int | None
    """None where there was next to nothing to read."""
    hash_live: str | None
    """Of the rows that served, and of those of the build, at one position; None where they are of another version."""
    hash_rebuilt: str | None
    equal: bool | None
    parked: int
    """How many streams have events that could not be applied."""


async def rebuild(settings: Settings, name: str, on_progress: OnProgress) -> Rebuilt:
    """The newest version of it anew, beside the one that serves; or its going on. Raises OpsError."""
    with _explained(name), _alone(settings.data, name):
        serving = _on_record(settings, name)
        _sweep(settings, serving)
        build = _next(serving, newest(name).version)
        return await _make(settings, serving, build, on_progress, held=False)


async def go_back(settings: Settings, name: str, on_progress: OnProgress) -> Rebuilt:
    """To the one that served before, when it has caught up. Raises OpsError."""
    with _explained(name), _alone(settings.data, name):
        serving = _on_record(settings, name)
        if serving.earlier is None:
            raise OpsError(f"nothing is kept of what {name!r} was before: there is nothing to go back to")
        if kind_of(name, serving.earlier) is None:
            raise OpsError(
                f"this release can't serve {name} of {serving.earlier}: go back with the release that made it"
            )
        held = serving.earlier.version < newest(name).version
        return await _make(settings, serving, serving.earlier, on_progress, held=held, keep=True)


def drop_earlier(settings: Settings, name: str) -> Build:
    """Deletes what is kept to go back to. Raises OpsError."""
    with _explained(name), _alone(settings.data, name):
        serving = _on_record(settings, name)
        if serving.earlier is None:
            raise OpsError(f"nothing is kept of what {name!r} was before")
        drop(settings.readmodels_place, name, serving.earlier)
        Catalogue(settings.readmodels_place).put(msgspec.structs.replace(serving, earlier=None))
        return serving.earlier


async def _make(
    settings: Settings, serving: Serving, build: Build, on_progress: OnProgress, *, held: bool, keep: bool = False
) -> Rebuilt:
    """`keep`: the one that serves now, also where its rows are the same."""
    kind = kind_of(serving.name, build)
    assert kind is not None
    async with _log_of(settings) as log:
        async with _builder(settings, log, kind, build, on_progress) as builder:
            compared = await _compared(settings, builder, serving)
            await builder.fill_to_head()

        async def catch_up() -> int:
            async with _builder(settings, log, kind, build, on_progress) as again:
                await again.fill(await log.head())
                return again.position

        keep = keep or compared is None or not compared.equal
        taken = await take_over(settings, TakeOver(name=serving.name, build=build, keep=keep, held=held), catch_up)
    return Rebuilt(
        version=build.version, build=build.number, position=taken.position, events=builder.events,
        events_per_s=round(builder.events / builder.took_s) if builder.events >= EVENTS_MIN else None,
        hash_live=compared.hash_live if compared else None, hash_rebuilt=compared.hash_rebuilt if compared else None,
        equal=compared.equal if compared else None, parked=builder.parked,
    )  # fmt: skip


async def _compared(settings: Settings, builder: Builder, serving: Serving) -> Compared | None:
    """None: what serves is of another version, or there is nothing yet, or it is behind the build and stands still."""
    place, kind = settings.readmodels_place, serving_kind(serving)
    if not exists(place, kind, serving.build.number):
        return None
    with closing(kind.database(place, serving.build.number, read_only=True)) as live:
        if not live.has_table("readmodel"):
            return None
        compared = await builder.compare(live) if kind is type(builder.model) else None
        lacking = Parking(live).lacking()
    # What was skipped is so until the model is rebuilt: then it is tried again, and parked.
    more = [each.stream for each in builder.model.parking.all() if not {each.stream, rests_on(each.stream)} & lacking]
    if more:
        raise OpsError(
            f"the new build of {serving.name!r} could not apply events of {len(more)} streams that what serves has"
            f" ({', '.join(more[:3])}): nothing was changed. Look for the reason in what is said above; the build goes"
            " on from there when this is mended."
        )
    return compared


@asynccontextmanager
async def _log_of(settings: Settings) -> AsyncIterator[EventLog]:
    log = open_log(settings.events_url, read_only=True)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def _builder(
    settings: Settings, log: EventLog, kind: type[ReadModel], build: Build, on_progress: OnProgress
) -> AsyncIterator[Builder]:
    head = await log.head()
    model = kind.open(settings.readmodels_place, build.number)
    try:
        builder = Builder(
            log, model,
            on_batch=lambda each: on_progress(
                Progressed(position=each.position, head=max(head, each.position), events=each.events)
            ),
        )  # fmt: skip
        if not await builder.is_of_this_log():
            raise OpsError(
                f"{model.db.place} was made from another log than the one at hand. It does not serve, so"
                f" {model.db.remedy}, and ask again."
            )
        yield builder
    finally:
        model.close()


def _on_record(settings: Settings, name: str) -> Serving:
    """What serves, as a row of the catalogue: without one nobody could tell it from what is being built."""
    serving = find_serving(settings.readmodels_place, name)
    catalogue = Catalogue(settings.readmodels_place)
    if catalogue.get(name) != serving:
        catalogue.put(serving)
    return serving


def _sweep(settings: Settings, serving: Serving) -> None:
    """Deletes what an engine that was killed after a take-over has left behind."""
    for number in range(1, serving.build.number):
        build = Build(serving.build.version, number)
        if build != serving.earlier:
            with suppress(ReadModelError):  # The engine may have it open yet: then it deletes it.
                drop(settings.readmodels_place, serving.name, build)


def _next(serving: Serving, version: int) -> Build:
    """The build that is to be made, or gone on with."""
    if serving.build.version == version:
        known = [each.number for each in (serving.build, serving.earlier) if each and each.version == version]
        return Build(version, max(known) + 1)
    if serving.earlier is not None and serving.earlier.version == version:
        return serving.earlier  # somebody went back from it
    return Build(version)


def _alone(data: Path, name: str) -> AbstractContextManager[None]:
    """Two of them would fill the same build."""
    return alone(
        data / f"rebuild-{name}.lock", f"{name!r} is being rebuilt by another process already; wait for its end"
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (ReadModelError, StoreError, ParkingError) as error:
        raise OpsError(str(error)) from error
    except DATABASE_ERRORS as error:
        raise OpsError(
            f"the read model {name!r} can't be read or written: {error}. See to its disk or server, and ask again: it"
            " goes on where it stopped."
        ) from error
