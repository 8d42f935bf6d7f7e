"""What an operator can do about parked events, the same within a running engine and without one."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import msgspec

from commands.stores import open_log
from domain.log import StoreError
from ops.control import ControlVerb
from ops.datafolder import DataFolder
from ops.errors import OpsError
from ops.settings import Settings
from projections.catalogue import open_serving
from projections.database import DATABASE_ERRORS
from projections.feed import Feed
from projections.models import MODELS
from projections.parking import Parked, ParkingError, rests_on
from projections.readmodel import ReadModelError
from projections.runner import Retried, Runner


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """The parked streams that are meant: all, or those of one read model, or one stream."""

    stream: str | None = None
    model: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one parked stream in one read model, and of those that waited behind it."""

    model: str
    stream: str
    applied: int
    """So many events are in the rows now."""
    parked: list[Parked]
    """What is still parked of them."""


class ParkingDesk:
    """Takes one request at a time, beside the runners or without them running. Raises OpsError."""

    def __init__(self, runners: Mapping[str, Runner]) -> None:
        self._runners = runners
        self._busy = asyncio.Lock()

    async def retry(self, which: Which) -> list[Outcome]:
        outcomes = []
        async with self._busy:
            with _explained():
                for name, stream in self._find(which):
                    # What waits behind another stream was retried with that one, or has to wait on.
                    if which.stream or self._is_next(name, stream):
                        outcomes.append(_outcome(name, stream, await self._runners[name].retry(stream)))
        return outcomes

    async def skip(self, which: Which) -> list[Outcome]:
        """Of one stream in one read model."""
        async with self._busy:
            with _explained():
                found = self._find(which)
            if len(found) != 1:
                names = ", ".join(sorted({name for name, _ in found}))
                raise OpsError(f"name one parked stream, and by --model one of the read models that park it: {names}")
            [(name, stream)] = found
            with _explained():
                return [_outcome(name, stream, await self._runners[name].skip(stream))]

    def verbs(self) -> dict[str, ControlVerb]:
        return {"parked.retry": ControlVerb(Which, self.retry), "parked.skip": ControlVerb(Which, self.skip)}

    def _find(self, which: Which) -> list[tuple[str, str]]:
        """Read models and streams; what others rest on comes first."""
        check_model(which.model)
        found = [
            (name, parked.stream)
            for name, runner in self._runners.items()
            for parked in sorted(runner.model.parking.all(), key=lambda each: rests_on(each.stream) is not None)
            if which.model in (None, name) and which.stream in (None, parked.stream)
        ]
        if which.stream and not found:
            by = f" by the read model {which.model!r}" if which.model else ""
            raise OpsError(f"{which.stream} is not parked{by}; `signet parked list` tells what is")
        return found

    def _is_next(self, name: str, stream: str) -> bool:
        parking, first = self._runners[name].model.parking, rests_on(stream)
        return parking.get(stream) is not None and (first is None or parking.get(first) is None)


def check_model(name: str | None) -> None:
    """Raises OpsError where there is no such read model."""
    if name is not None and name not in MODELS:
        raise OpsError(f"there is no read model {name!r}; there are {', '.join(MODELS)}")


@asynccontextmanager
async def desk_without_engine(settings: Settings) -> AsyncIterator[ParkingDesk]:
    """Takes the data folder for itself meanwhile. Raises OpsError."""
    async with AsyncExitStack() as stack:
        stack.callback(DataFolder(settings.data).close)
        with _explained():
            log = open_log(settings.events_url)
            stack.push_async_callback(log.close)
            feed = Feed(log)
            await feed.start()
            runners: dict[str, Runner] = {}
            for name in MODELS:
                model = open_serving(settings.readmodels_place, name)
                stack.callback(model.close)
                runners[name] = Runner(feed, model)
                await runners[name].check()
        yield ParkingDesk(runners)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (ParkingError, ReadModelError, StoreError) as error:
        raise OpsError(str(error)) from error
    except DATABASE_ERRORS as error:
        raise OpsError(
            f"a read model can't be read or written: {error}. See to its disk or server, and ask again."
        ) from error


def _outcome(name: str, stream: str, retried: Retried) -> Outcome:
    return Outcome(model=name, stream=stream, applied=retried.applied, parked=retried.parked)
