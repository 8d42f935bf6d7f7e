"""Puts another build in the place of the one that serves: within the running engine, or without one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from domain.log import StoreError
from ops.control import ControlVerb, NoEngine, ask
from ops.datafolder import DataFolder
from ops.errors import OpsError
from ops.settings import Settings
from projections.catalogue import Build, Catalogue, Serving, drop, find_serving, kind_of
from projections.database import DATABASE_ERRORS
from projections.readmodel import Place, ReadModel, ReadModelError
from projections.runner import Runner

_log = logging.getLogger("signet.rebuilding")

VERB: Final = "readmodel.take_over"
TAKE_OVER_MAX_S: Final = 30.0
"""What is left to catch up with is little; a read model that stands still is not waited for."""
GRACE_S: Final = 30.0
"""So long somebody may still read from the build that served before: a request that began with it goes on with it."""


class TakeOver(msgspec.Struct, frozen=True, kw_only=True):
    """That a build, which nobody has open, serves from now on."""

    name: str
    build: Build
    keep: bool
    """The one that serves until now, to go back to it."""
    held: bool = False
    """Nothing newer takes its place by itself."""


class TakenOver(msgspec.Struct, frozen=True, kw_only=True):
    position: int
    """At which it happened."""


class RebuildDesk:
    """The engine's part. Raises OpsError."""

    def __init__(self, place: Place, runners: Mapping[str, Runner]) -> None:
        self._place = place
        self._runners = runners
        self._busy = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    def verbs(self) -> dict[str, ControlVerb]:
        return {VERB: ControlVerb(TakeOver, self.take_over)}

    async def take_over(self, wanted: TakeOver) -> TakenOver:
        async with self._busy:
            try:
                return await self._take_over(wanted)
            except (ReadModelError, StoreError) as error:
                raise OpsError(str(error)) from error
            except DATABASE_ERRORS as error:
                raise OpsError(f"the read model {wanted.name!r} can't be read or written: {error}") from error
            except TimeoutError as error:
                raise OpsError(
                    f"the read model {wanted.name!r} did not catch up within {TAKE_OVER_MAX_S:g} s; the engine's log "
                    "may say why. The build is whole: ask again."
                ) from error

    async def _take_over(self, wanted: TakeOver) -> TakenOver:
        runner, kind = self._runners.get(wanted.name), None
        if runner is not None:
            kind = kind_of(wanted.name, wanted.build)
        if runner is None or kind is None:
            raise OpsError(f"the running engine knows no {wanted.name} of {wanted.build}: restart it with this release")
        change = changed(self._place, wanted)
        if change.is_done:
            return TakenOver(position=runner.position)
        model = kind.open(self._place, wanted.build.number)
        try:
            async with asyncio.timeout(TAKE_OVER_MAX_S):
                before = await runner.replace(model, change.record)
        except BaseException:
            model.close()
            raise
        _log.info("the read model %r is served by %s, at position %d", wanted.name, wanted.build, runner.position)
        task = asyncio.create_task(self._let_go(before, change))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return TakenOver(position=runner.position)

    async def _let_go(self, before: ReadModel, change: "Change") -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(GRACE_S)
        before.close()
        try:
            await asyncio.to_thread(change.clean_up)
        except (ReadModelError, *DATABASE_ERRORS) as error:
            _log.warning("what served before could not be deleted: %s", error)

    async def close(self) -> None:
        """The engine stops: nobody reads any more."""
        for task in self._closing:
            task.cancel()
        # One may be at deleting, or not have begun: its cancellation ends here.
        await asyncio.gather(*self._closing, return_exceptions=True)


class Change:
    """Of the catalogue: what is put on record, and what nobody needs afterwards."""

    def __init__(self, place: Place, before: Serving, after: Serving) -> None:
        self._place = place
        self._before = before
        self._after = after

    @property
    def is_done(self) -> bool:
        """It serves already."""
        return self._before.build == self._after.build

    def record(self) -> None:
        Catalogue(self._place).put(self._after)

    def clean_up(self) -> None:
        name = self._after.name
        now = find_serving(self._place, name)  # somebody may have gone back meanwhile
        for build in {self._before.build, self._before.earlier} - {now.build, now.earlier, None}:
            assert build is not None
            drop(self._place, name, build)


def changed(place: Place, wanted: TakeOver) -> Change:
    before = find_serving(place, wanted.name)
    # Where the rows are the same, what was kept to go back to before is worth as much as it was.
    earlier = before.build if wanted.keep else before.earlier if before.earlier != wanted.build else None
    after = Serving(name=wanted.name, build=wanted.build, earlier=earlier, held=wanted.held)
    return Change(place, before, after)


async def take_over(settings: Settings, wanted: TakeOver, catch_up: Callable[[], Awaitable[int]]) -> TakenOver:
    """By the engine that runs on the data folder; where none does, the folder is taken, `catch_up` fills the build to
    the log's end and gives its position, and the catalogue is written here. Raises OpsError."""
    try:
        return await asyncio.to_thread(ask, settings.data, VERB, wanted, TakenOver)
    except NoEngine:
        folder = DataFolder(settings.data)
    try:
        position = await catch_up()
        change = changed(settings.readmodels_place, wanted)
        if not change.is_done:
            change.record()
            change.clean_up()
        return TakenOver(position=position)
    finally:
        folder.close()
